"""Networks of the same cells by several models side by side: overlap, rank correlation, consensus."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from grnlab import tl
from grnlab._files import atomic_directory
from grnlab.attention import AttentionMaps
from grnlab.backbones.base import Backbone
from grnlab.data.counts import counts_of
from grnlab.data.names import align_genes
from grnlab.data.select import select_genes
from grnlab.network import GeneNetwork, NetworkSet, combine
from grnlab.network.rules import EdgeRules
from grnlab.viz import write_page


@dataclass(frozen=True)
class ModelComparison:
    """Networks by several models.

    Attributes
    ----------
    pairs
        One row per group and pair of models: ``group, a, b``; ``n_genes`` that both have read; ``edges_a, edges_b,
        shared``, the numbers of edges among these genes; ``shared_by_chance``, what two networks of these sizes would
        share if they were unrelated; ``jaccard``; ``rank_correlation``, Spearman's, over all pairs of a regulator and
        a target and not only over edges.
    networks
        Name of the model → its networks by group. Genes are named as in the data.
    consensus
        Group → edges that at least two models have; weights are Borda counts over all models.
    """

    pairs: pd.DataFrame
    networks: Mapping[str, NetworkSet]
    consensus: NetworkSet

    def write(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``pairs.tsv``, ``consensus.grns``, its page ``network.html``, and ``<model>.grns`` into a new folder.

        Parameters
        ----------
        out
            Folder to make.
        overwrite
            Replace an existing folder.

        Raises
        ------
        FileExistsError
            When the folder exists and `overwrite` is False.
        """
        with atomic_directory(out, overwrite=overwrite) as folder:
            self.pairs.to_csv(folder / "pairs.tsv", sep="\t", index=False, float_format="%.5g")
            self.consensus.save(folder / "consensus.grns")
            write_page(self.consensus, folder / "network.html", title=f"Consensus of {', '.join(self.networks)}")
            for number, (name, networks) in enumerate(self.networks.items()):
                safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
                networks.save(folder / f"{number}_{safe}.grns")
        return Path(out)


def compare_models(
    adata: ad.AnnData,
    models: Mapping[str, Backbone],
    *,
    groupby: str | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    min_cells: int = 5,
    skip_small: bool = False,
    **settings: Any,
) -> ModelComparison:
    """Infer networks of the same cells and genes by several models, and compare them.

    Every model reads the cells in its own way; the genes of the networks are those that all of them know, so that no
    model is judged by genes that another does not have. Agreement of models is not truth: they share training data and
    a taste for highly expressed genes.

    Parameters
    ----------
    adata
        Counts.
    models
        Name → model, two or more.
    groupby, layer, min_cells, skip_small
        As in :func:`grnlab.tl.attention`.
    genes
        How many of the genes that all models know, ``"all"``, or their names in the data.
    settings
        `top_k`, `per`, `regulators`, `symmetrize`, `apc` and `min_fraction`, as in
        :func:`grnlab.tl.infer_networks`; `regulators` are names in the data.

    Raises
    ------
    ValueError
        When there are fewer than two models, or they share fewer than two genes of the data; and as the functions
        named.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata, model = gl.datasets.pbmc68k()[:40], gl.load_model("grnlab-small")
    >>> found = compare_models(adata, {"one": model, "same": model}, genes=50)
    >>> found.pairs[["jaccard", "rank_correlation"]].round(3).values.tolist()
    [[1.0, 1.0]]
    """
    if len(models) < 2:
        msg = f"models holds {len(models)}; a comparison needs two or more."
        raise ValueError(msg)
    regulators = EdgeRules(**settings).regulators
    chosen, is_tf = _common_genes(adata, models, genes, layer)
    if isinstance(regulators, str):
        regulators = list(chosen[is_tf] if regulators == "tf" else chosen)
    maps, networks = {}, {}
    for name, model in models.items():
        symbols = _symbols(adata, model)
        maps[name] = tl.attention(
            adata,
            model,
            groupby=groupby,
            genes=[symbols[gene] for gene in chosen],
            layer=layer,
            min_cells=min_cells,
            skip_small=skip_small,
        )
        own = [symbols[gene] for gene in regulators if gene in symbols]
        networks[name] = _named_as_in_data(tl.infer_networks(maps[name], **settings | {"regulators": own}))
    groups = list(next(iter(networks.values())))
    rows = [
        {"group": group, "a": a, "b": b}
        | _pair((networks[a][group], networks[b][group]), (maps[a], maps[b]), regulators)
        for group in groups
        for a, b in combinations(models, 2)
    ]
    support = min(2 / len(models), 1.0)
    consensus = [
        combine([networks[name][group] for name in models], min_support=support, weight="rank", name=group)
        for group in groups
    ]
    return ModelComparison(pd.DataFrame(rows), networks, NetworkSet(consensus))


