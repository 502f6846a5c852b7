"""What the page knows of a network: numbers in columns, names once, ready to be drawn lazily."""

import math
from typing import Any

import numpy as np
import pandas as pd

from grnlab.network import GeneNetwork
from grnlab.viz.layout import layout

TABLE_EDGES = 20_000  # edges of a group that its searchable table holds; the drawn ones are always among them
_HUBS_KEPT = 0.1  # share of the drawn genes that is given to the strongest hubs first
_SMALL, _LARGE = 10.0, 40.0  # radius of the weakest and the strongest hub, page units


def group_payload(network: GeneNetwork, *, max_edges: int, max_nodes: int, seed: int) -> dict[str, Any]:
    """One network as the JSON-able dictionary that the page reads.

    Parameters
    ----------
    network
        A `GeneNetwork`.
    max_edges, max_nodes
        What is drawn at most. Larger networks are drawn by the strongest edges of every gene.
    seed
        Seed of communities and layout.

    Returns
    -------
    dict
        ``genes`` (columns, drawn genes first), ``edges`` (columns, drawn edges first, each part by falling
        strength), ``n_drawn_genes``, ``n_drawn_edges``, totals, communities, and provenance.
    """
    genes = network.genes
    source, target = network.edge_positions()
    weight = network.edges["weight"].to_numpy(dtype=float)
    hubs, community = _graph_facts(network, seed=seed)

    drawn_genes, drawn_edges = choose_drawn(
        len(genes), source, target, np.abs(weight), hubs["rank"].to_numpy(), max_edges=max_edges, max_nodes=max_nodes
    )
    table_edges = np.concatenate([drawn_edges, _rest(np.abs(weight), drawn_edges)])
    mentioned = pd.unique(np.concatenate([source[table_edges], target[table_edges]]))
    order = np.concatenate([drawn_genes, np.setdiff1d(mentioned, drawn_genes)]).astype(np.int64)
    number = np.full(len(genes), -1, dtype=np.int64)
    number[order] = np.arange(len(order))

    radius = _radius(hubs["score"].to_numpy())[drawn_genes]
    position = layout(
        len(drawn_genes),
        np.column_stack([number[source[drawn_edges]], number[target[drawn_edges]]]),
        np.abs(weight[drawn_edges]),
        community=community[drawn_genes],
        radius=radius,
        seed=seed,
    )
    return {
        "name": network.name,
        "n_genes": len(genes),
        "n_edges": len(weight),
        "n_drawn_genes": len(drawn_genes),
        "n_drawn_edges": len(drawn_edges),
        "genes": {
            "name": [str(name) for name in genes.index[order]],
            "x": np.rint(position[:, 0]).astype(int).tolist(),
            "y": np.rint(position[:, 1]).astype(int).tolist(),
            "radius": np.round(radius, 1).tolist(),
            "community": community[order].tolist(),
            **{column: _column(hubs[column].iloc[order]) for column in hubs},
            **{
                column: _column(genes[column].iloc[order])
                for column in ("ensembl_id", "is_tf", "mean_counts", "fraction_expressed")
                if column in genes
            },
        },
        "edges": {
            "source": number[source[table_edges]].tolist(),
            "target": number[target[table_edges]].tolist(),
            "weight": _column(network.edges["weight"].iloc[table_edges]),
            **{
                column: _column(network.edges[column].iloc[table_edges])
                for column in ("sign", "z", "padj")
                if column in network.edges
            },
        },
        "communities": _communities(community, hubs["rank"].to_numpy(), genes.index),
        "provenance": jsonable(network.provenance or {}),
    }


def choose_drawn(
    n_genes: int,
    source: np.ndarray,
    target: np.ndarray,
    strength: np.ndarray,
    hub_rank: np.ndarray,
    *,
    max_edges: int,
    max_nodes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Genes and edges to draw: all when they fit, otherwise the strongest edges of every gene.

    Edges are taken in rounds (the strongest regulator of each target, then the second of each, ...), so that no
    hub fills the picture with its own weak edges.

    Parameters
    ----------
    n_genes
        Genes in the network.
    source, target, strength
        Gene numbers and non-negative strength of every edge, shape ``(n_edges,)``.
    hub_rank
        1 for the strongest hub, shape ``(n_genes,)``.
    max_edges, max_nodes
        Limits.

    Returns
    -------
    tuple of np.ndarray
        Gene numbers in rising order, and edge numbers by falling strength.

    Examples
    --------
    >>> import numpy as np
    >>> s, t, w = np.array([0, 0, 0]), np.array([1, 2, 3]), np.array([3.0, 2.0, 1.0])
    >>> genes, edges = choose_drawn(4, s, t, w, np.array([1, 2, 3, 4]), max_edges=2, max_nodes=4)
    >>> genes.tolist(), edges.tolist()
    ([0, 1, 2], [0, 1])
    """
    by_strength = np.lexsort((target, source, -strength))
    if len(strength) <= max_edges and n_genes <= max_nodes:
        return np.arange(n_genes), by_strength
    in_round = pd.Series(target[by_strength]).groupby(target[by_strength]).cumcount().to_numpy()
    priority = by_strength[np.argsort(in_round, kind="stable")]
    ends = np.column_stack([source[priority], target[priority]]).ravel()
    with_edge = np.isin(np.arange(n_genes), ends)
    hubs = np.argsort(hub_rank, kind="stable")
    hubs = hubs[with_edge[hubs]][: max(1, int(max_nodes * _HUBS_KEPT))]
    chosen = np.zeros(n_genes, dtype=bool)
    chosen[pd.unique(np.concatenate([hubs, ends]).astype(np.int64))[:max_nodes]] = True
    edges = priority[chosen[source[priority]] & chosen[target[priority]]][:max_edges]
    edges = edges[np.lexsort((target[edges], source[edges], -strength[edges]))]
    return np.unique(np.concatenate([source[edges], target[edges]])), edges


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
    """Hub columns (``rank``, ``score``, degrees) and community (-1: none) of every gene, in gene order."""
    genes = network.genes.index
    hubs = network.hubs(by="pagerank").loc[genes, ["rank", "pagerank", "out_degree", "in_degree"]]
    membership = network.communities(seed=seed).membership.loc[genes]
    return hubs.rename(columns={"pagerank": "score"}), membership.to_numpy(dtype=np.int64)


def _rest(strength: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Edges that only the table lists, the strongest first, up to `TABLE_EDGES` with the drawn ones."""
    hidden = np.setdiff1d(np.arange(len(strength)), drawn)
    return hidden[np.argsort(-strength[hidden], kind="stable")][: max(0, TABLE_EDGES - len(drawn))]


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


def _column(values: pd.Series) -> list[Any]:
    """Give a column as JSON values: six significant digits, missing as None."""
    if pd.api.types.is_bool_dtype(values):
        return [None if pd.isna(value) else int(value) for value in values]
    if pd.api.types.is_integer_dtype(values):
        return [None if pd.isna(value) else int(value) for value in values]
    if pd.api.types.is_float_dtype(values):
        return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
    return [None if pd.isna(value) else jsonable(value) for value in values]
