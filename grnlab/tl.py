"""Tools: attention of a model on cells, and networks from it."""

import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab._progress import progress
from grnlab.attention import AttentionMaps, pool_queries_keys, read_out
from grnlab.attention.null import matched_null, shuffle_genes
from grnlab.attention.pool import READOUT_OF_MAPS
from grnlab.attention.prepare import prepare_cells
from grnlab.backbones.base import Backbone
from grnlab.data.counts import counts_of
from grnlab.data.groups import cell_groups
from grnlab.data.names import align_genes
from grnlab.data.select import select_genes
from grnlab.heads import HeadSet, baseline_scores, combine_scores, fit_translator, pair_features, select_heads
from grnlab.network.conditions import BLOCK, bootstrap_blocks, compare_blocks
from grnlab.network.differential import DifferentialNetworks
from grnlab.network.infer import infer_networks
from grnlab.network.network import GeneNetwork
from grnlab.network.networks import NetworkSet
from grnlab.network.signs import sign_edges as _sign_edges
from grnlab.network.varp import network_from_varp
from grnlab.training.adapt import adapt

__all__ = [
    "adapt",
    "attention",
    "baseline_scores",
    "bootstrap_networks",
    "combine_scores",
    "compare_conditions",
    "fit_translator",
    "infer_networks",
    "matched_null",
    "pair_features",
    "read_out",
    "select_heads",
    "shuffle_genes",
    "sign_edges",
    "store_networks",
    "stored_networks",
]

logger = logging.getLogger(__name__)


def attention(
    adata: ad.AnnData,
    model: Backbone,
    *,
    groupby: str | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    context: str = "expressed",
    min_cells: int = 5,
    skip_small: bool = False,
) -> AttentionMaps:
    """Run a model over cells and pool its queries and keys per group of cells.

    Parameters
    ----------
    adata
        Counts. Genes are matched to the model **by name** (symbol, Ensembl id, alias); their order has no effect.
    model
        A backbone, see :func:`grnlab.load_model`.
    groupby
        Column of ``adata.obs`` whose values are the groups; all cells are one group by default. Cells without a value
        are left out.
    genes
        How many genes to show the model, ``"all"``, or their names (symbols of the model's vocabulary), see
        :func:`grnlab.data.select.select_genes`. A model that reads whole cells (``model.whole_cells``, as Geneformer)
        is shown every gene it knows, and these are kept.
    layer
        Layer that holds the counts; ``X`` by default.
    context
        ``"expressed"``: every cell is shown the genes it expresses, and a gene is averaged over the cells that
        express it; cheaper, and closer to the mix of expressed and silent genes that pretraining shows.
        ``"shared"``: all genes, zeros included.
    min_cells
        Groups with fewer cells are an error, or are left out with `skip_small`.
    skip_small
        Leave small groups out with a warning in the log.

    Returns
    -------
    Pooled attention. Memory is O(groups · heads · genes · d_head) whatever the number of cells.

    Raises
    ------
    ValueError
        When `adata` holds no counts, its genes are unknown or duplicated or of another species, `groupby` does not
        exist, or a group is too small. The message says how to mend it.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> gl.tl.attention(adata, gl.load_model("grnlab-small"), genes=50)
    AttentionMaps(50 genes, 4 layers × 4 heads; all (40 cells))
    """
    cells = prepare_cells(
        adata, model, groupby=groupby, genes=genes, layer=layer, min_cells=min_cells, skip_small=skip_small
    )
    pooled = {}
    with progress(total=sum(map(len, cells.groups.values())), desc="attention", unit="cell") as bar:
        for name in cells.groups:
            bar.set_postfix_str(name)
            counts, totals = cells.of(name)
            pooled[name] = pool_queries_keys(
                *(model, counts, cells.tokens, totals),
                name=name,
                context=context,
                keep=None if len(cells.chosen) == len(cells.genes) else cells.chosen,
                on_batch=bar.update,
            )
    provenance = cells.provenance | {
        "context": context,
        "readout": READOUT_OF_MAPS[model.attention.kind],
        "seed": "none: nothing here is random",
    }
    expression = {name: table.iloc[cells.chosen] for name, table in cells.expression().items()}
    return AttentionMaps(cells.genes.iloc[cells.chosen], pooled, model.attention, expression, provenance)