def _common_genes(
    adata: ad.AnnData, models: Mapping[str, Backbone], genes: int | str | Collection[str], layer: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Names in the data of the genes to use, and which of them are transcription factors to any model."""
    found = [(align_genes(adata, model.vocab), model.vocab) for model in models.values()]
    columns = np.array(sorted(set.intersection(*(set(one.columns.tolist()) for one, _ in found))), dtype=np.int64)
    if len(columns) < 2:
        msg = f"the models {list(models)} know only {len(columns)} genes of the data in common; two are needed."
        raise ValueError(msg)
    is_tf = np.zeros(adata.n_vars, dtype=bool)
    for one, vocab in found:
        is_tf[one.columns[vocab.is_tf[one.tokens]]] = True
    names = adata.var_names.to_numpy(dtype=object)[columns]
    order = np.argsort(names.astype(str))  # the order of the columns in the file must not show
    columns, names = columns[order], names[order]
    rows = select_genes(counts_of(adata, layer=layer)[:, columns], names, is_tf[columns], genes)
    return names[rows], is_tf[columns][rows]


def _symbols(adata: ad.AnnData, model: Backbone) -> dict[str, str]:
    """Name in the data → symbol of the model."""
    found = align_genes(adata, model.vocab)
    return dict(zip(adata.var_names[found.columns], model.vocab.symbols[found.tokens].astype(str), strict=True))


def _named_as_in_data(networks: NetworkSet) -> NetworkSet:
    renamed = []
    for network in networks.values():
        name = network.genes["name_in_data"]
        edges = network.edges.assign(source=network.edges["source"].map(name), target=network.edges["target"].map(name))
        genes = network.genes.set_axis(pd.Index(name, name=network.genes.index.name), axis=0)
        renamed.append(GeneNetwork(edges, genes, name=network.name, provenance=network.provenance))
    return NetworkSet(renamed, networks.provenance)


def _pair(
    networks: tuple[GeneNetwork, GeneNetwork], maps: tuple[AttentionMaps, AttentionMaps], regulators: Collection[str]
) -> dict[str, Any]:
    genes = sorted(set(networks[0].genes.index) & set(networks[1].genes.index))
    factors = sorted(set(genes) & set(regulators))
    edges_a, edges_b = (_edges(network, genes) for network in networks)
    shared, either = len(edges_a & edges_b), len(edges_a | edges_b)
    scores = [_scores(one, network.name, genes, factors) for one, network in zip(maps, networks, strict=True)]
    n_pairs = len(scores[0])
    return {
        "n_genes": len(genes),
        "edges_a": len(edges_a),
        "edges_b": len(edges_b),
        "shared": shared,
        "shared_by_chance": len(edges_a) * len(edges_b) / n_pairs if n_pairs else float("nan"),
        "jaccard": shared / either if either else float("nan"),
        "rank_correlation": float(spearmanr(*scores).statistic) if n_pairs > 1 else float("nan"),
    }


def _edges(network: GeneNetwork, genes: Collection[str]) -> set[tuple[str, str]]:
    known = network.edges["source"].isin(genes) & network.edges["target"].isin(genes)
    return set(network.edges.loc[known, ["source", "target"]].itertuples(index=False, name=None))


def _scores(maps: AttentionMaps, group: str, genes: list[str], regulators: list[str]) -> np.ndarray:
    """Attention between each regulator and each other gene, the softmax over these genes alone; both directions."""
    place = pd.Index(maps.genes["name_in_data"])
    rows = place.get_indexer(genes)
    order = np.argsort(rows)  # panels come in the order of the maps
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    columns = back[pd.Index(genes).get_indexer(regulators)]
    panels = [panel[:, columns].numpy().copy() for _, panel in maps.tiles(group, rows=rows[order], symmetrize=True)]
    scores_TR = np.concatenate(panels)[back]
    return scores_TR[np.array(genes, dtype=object)[:, None] != np.array(regulators, dtype=object)]
