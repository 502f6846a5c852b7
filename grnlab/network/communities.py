"""Communities (modules): groups of genes with more weight among them than their strengths would give by chance."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab.network.hubs import undirected

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

ISOLATED = -1
_ROUNDS = 10  # Leiden passes; stops as soon as one improves nothing


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
        Weighted modularity of the undirected projection at resolution 1, between -0.5 and 1, whatever the resolution
        of the search; NaN without edges.
    resolution, seed
        What the search was called with.
    """

    membership: pd.Series
    strength: pd.Series
    quality: float
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
        """
        if not 0 <= community < len(self):
            msg = f"community must be from 0 to {len(self) - 1}, got {community!r}."
            raise ValueError(msg)
        return self._ordered()[community]

    def as_dict(self) -> dict[int, list[str]]:
        """Community → its genes, ordered as in `genes`; the shape `enrich` takes."""
        return dict(enumerate(self._ordered()))

    def table(self, *, n_top: int = 10) -> pd.DataFrame:
        """Describe each community: ``n_genes``, ``strength`` (weight inside) and ``top_genes``, joined by ``;``."""
        groups = self._ordered()
        rows = {
            "n_genes": pd.Series([len(group) for group in groups], dtype=np.int64),
            "strength": pd.Series([self.strength[group].sum() / 2 for group in groups], dtype=float),
            "top_genes": pd.Series([";".join(group[:n_top]) for group in groups], dtype=object),
        }
        return pd.DataFrame(rows).rename_axis("community")

    def _ordered(self) -> list[list[str]]:
        names = self.membership.index.to_numpy()
        member = self.membership.to_numpy()
        alphabetic = np.argsort(names)
        order = alphabetic[np.argsort(-self.strength.to_numpy()[alphabetic], kind="stable")]
        order = order[np.argsort(member[order], kind="stable")]
        bounds = np.searchsorted(member[order], np.arange(len(self) + 1))
        return [names[order[i:j]].tolist() for i, j in pairwise(bounds)]


def communities(network: "GeneNetwork", *, resolution: float = 1.0, seed: int = 0) -> Communities:
    """Leiden communities of the undirected projection (weights of both directions summed, negative ones as zero).

    Parameters
    ----------
    network
        The network.
    resolution
        Above 1 gives more and smaller communities, below 1 fewer and larger ones.
    seed
        Seed of the search; the same seed gives the same communities.

    Raises
    ------
    ValueError
        When `resolution` is not a positive number.

    References
    ----------
    Traag, Waltman, van Eck (2019), From Louvain to Leiden. Reichardt, Bornholdt (2006) for the resolution.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"], "weight": [1.0, 1.0]})
    >>> found = communities(GeneNetwork(edges, pd.DataFrame(index=list("ABCDE")), name="two pairs"))
    >>> found.membership.tolist(), found.quality
    ([0, 0, 1, 1, -1], 0.5)
    """
    if not np.isfinite(resolution) or resolution <= 0:
        msg = f"resolution must be a positive number, got {resolution!r}; 1.0 is the usual choice."
        raise ValueError(msg)
    n_genes = len(network.genes)
    source, target = network.edge_positions()
    weight = np.maximum(network.edges["weight"].to_numpy(), 0.0)
    low, high, total = undirected(source, target, weight, n_genes)
    linked = np.unique(np.concatenate([low, high]))
    member = np.full(n_genes, ISOLATED, dtype=np.int64)
    quality = float("nan")
    if len(linked):
        edges = np.column_stack([np.searchsorted(linked, low), np.searchsorted(linked, high)])
        member[linked], quality = _leiden(edges, total, len(linked), resolution=resolution, seed=seed)
    inside = np.where(member[low] == member[high], total, 0.0)
    strength = np.bincount(low, inside, minlength=n_genes) + np.bincount(high, inside, minlength=n_genes)
    names = network.genes.index
    return Communities(
        membership=pd.Series(_by_size(member, strength, names), index=names, name="community"),
        strength=pd.Series(strength, index=names, name="strength"),
        quality=quality,
        resolution=float(resolution),
        seed=seed,
    )


def _leiden(
    edges: np.ndarray, weight: np.ndarray, n_genes: int, *, resolution: float, seed: int
) -> tuple[np.ndarray, float]:
    import igraph as ig
    import leidenalg

    graph = ig.Graph(n=n_genes, edges=edges)
    weights = weight.tolist()
    partition = leidenalg.RBConfigurationVertexPartition(graph, weights=weights, resolution_parameter=resolution)
    optimiser = leidenalg.Optimiser()
    optimiser.set_rng_seed(seed)
    for _ in range(_ROUNDS):
        if optimiser.optimise_partition(partition, n_iterations=1) <= 0:
            break
    return np.array(partition.membership), float(graph.modularity(partition.membership, weights=weights))


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
