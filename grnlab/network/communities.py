"""Communities (modules): groups of genes with more weight among them than their strengths would give by chance."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab.network.hubs import undirected
from grnlab.network.partition import METHODS, Partitioner

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

ISOLATED = -1


@dataclass(frozen=True)
class Communities:
    """What `communities` found.

    Attributes
    ----------
    membership
        Gene → community, a Series of int64 over every gene of the network in the order of its gene table. Community 0
        has the most genes (ties: the most weight inside, then the first gene name). Genes without an edge are -1.
    strength
        Gene → summed weight to its own community.
    quality
        Weighted modularity at resolution 1, between -0.5 and 1, of the undirected projection (of the directed network
        when the search was directed), whatever the resolution and the objective of the search; NaN without edges.
    measures
        One row per community; the numbers of `table`.
    method, resolution, seed
        What the search was called with.
    """

    membership: pd.Series
    strength: pd.Series
    quality: float
    measures: pd.DataFrame
    method: str
    resolution: float
    seed: int

    def __len__(self) -> int:
        """Count the communities; isolated genes are none."""
        return int(self.membership.max()) + 1 if len(self.membership) else 0

    def __repr__(self) -> str:
        isolated = int((self.membership == ISOLATED).sum())
        return f"Communities({len(self)} of {len(self.membership) - isolated:,} genes, modularity {self.quality:.3f})"

    def genes(self, community: int) -> list[str]:
        """List the genes of one community, the most strongly tied to it first (ties by name).

        Raises
        ------
        ValueError
            When there is no such community.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"], "weight": [1.0, 2.0]})
        >>> found = GeneNetwork.from_edges(edges, name="two pairs").communities()
        >>> found.genes(0)
        ['C', 'D']
        """
        if not 0 <= community < len(self):
            msg = f"community must be from 0 to {len(self) - 1}, got {community!r}."
            raise ValueError(msg)
        return self._ordered()[community]

    def as_dict(self) -> dict[int, list[str]]:
        """Community → its genes, ordered as in `genes`; the shape `enrich` takes.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"], "weight": [1.0, 2.0]})
        >>> found = GeneNetwork.from_edges(edges, name="two pairs").communities()
        >>> found.as_dict()
        {0: ['C', 'D'], 1: ['A', 'B']}
        """
        return dict(enumerate(self._ordered()))

    def table(self, *, n_top: int = 10) -> pd.DataFrame:
        """Describe each community.

        Returns
        -------
        ``n_genes``; ``n_edges`` (pairs of genes with weight inside); ``density`` (those over all pairs); ``strength``
        (weight inside); ``cut`` (weight across its border); ``conductance`` (cut over the smaller of the summed
        strengths inside and outside: 0 is a component of its own; NaN when nothing lies outside);
        ``top_genes``, joined by ``;``.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"], "weight": [1.0, 2.0]})
        >>> found = GeneNetwork.from_edges(edges, name="two pairs").communities()
        >>> found.table()["conductance"].tolist()
        [0.0, 0.0]
        """
        top = pd.Series([";".join(group[:n_top]) for group in self._ordered()], dtype=object)
        return self.measures.assign(top_genes=top).rename_axis("community")

    def _ordered(self) -> list[list[str]]:
        names = self.membership.index.to_numpy()
        member = self.membership.to_numpy()
        alphabetic = np.argsort(names)
        order = alphabetic[np.argsort(-self.strength.to_numpy()[alphabetic], kind="stable")]
        order = order[np.argsort(member[order], kind="stable")]
        bounds = np.searchsorted(member[order], np.arange(len(self) + 1))
        return [names[order[i:j]].tolist() for i, j in pairwise(bounds)]


def communities(
    network: "GeneNetwork", *, method: str = "leiden", resolution: float = 1.0, directed: bool = False, seed: int = 0
) -> Communities:
    """Find the communities of a network; negative weights count as zero.

    Parameters
    ----------
    network
        The network.
    method
        ``"leiden"``: modularity, igraph's C implementation, run until nothing improves. ``"louvain"``: modularity, for
        comparison with older work; its communities may be disconnected. ``"cpm"``: the constant Potts model by
        Leiden; `resolution` is then a density in the units of the weights. All of them on the undirected projection
        (weights of both directions summed) unless `directed`.
    resolution
        Above 1 gives more and smaller communities, below 1 fewer and larger ones.
    directed
        Leiden on the directed modularity (leidenalg; slower). Method ``"leiden"`` only.
    seed
        Seed of the search; the same seed gives the same communities.

    Raises
    ------
    ValueError
        When `method` is unknown or cannot be directed, or `resolution` is not a positive number.

    References
    ----------
    Traag, Waltman, van Eck (2019), From Louvain to Leiden. Reichardt, Bornholdt (2006) for the resolution. Traag, Van
    Dooren, Nesterov (2011) for the constant Potts model. Leicht, Newman (2008) for directed modularity.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"], "weight": [1.0, 1.0]})
    >>> found = communities(GeneNetwork(edges, pd.DataFrame(index=list("ABCDE")), name="two pairs"))
    >>> found.membership.tolist(), found.quality
    ([0, 0, 1, 1, -1], 0.5)
    """
    return Search(network, method=method, directed=directed).run(resolution=resolution, seed=seed)


class Search:
    """A network made ready once, to be searched with several resolutions and seeds; parameters as `communities`."""

    def __init__(self, network: "GeneNetwork", *, method: str = "leiden", directed: bool = False) -> None:
        if method not in METHODS:
            msg = f"method must be one of {', '.join(METHODS)}, got {method!r}."
            raise ValueError(msg)
        if directed and method != "leiden":
            msg = f"directed=True needs method='leiden', got {method!r}."
            raise ValueError(msg)
        self._names, self._method = network.genes.index, method
        source, target = network.edge_positions()
        weight = np.maximum(network.edges["weight"].to_numpy(), 0.0)
        self._pairs = low, high, total = undirected(source, target, weight, len(self._names))
        if directed:
            ends, strengths = (source[weight > 0], target[weight > 0]), weight[weight > 0]
        else:
            ends, strengths = (low, high), total
        self._linked = np.unique(np.concatenate(ends))
        numbered = np.column_stack([np.searchsorted(self._linked, end) for end in ends])
        self._partitioner = Partitioner(numbered, strengths, len(self._linked), directed=directed)

    def run(self, *, resolution: float, seed: int) -> Communities:
        """Search once."""
        check_resolution(resolution)
        member = np.full(len(self._names), ISOLATED, dtype=np.int64)
        quality = float("nan")
        if len(self._linked):
            member[self._linked], quality = self._partitioner.search(
                method=self._method, resolution=resolution, seed=seed
            )
        return describe(
            member, self._pairs, self._names, quality, method=self._method, resolution=resolution, seed=seed
        )


def describe(
    member: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    names: pd.Index,
    quality: float,
    *,
    method: str,
    resolution: float,
    seed: int,
) -> Communities:
    """Number the communities and measure them on the undirected projection ``(low, high, weight)``."""
    low, high, total = pairs
    n_genes = len(names)
    inside = np.where(member[low] == member[high], total, 0.0)
    strength = np.bincount(low, inside, minlength=n_genes) + np.bincount(high, inside, minlength=n_genes)
    member = _by_size(member, strength, names)
    return Communities(
        membership=pd.Series(member, index=names, name="community"),
        strength=pd.Series(strength, index=names, name="strength"),
        quality=quality,
        measures=_measures(member, low, high, total),
        method=method,
        resolution=float(resolution),
        seed=seed,
    )


def check_resolution(resolution: float) -> None:
    """Refuse what is no positive number."""
    if not np.isfinite(resolution) or resolution <= 0:
        msg = f"resolution must be a positive number, got {resolution!r}; 1.0 is the usual choice."
        raise ValueError(msg)


def _measures(member: np.ndarray, low: np.ndarray, high: np.ndarray, total: np.ndarray) -> pd.DataFrame:
    count = int(member.max(initial=-1)) + 1
    n_genes = np.bincount(member[member >= 0], minlength=count)
    one, other = member[low], member[high]
    same = one == other
    n_edges = np.bincount(one[same], minlength=count)
    inner = np.bincount(one[same], total[same], minlength=count)
    cut = sum(np.bincount(end[~same], total[~same], minlength=count) for end in (one, other))
    volume = 2 * inner + cut
    smaller = np.minimum(volume, 2 * total.sum() - volume)
    possible = n_genes * (n_genes - 1) / 2
    none = np.full(count, np.nan)
    columns = {
        "n_genes": n_genes.astype(np.int64),
        "n_edges": n_edges.astype(np.int64),
        "density": np.divide(n_edges, possible, out=none.copy(), where=possible > 0),
        "strength": inner.astype(float),
        "cut": np.asarray(cut, dtype=float),
        "conductance": np.divide(cut, smaller, out=none.copy(), where=smaller > 1e-12 * max(total.sum(), 1e-300)),
    }
    return pd.DataFrame(columns).rename_axis("community")


def _by_size(member: np.ndarray, strength: np.ndarray, names: pd.Index) -> np.ndarray:
    """Renumber the communities by genes, then by weight inside, then by their first gene name."""
    linked = np.flatnonzero(member >= 0)
    if len(linked) == 0:
        return member
    groups = pd.DataFrame({"member": member[linked], "strength": strength[linked], "gene": names[linked]})
    table = groups.groupby("member").agg(size=("gene", "size"), strength=("strength", "sum"), first=("gene", "min"))
    table["strength"] = table["strength"].round(9)
    ordered = table.sort_values(["size", "strength", "first"], ascending=[False, False, True]).index.to_numpy()
    renumbered = np.empty(ordered.max() + 1, dtype=np.int64)
    renumbered[ordered] = np.arange(len(ordered))
    result = member.copy()
    result[linked] = renumbered[member[linked]]
    return result
