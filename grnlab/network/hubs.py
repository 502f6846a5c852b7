"""Hubs: which genes the network hangs on, by degree, strength, eigenvector centrality, PageRank and betweenness."""

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
import scipy.sparse.csgraph
import scipy.sparse.linalg

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

logger = logging.getLogger(__name__)

CENTRALITIES = (
    "out_degree",
    "in_degree",
    "degree",
    "out_strength",
    "in_strength",
    "strength",
    "eigenvector",
    "pagerank",
)
BETWEENNESS = "betweenness"  # on demand only: tests compute the eight for every permutation
DAMPING = 0.85
_TIE_DIGITS = 10  # of the largest value; iterative solvers give equal genes values that differ in the last bits
_DENSE_BELOW = 64  # ARPACK needs room for its subspace; small components are solved exactly
_POWER_STEPS = 2_000


def hubs(
    network: "GeneNetwork", *, by: str = "pagerank", n: int | None = None, regulators_only: bool = False
) -> pd.DataFrame:
    """Rank the genes of a network by how central they are, the most central first.

    Weights are read as evidence: negative weights count as zero in everything but the degrees.

    * ``out_degree``, ``in_degree``, ``degree``: number of targets, of regulators, and their sum.
    * ``out_strength``, ``in_strength``, ``strength``: the same, summing weights.
    * ``pagerank``: stationary share of a walker that steps from a gene to one of *its regulators* in proportion to
      the weights (the edges reversed; damping 0.85), so a gene is high when many genes, or genes that are high
      themselves, listen to it. Sums to 1 over the genes of the network.
    * ``eigenvector``: eigenvector centrality of the undirected projection (weights of both directions summed) in its
      largest connected component, largest value 1; 0 elsewhere. The directed one is zero wherever no cycle is reached.
    * ``betweenness``, when `by` names it: share of the shortest paths between other genes, along the edges, that lead
      through a gene; the length of an edge is 1 / weight. 1 is all ordered pairs of other genes.

    Parameters
    ----------
    network
        The network.
    by
        The column to sort and rank by; ties are ordered by gene name. ``"betweenness"`` takes genes × edges steps,
        8 s for 5,000 genes and 100,000 edges.
    n
        Keep the first `n` genes; None keeps all, also genes without an edge.
    regulators_only
        Keep genes with ``is_tf`` only; ranks are then among these.

    Returns
    -------
    Indexed by gene: the first eight centralities (and the ninth, when asked for), ``is_tf`` (missing where the gene
    table has no such column) and ``rank``.

    Raises
    ------
    ValueError
        When `by` is no centrality, `n` is negative, or `regulators_only` is asked without ``is_tf`` in the gene table.

    References
    ----------
    Page, Brin, Motwani, Winograd (1999), The PageRank citation ranking. Bonacich (1987), Power and centrality. Brandes
    (2001), A faster algorithm for betweenness centrality.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.5, 0.4]})
    >>> network = GeneNetwork(edges, pd.DataFrame(index=["CD14", "LYZ", "SPI1"]), name="monocyte")
    >>> hubs(network).index[0]
    'SPI1'
    """
    check_centrality(by, (*CENTRALITIES, BETWEENNESS))
    check_count(n, argument="n")
    is_tf = network.genes.get("is_tf")
    if regulators_only and is_tf is None:
        msg = (
            f"regulators_only=True needs to know the transcription factors, but the gene table of {network.name!r} has "
            "no column is_tf; add it, or pass regulators_only=False."
        )
        raise ValueError(msg)
    table = centralities(network)
    if by == BETWEENNESS:
        table[by] = _betweenness(network)
    table["is_tf"] = pd.Series(pd.NA, index=table.index, dtype="boolean") if is_tf is None else is_tf
    if regulators_only:
        table = table[table["is_tf"]]
    table = table.iloc[order_by(table[by])]
    table["rank"] = np.arange(1, len(table) + 1)
    return table if n is None else table.head(n)


def centralities(network: "GeneNetwork") -> pd.DataFrame:
    """Compute the eight centralities in the order of the gene table, shape (n_genes, 8); see `hubs`."""
    n_genes = len(network.genes)
    source, target = network.edge_positions()
    weight = np.maximum(network.edges["weight"].to_numpy(), 0.0)
    out_degree, in_degree = (np.bincount(end, minlength=n_genes) for end in (source, target))
    out_strength, in_strength = (np.bincount(end, weight, minlength=n_genes) for end in (source, target))
    columns = {
        "out_degree": out_degree,
        "in_degree": in_degree,
        "degree": out_degree + in_degree,
        "out_strength": out_strength,
        "in_strength": in_strength,
        "strength": out_strength + in_strength,
        "eigenvector": _eigenvector(source, target, weight, n_genes),
        "pagerank": _pagerank(source, target, weight, n_genes),
    }
    return pd.DataFrame(columns, index=network.genes.index)


