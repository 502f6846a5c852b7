"""What the page knows of a network: numbers in columns, names once, and where every gene is drawn."""

import math
from typing import Any

import numpy as np
import pandas as pd

from grnlab.network import GeneNetwork
from grnlab.viz.detail import choose_stored, detail_levels
from grnlab.viz.layout import layout

_SMALL, _LARGE = 10.0, 40.0  # radius of the weakest and the strongest hub, page units
_LAYOUT_ROUNDS = 3  # regulators per gene whose edges pull in the layout of a large network
_GENE_COLUMNS = ("ensembl_id", "is_tf", "mean_counts", "fraction_expressed")
_EDGE_COLUMNS = ("sign", "z", "padj")


def group_payload(
    network: GeneNetwork, *, max_edges: int, max_nodes: int, seed: int, enrichment: pd.DataFrame | None = None
) -> dict[str, Any]:
    """One network as the JSON-able dictionary that the page reads.

    Parameters
    ----------
    network
        A `GeneNetwork`.
    max_edges, max_nodes
        What the page holds at most. Of larger networks it holds the strongest edges of every gene.
    seed
        Seed of communities and layout.
    enrichment
        Table of ``network.enrich()``, listed as it is.

    Returns
    -------
    dict
        ``genes`` (columns; the genes of the first view come first, and have the places ``first_x``, ``first_y`` in
        it), ``edges`` (columns, by falling strength), ``levels`` of detail, totals, communities, enrichment and
        provenance.
    """
    source, target = network.edge_positions()
    strength = network.edges["weight"].abs().to_numpy(dtype=float)
    hubs, community = _graph_facts(network, seed=seed)
    rank = hubs["rank"].to_numpy()

    genes, edges = choose_stored(
        len(network.genes), source, target, strength, rank, max_edges=max_edges, max_nodes=max_nodes
    )
    detail = detail_levels(len(network.genes), source[edges], target[edges], rank)
    genes = genes[np.argsort(detail.gene_level[genes], kind="stable")]
    number = np.full(len(network.genes), -1, dtype=np.int64)
    number[genes] = np.arange(len(genes))
    ends = np.column_stack([number[source[edges]], number[target[edges]]])
    gene_level = detail.gene_level[genes]

    radius = _radius(hubs["score"].to_numpy())[genes]
    levels = len(detail.titles)

    def places(n_shown: int, pulling: np.ndarray, *, by_community: bool) -> np.ndarray:
        own = community[genes[:n_shown]] if by_community else None
        return layout(
            n_shown, ends[pulling], strength[edges][pulling], community=own, radius=radius[:n_shown], seed=seed
        )

    first = places(int((gene_level == 0).sum()), detail.edge_level == 0, by_community=levels == 1)  # else by hub
    place = np.zeros((len(genes), 2))  # genes without an edge keep the origin: no level shows them
    if levels > 1:
        n_shown = int((gene_level < levels).sum())
        place[:n_shown] = places(n_shown, detail.round < _LAYOUT_ROUNDS, by_community=True)
    else:
        place[: len(first)] = first
    return {
        "name": network.name,
        "n_genes": len(network.genes),
        "n_edges": len(strength),
        "levels": detail.titles,
        "genes": {
            "name": [str(name) for name in network.genes.index[genes]],
            **_columns(x=place[:, 0], y=place[:, 1], first_x=first[:, 0], first_y=first[:, 1]),
            "radius": np.round(radius, 1).tolist(),
            "level": gene_level.tolist(),
            "community": community[genes].tolist(),
            **{column: _column(hubs[column].iloc[genes]) for column in hubs},
            **{
                column: _column(network.genes[column].iloc[genes])
                for column in _GENE_COLUMNS
                if column in network.genes
            },
        },
        "edges": {
            "source": ends[:, 0].tolist(),
            "target": ends[:, 1].tolist(),
            "level": detail.edge_level.tolist(),
            "weight": _column(network.edges["weight"].iloc[edges]),
            **{
                column: _column(network.edges[column].iloc[edges])
                for column in _EDGE_COLUMNS
                if column in network.edges
            },
        },
        "communities": _communities(community, rank, network.genes.index),
        "enrichment": _enrichment(enrichment),
        "provenance": jsonable(network.provenance or {}),
    }


def jsonable(value: Any) -> Any:
    """Plain JSON types only: numpy scalars unwrapped, NaN and infinity as None, anything else as text.

    Examples
    --------
    >>> import numpy as np
    >>> jsonable({"n": np.int64(2), "loss": float("nan"), 3: (1, np.float32(0.5))})
    {'n': 2, 'loss': None, '3': [1, 0.5]}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _graph_facts(network: GeneNetwork, *, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Hub columns (``rank``, ``score``, ...) and community (-1: none) of every gene, in gene order."""
    genes = network.genes.index
    hubs = network.hubs(by="pagerank").loc[genes, ["rank", "pagerank", "eigenvector", "out_degree", "in_degree"]]
    membership = network.communities(seed=seed).membership.loc[genes]
    return hubs.rename(columns={"pagerank": "score"}), membership.to_numpy(dtype=np.int64)


def _radius(score: np.ndarray) -> np.ndarray:
    """Area grows with the hub score, so that a hub looks as large as it is."""
    low, high = (float(score.min()), float(score.max())) if len(score) else (0.0, 0.0)
    share = np.zeros(len(score)) if high <= low else (score - low) / (high - low)
    return np.sqrt(_SMALL**2 + share * (_LARGE**2 - _SMALL**2))


def _communities(community: np.ndarray, rank: np.ndarray, names: pd.Index) -> list[dict[str, Any]]:
    """Communities from large to small, each with its size and its three strongest hubs."""
    table = pd.DataFrame({"community": community, "rank": rank, "name": names.astype(str)})
    found = [
        {"id": int(number), "size": len(part), "hubs": part.nsmallest(3, "rank")["name"].tolist()}
        for number, part in table[table["community"] >= 0].groupby("community")
    ]
    return sorted(found, key=lambda entry: (-entry["size"], entry["id"]))


def _enrichment(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    if table is None:
        return []
    wanted = ["group", "library", "term", "overlap", "set_size", "odds_ratio", "pvalue", "padj", "genes"]
    missing = [column for column in ("group", "term", "padj") if column not in table]
    if missing:
        msg = f"enrichment has no column {missing[0]!r}; give the table that network.enrich() returns."
        raise ValueError(msg)
    kept = table[[column for column in wanted if column in table]]
    return [jsonable(row) for row in kept.to_dict("records")]


def _columns(**values: np.ndarray) -> dict[str, list[int]]:
    return {name: np.rint(column).astype(int).tolist() for name, column in values.items()}


def _column(values: pd.Series) -> list[Any]:
    """Give a column as JSON values: six significant digits, missing as None."""
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_integer_dtype(values):
        return [None if pd.isna(value) else int(value) for value in values]
    if pd.api.types.is_float_dtype(values):
        return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
    return [None if pd.isna(value) else jsonable(value) for value in values]