def store_networks(adata: ad.AnnData, networks: NetworkSet) -> None:
    """Write each network into ``adata.varp["grn_<group>"]``: CSR, row = regulator, column = target.

    Genes are found under the name the network was made from (its column ``name_in_data``), or else under their own;
    edges of genes that `adata` does not have cannot be stored, and their number is logged. A ``/`` in the name of a
    group becomes ``|``. Provenance is kept as JSON in ``adata.uns["grn"]``.

    Parameters
    ----------
    adata
        Cells or anything else with the genes; changed in place, its counts are not touched.
    networks
        What :func:`infer_networks` gave.

    Raises
    ------
    ValueError
        When two names become one by that, or `adata` has none of the genes of a network.
    """
    keys = {name: f"grn_{name}".replace("/", "|") for name in networks}
    if len(set(keys.values())) < len(keys):
        msg = f"networks has names that differ only by '/' and '|', which share a key of adata.varp: {list(keys)}."
        raise ValueError(msg)
    place = pd.Series(np.arange(adata.n_vars), index=adata.var_names)
    for name, network in networks.items():
        where = place.reindex(_names_in_data(network)).to_numpy()
        if len(where) and np.isnan(where).all():
            msg = f"adata has none of the {len(where):,} genes of {name!r}; are they named by another kind of name?"
            raise ValueError(msg)
        source, target = network.edge_positions()
        rows, columns = where[source], where[target]
        keep = ~(np.isnan(rows) | np.isnan(columns))
        if not keep.all():
            logger.warning("%d edges of %s are not stored: adata lacks their genes", int((~keep).sum()), name)
        weight = network.edges["weight"].to_numpy()[keep]
        shape = (adata.n_vars, adata.n_vars)
        adata.varp[keys[name]] = sp.csr_matrix((weight, (rows[keep].astype(int), columns[keep].astype(int))), shape)
    adata.uns["grn"] = {"provenance": json.dumps(networks.provenance), "direction": "row=regulator, column=target"}


def stored_networks(adata: ad.AnnData) -> NetworkSet:
    """Read back what `store_networks` wrote, or a network in GRnnData's layout (``adata.varp["GRN"]``).

    Gene names are the ``var_names``, and every gene of `adata` is in the universe. Explicit values of the matrix are
    the weights; the diagonal, where GRnnData may hold values, is left out.

    Raises
    ------
    ValueError
        When `adata` has no such matrix.

    Examples
    --------
    >>> import grnlab as gl
    >>> grn = sp.csr_matrix(np.array([[0, 1.0], [0, 0]]))
    >>> adata = ad.AnnData(np.ones((3, 2)), var=pd.DataFrame(index=["SPI1", "LYZ"]), varp={"GRN": grn})
    >>> gl.tl.stored_networks(adata)["GRN"].targets("SPI1")["target"].tolist()
    ['LYZ']
    """
    keys = [key for key in adata.varp if key.startswith("grn_") or key == "GRN"]
    if not keys:
        msg = f"adata.varp has no 'GRN' and no 'grn_<group>'; it has {list(adata.varp)}. Store networks first."
        raise ValueError(msg)
    stored = json.loads(adata.uns.get("grn", {}).get("provenance", "{}"))
    return NetworkSet(
        (network_from_varp(adata, key, name=key.removeprefix("grn_"), provenance=stored) for key in keys), stored
    )


