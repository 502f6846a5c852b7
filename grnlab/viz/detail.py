"""Levels of detail: which edges the page holds, and which of them each view shows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

_HUBS_KEPT = 0.1  # share of the genes held that is given to the strongest hubs first
_WHOLE_GENES, _WHOLE_EDGES = 60, 150  # a network up to this size is shown whole at once
_HUBS, _TARGETS, _HUB_EDGES = 12, 12, 24  # the first view: hubs, targets of each, edges among the hubs
_ROUNDS = (1, 3)  # further views: so many regulators per gene


@dataclass(frozen=True)
class Detail:
    """Levels of detail of a network; a level shows its own edges and those of the levels before it.

    Attributes
    ----------
    titles
        What each level shows, from little to all.
    edge_level
        First level that shows an edge, shape ``(n_edges,)``.
    gene_level
        First level that shows a gene, shape ``(n_genes,)``; ``len(titles)`` for genes that no level shows.
    round
        How many stronger regulators the target of an edge has, shape ``(n_edges,)``.
    """

    titles: list[str]
    edge_level: np.ndarray
    gene_level: np.ndarray
    round: np.ndarray


def detail_levels(n_genes: int, source: np.ndarray, target: np.ndarray, hub_rank: np.ndarray) -> Detail:
    """Split the edges of a network into levels of detail, hubs and their strongest targets first.

    Parameters
    ----------
    n_genes
        Genes in the network.
    source, target
        Gene numbers of every edge, by falling strength, shape ``(n_edges,)``.
    hub_rank
        1 for the strongest hub, shape ``(n_genes,)``.

    Examples
    --------
    >>> import numpy as np
    >>> detail_levels(3, np.array([0, 0]), np.array([1, 2]), np.array([1, 2, 3])).titles
    ['all edges']
    """
    n_edges = len(source)
    in_round = pd.Series(target).groupby(target).cumcount().to_numpy(dtype=np.int64)
    if n_genes <= _WHOLE_GENES and n_edges <= _WHOLE_EDGES:
        zeros = np.zeros(n_edges, dtype=np.int64)
        return Detail(["all edges"], zeros, np.zeros(n_genes, dtype=np.int64), in_round)
    shown = [("hubs and their strongest targets", _around_hubs(source, target, hub_rank))]
    for regulators in _ROUNDS:
        title = "strongest regulator of each gene" if regulators == 1 else f"{regulators} regulators of each gene"
        shown.append((title, shown[-1][1] | (in_round < regulators)))
    shown.append(("all edges", np.ones(n_edges, dtype=bool)))
    # a level that adds nothing is left out; the later title, which says more, stays
    kept = [entry for entry, following in zip(shown, [*shown[1:], None], strict=True) if _adds(entry, following)]
    edge_level = np.full(n_edges, len(kept), dtype=np.int64)
    for level in range(len(kept) - 1, -1, -1):
        edge_level[kept[level][1]] = level
    gene_level = np.full(n_genes, len(kept), dtype=np.int64)
    for end in (source, target):
        np.minimum.at(gene_level, end, edge_level)
    if not n_edges:
        gene_level[:] = 0
    return Detail([title for title, _ in kept], edge_level, gene_level, in_round)


def _adds(entry: tuple[str, np.ndarray], following: tuple[str, np.ndarray] | None) -> bool:
    return following is None or bool((following[1] & ~entry[1]).any())


def _around_hubs(source: np.ndarray, target: np.ndarray, hub_rank: np.ndarray) -> np.ndarray:
    """Edges from the strongest hubs to their strongest targets, and the strongest edges among these hubs."""
    with_target = np.unique(source)
    hubs = with_target[np.argsort(hub_rank[with_target], kind="stable")][:_HUBS]
    from_hub = np.isin(source, hubs)
    place = pd.Series(source).groupby(source).cumcount().to_numpy()
    shown = from_hub & (place < _TARGETS)
    among = np.flatnonzero(from_hub & np.isin(target, hubs))[:_HUB_EDGES]
    shown[among] = True
    return shown


def choose_stored(
    n_genes: int,
    source: np.ndarray,
    target: np.ndarray,
    strength: np.ndarray,
    hub_rank: np.ndarray,
    *,
    max_edges: int,
    max_nodes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Genes and edges to put into the page: all when they fit, otherwise the strongest edges of every gene.

    Edges are taken in rounds (the strongest regulator of each target, then the second of each, ...), so that no
    hub fills the page with its own weak edges.

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
    >>> genes, edges = choose_stored(4, s, t, w, np.array([1, 2, 3, 4]), max_edges=2, max_nodes=4)
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