def order_by(values: pd.Series) -> np.ndarray:
    """Find the positions that sort a Series downwards; values equal to ten digits are ordered by gene name."""
    numbers = values.to_numpy(dtype=float)
    largest = np.abs(numbers).max(initial=0.0) or 1.0
    names = np.argsort(values.index.to_numpy())
    return names[np.argsort(-np.round(numbers[names] / largest, _TIE_DIGITS), kind="stable")]


def check_centrality(by: str, known: tuple[str, ...] = CENTRALITIES) -> None:
    """Refuse what is no centrality."""
    if by not in known:
        number = f" For a number of genes write n={by}." if isinstance(by, int) else ""
        msg = f"by must be one of {', '.join(known)}, got {by!r}.{number}"
        raise ValueError(msg)


def check_count(n: int | None, *, argument: str) -> None:
    """Refuse anything but None and whole numbers from 0 up."""
    if n is not None and (isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0):
        msg = f"{argument} must be None or a whole number from 0 up, got {n!r}."
        raise ValueError(msg)


def undirected(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray, n_genes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project to pairs (low, high), summing the weights of both directions; pairs of weight 0 are left out."""
    pair = np.minimum(source, target) * n_genes + np.maximum(source, target)
    pairs, which = np.unique(pair, return_inverse=True)
    total = np.bincount(which, weight, minlength=len(pairs))
    pairs, total = pairs[total > 0], total[total > 0]
    return pairs // max(n_genes, 1), pairs % max(n_genes, 1), total


def _pagerank(source: np.ndarray, target: np.ndarray, weight: np.ndarray, n_genes: int) -> np.ndarray:
    import igraph as ig

    if n_genes == 0:
        return np.zeros(0)
    known = weight > 0
    # target -> source: the walker goes to whom it listens, so importance gathers at regulators
    reverse = np.column_stack([target[known], source[known]])
    graph = ig.Graph(n=n_genes, edges=reverse, directed=True)
    return np.array(graph.pagerank(weights=weight[known].tolist(), damping=DAMPING, directed=True))


def _betweenness(network: "GeneNetwork") -> np.ndarray:
    import igraph as ig

    n_genes, (source, target) = len(network.genes), network.edge_positions()
    weight = network.edges["weight"].to_numpy()
    known = weight > 0
    graph = ig.Graph(n=n_genes, edges=np.column_stack([source[known], target[known]]), directed=True)
    through = np.array(graph.betweenness(weights=(1 / weight[known]).tolist()), dtype=float)
    return through / max((n_genes - 1) * (n_genes - 2), 1)


def _eigenvector(source: np.ndarray, target: np.ndarray, weight: np.ndarray, n_genes: int) -> np.ndarray:
    low, high, total = undirected(source, target, weight, n_genes)
    centrality = np.zeros(n_genes)
    if len(total) == 0:
        return centrality
    half = sp.csr_array((total, (low, high)), shape=(n_genes, n_genes))
    adjacency = half + half.T
    _, component = scipy.sparse.csgraph.connected_components(adjacency, directed=False)
    sizes = np.bincount(component)
    loads = np.bincount(component, np.asarray(adjacency.sum(axis=1)).ravel())
    largest = int(np.lexsort((-loads, -sizes))[0])  # most genes, then most weight, then first in the gene table
    members = np.flatnonzero(component == largest)
    vector = np.abs(_leading_eigenvector(adjacency[members][:, members]))
    centrality[members] = vector / vector.max()
    return centrality


def _leading_eigenvector(adjacency: sp.csr_array) -> np.ndarray:
    n = adjacency.shape[0]
    if n < _DENSE_BELOW:
        return np.linalg.eigh(adjacency.toarray())[1][:, -1]
    start = np.ones(n)
    try:
        return scipy.sparse.linalg.eigsh(adjacency, k=1, which="LA", v0=start)[1][:, 0]
    except scipy.sparse.linalg.ArpackNoConvergence:
        logger.warning("Eigenvector centrality: ARPACK did not converge; power iteration with %d steps.", _POWER_STEPS)
    vector, shift = start, float(adjacency.sum(axis=1).max()) / 2  # the shift keeps bipartite networks from swinging
    for _ in range(_POWER_STEPS):
        vector = adjacency @ vector + shift * vector
        vector = vector / np.linalg.norm(vector)
    return vector