def compare_conditions(
    adata: ad.AnnData,
    model: Backbone,
    *,
    condition: str,
    a: str,
    b: str,
    units: str | None = None,
    strata: str | None = None,
    heads: HeadSet | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    context: str = "expressed",
    n_blocks: int = 20,
    n_permutations: int = 200,
    null: str = "edge",
    min_frequency: float = 0.1,
    seed: int = 0,
    **settings: Any,
) -> DifferentialNetworks:
    """Compare the networks of two conditions with a permutation test: differential edges, hubs and overlap.

    The model runs **once** over every cell: queries and keys are pooled per block of cells, and the networks of every
    labelling are computed from the sums of its blocks, which is exact. Give the cells of one type: differences in the
    mix of types are differences of conditions too.

    Parameters
    ----------
    adata, model, genes, layer, context
        As in :func:`attention`.
    condition
        Column of ``adata.obs``.
    a, b
        The two values of `condition` to compare; other cells take no part.
    units
        Column with the samples (donors): blocks are donors and are shuffled as a whole. Without it the cells of a
        condition are cut at random into blocks of equal size, and **the p-values speak of these cells only**: cells
        of one donor are no replicates.
    strata
        Column within whose values conditions are shuffled (batch; or donor, when each has both conditions and `units`
        is not given).
    heads, settings
        As in :func:`infer_networks`.
    n_blocks
        Blocks of the smaller condition (in each stratum) when there are no `units`. Memory grows with it: per block
        8 bytes × heads × genes × d_head.
    n_permutations, null, min_frequency, seed
        As in :func:`grnlab.network.permutation_test`.

    Returns
    -------
    Edges, hubs and overlap with p-values and false discovery rates.

    Raises
    ------
    ValueError
        When a column or condition is missing, or there are too few cells or units.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40].copy()
    >>> adata.obs["half"] = ["a"] * 20 + ["b"] * 20
    >>> model = gl.load_model("grnlab-small")
    >>> options = {"genes": 50, "n_blocks": 4, "n_permutations": 9}
    >>> found = gl.tl.compare_conditions(adata, model, condition="half", a="a", b="b", **options)
    >>> found.a.name, found.n_permutations
    ('a', 9)
    """

    def pool(cells: ad.AnnData) -> AttentionMaps:
        return attention(cells, model, groupby=BLOCK, genes=genes, layer=layer, context=context, min_cells=1)

    test = {"n_permutations": n_permutations, "null": null, "min_frequency": min_frequency}
    return compare_blocks(
        adata,
        pool,
        heads,
        condition=condition,
        a=a,
        b=b,
        units=units,
        strata=strata,
        n_blocks=n_blocks,
        seed=seed,
        test=test,
        settings=settings,
    )


def bootstrap_networks(
    adata: ad.AnnData,
    model: Backbone,
    *,
    groupby: str | None = None,
    units: str | None = None,
    heads: HeadSet | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    context: str = "expressed",
    n_blocks: int = 20,
    n_bootstraps: int = 100,
    min_cells: int = 40,
    skip_small: bool = False,
    seed: int = 0,
    **settings: Any,
) -> NetworkSet:
    """Infer networks whose every edge says how often it comes back from resampled cells.

    The model runs **once** over every cell; blocks of cells (random ones, or the `units`) are drawn with replacement
    and their pooled queries and keys summed, which is exact for the cells drawn. Cells of one random block go
    together, which makes the spread smaller by a factor of 1 - 1 / n_blocks in the variance.

    Parameters
    ----------
    adata, model, groupby, genes, layer, context
        As in :func:`attention`; genes are chosen on all cells together.
    units
        Column of ``adata.obs`` with the samples (donors), drawn as a whole.
    heads, settings
        As in :func:`infer_networks`.
    n_blocks
        Blocks per group when there are no `units`.
    n_bootstraps, seed
        As in :func:`grnlab.network.bootstrap`.
    min_cells, skip_small
        Groups with fewer cells are an error, or are left out.

    Returns
    -------
    Networks with the edge columns ``confidence``, ``weight_mean`` and ``weight_sd``.

    Raises
    ------
    ValueError
        As :func:`attention` and :func:`infer_networks`, and when a group has fewer cells than blocks.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> model = gl.load_model("grnlab-small")
    >>> nets = gl.tl.bootstrap_networks(adata, model, genes=50, n_blocks=5, n_bootstraps=10)
    >>> bool(nets["all"].edges["confidence"].between(0, 1).all())
    True
    """
    aligned = align_genes(adata, model.vocab)
    symbols, is_tf = model.vocab.symbols[aligned.tokens], model.vocab.is_tf[aligned.tokens]
    counts = counts_of(adata, layer=layer)[:, aligned.columns]
    chosen = select_genes(counts, symbols, is_tf, genes)  # once, so that all groups have the same genes
    names = [str(symbol) for symbol in symbols[chosen]]

    def pool(cells: ad.AnnData) -> AttentionMaps:
        return attention(cells, model, groupby=BLOCK, genes=names, layer=layer, context=context, min_cells=1)

    networks = []
    for name, rows in cell_groups(adata, groupby, min_cells=min_cells, skip_small=skip_small).items():
        network = bootstrap_blocks(
            adata[rows],
            pool,
            heads,
            name=name,
            units=units,
            n_blocks=n_blocks,
            n_bootstraps=n_bootstraps,
            seed=seed,
            settings=settings,
        )
        networks.append(network)
    return NetworkSet(networks)


def sign_edges(
    adata: ad.AnnData,
    networks: NetworkSet,
    *,
    groupby: str | None = None,
    layer: str | None = None,
    method: str = "spearman",
    alpha: float = 0.05,
) -> NetworkSet:
    """Give the edges of networks the sign of the correlation over the cells of each network's group.

    Parameters
    ----------
    adata
        The counts the networks were made from; scaled to 10,000 per cell and log1p here.
    networks
        From :func:`infer_networks`.
    groupby
        The column of ``adata.obs`` they were grouped by; all cells for every network by default.
    layer
        Layer that holds the counts; ``X`` by default.
    method, alpha
        As in :func:`grnlab.network.sign_edges`.

    Returns
    -------
    Networks with the edge columns ``sign``, ``correlation`` and ``correlation_padj``; regulons
    (`GeneNetwork.to_regulons`) then tell activated from repressed targets.

    Raises
    ------
    ValueError
        When a network has no group of its name or a gene is not in `adata`.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> nets = gl.tl.infer_networks(gl.tl.attention(adata, gl.load_model("grnlab-small"), genes=50))
    >>> sorted(gl.tl.sign_edges(adata, nets, alpha=1)["all"].edges["sign"].unique().tolist())
    [-1, 1]
    """
    if not isinstance(networks, Mapping):
        msg = f"networks must be a NetworkSet, got {type(networks).__name__}; write NetworkSet([network])."
        raise ValueError(msg)
    counts = counts_of(adata, layer=layer)
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    scaled = sp.csr_matrix(sp.diags(1e4 / totals) @ counts).log1p()
    place = {name: column for column, name in enumerate(adata.var_names)}
    groups = cell_groups(adata, groupby, min_cells=1, skip_small=True)
    signed = []
    for name, network in networks.items():
        rows = groups.get("all" if groupby is None else name)
        if rows is None:
            msg = f"adata.obs[{groupby!r}] has no cell of the group {name!r}; it has {list(groups)}."
            raise ValueError(msg)
        in_data = _names_in_data(network)
        known = in_data[in_data.isin(place)]
        columns = [place[gene] for gene in known]
        signed.append(_sign_edges(network, scaled[rows][:, columns], known.index, method=method, alpha=alpha))
    return NetworkSet(signed, networks.provenance)


def _names_in_data(network: GeneNetwork) -> pd.Series:
    return network.genes.get("name_in_data", pd.Series(network.genes.index, index=network.genes.index))
