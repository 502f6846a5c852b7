"""Two networks side by side: differential hubs, shared edges, edges of one alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab.network.hubs import CENTRALITIES, centralities, check_centrality, check_count, order_by

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork


@dataclass(frozen=True)
class NetworkComparison:
    """What `compare` found between the networks `a` and `b`, both cut to the genes that they share.

    Attributes
    ----------
    a, b
        Names of the two networks.
    edges_shared
        ``source, target, weight_a, weight_b, difference`` (a minus b), largest smaller weight first.
    edges_a_only, edges_b_only
        Edges of one network alone, as in its edge table.
    n_genes_shared, n_genes_a_only, n_genes_b_only
        Genes in both universes, and in one alone (these take no part).
    jaccard
        Shared edges over the edges of either; NaN when neither has an edge.
    shared_fraction_a, shared_fraction_b
        Shared edges over the edges of one; NaN when it has none.
    is_tf
        Gene → whether it is a transcription factor; missing where the gene table of `a` does not say.
    """

    a: str
    b: str
    edges_shared: pd.DataFrame
    edges_a_only: pd.DataFrame
    edges_b_only: pd.DataFrame
    n_genes_shared: int
    n_genes_a_only: int
    n_genes_b_only: int
    is_tf: pd.Series
    _centralities_a: pd.DataFrame
    _centralities_b: pd.DataFrame

    @property
    def jaccard(self) -> float:
        """Shared edges over the edges of either network."""
        return _ratio(len(self.edges_shared), len(self.edges_shared) + len(self.edges_a_only) + len(self.edges_b_only))

    @property
    def shared_fraction_a(self) -> float:
        """Share of the edges of `a` that `b` has too."""
        return _ratio(len(self.edges_shared), len(self.edges_shared) + len(self.edges_a_only))

    @property
    def shared_fraction_b(self) -> float:
        """Share of the edges of `b` that `a` has too."""
        return _ratio(len(self.edges_shared), len(self.edges_shared) + len(self.edges_b_only))

    def hubs(self, by: str = "pagerank", *, n: int | None = None) -> pd.DataFrame:
        """Differential hubs, the largest absolute difference first (ties by gene name).

        Parameters
        ----------
        by
            One of the eight centralities of `grnlab.network.hubs.hubs`. PageRank shares sum to 1 and eigenvector
            centralities have the maximum 1 in both networks; degrees and strengths grow with the number and the
            weight of the edges, so compare those between networks of equal size.
        n
            Keep the first `n` genes.

        Returns
        -------
        Indexed by gene: ``a``, ``b`` (the centralities), ``difference`` (a minus b), ``rank_a``, ``rank_b`` (1 is the
        most central; ties by gene name), ``rank_change`` (rank_b minus rank_a: positive is more central in `a`),
        ``is_tf``.

        Raises
        ------
        ValueError
            When `by` is no centrality.
        """
        check_centrality(by)
        check_count(n, argument="n")
        first, second = self._centralities_a[by], self._centralities_b[by]
        rank_a, rank_b = _ranks(first), _ranks(second)
        columns = {
            "a": first,
            "b": second,
            "difference": first - second,
            "rank_a": rank_a,
            "rank_b": rank_b,
            "rank_change": rank_b - rank_a,
            "is_tf": self.is_tf,
        }
        table = pd.DataFrame(columns, index=first.index)
        table = table.iloc[order_by(table["difference"].abs())]
        return table if n is None else table.head(n)

    def centralities(self) -> pd.DataFrame:
        """All differential hubs in one long table: ``centrality``, ``gene`` and the columns of `hubs`."""
        tables = [self.hubs(by).reset_index().assign(centrality=by) for by in CENTRALITIES]
        table = pd.concat(tables, ignore_index=True)
        return table[["centrality", *table.columns.drop("centrality")]]

    def summary(self) -> dict[str, str | int | float]:
        """Give the counts and fractions as one plain dictionary."""
        return {
            "a": self.a,
            "b": self.b,
            "n_genes_shared": self.n_genes_shared,
            "n_genes_a_only": self.n_genes_a_only,
            "n_genes_b_only": self.n_genes_b_only,
            "n_edges_shared": len(self.edges_shared),
            "n_edges_a_only": len(self.edges_a_only),
            "n_edges_b_only": len(self.edges_b_only),
            "jaccard": self.jaccard,
            "shared_fraction_a": self.shared_fraction_a,
            "shared_fraction_b": self.shared_fraction_b,
        }

    def __repr__(self) -> str:
        return (
            f"NetworkComparison({self.a!r} with {self.b!r}: {self.n_genes_shared:,} shared genes, "
            f"{len(self.edges_shared):,} shared edges, Jaccard {self.jaccard:.3f})"
        )


def compare(a: "GeneNetwork", b: "GeneNetwork") -> NetworkComparison:
    """Compare two networks on the genes that both of them could have used.

    Raises
    ------
    ValueError
        When the two gene tables share no gene.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> genes = pd.DataFrame(index=["A", "B", "C"])
    >>> one = GeneNetwork(pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [1.0]}), genes, name="one")
    >>> two = GeneNetwork(pd.DataFrame({"source": ["C"], "target": ["B"], "weight": [1.0]}), genes, name="two")
    >>> compare(one, two).hubs(n=2)["rank_change"].tolist()
    [1, -2]
    """
    shared = a.genes.index[a.genes.index.isin(b.genes.index)]
    if len(shared) == 0 and (len(a.genes) or len(b.genes)):
        msg = (
            f"{a.name!r} ({len(a.genes):,} genes) and {b.name!r} ({len(b.genes):,} genes) share no gene name, so there "
            "is nothing to compare; use the same kind of gene names in both."
        )
        raise ValueError(msg)
    cut_a, cut_b = a.subset(shared), b.subset(shared)
    ends = ["source", "target"]
    both = cut_a.edges[[*ends, "weight"]].merge(cut_b.edges[[*ends, "weight"]], on=ends, suffixes=("_a", "_b"))
    both["difference"] = both["weight_a"] - both["weight_b"]
    both["smaller"] = both[["weight_a", "weight_b"]].min(axis=1)
    both = both.sort_values(["smaller", *ends], ascending=[False, True, True], ignore_index=True)
    known = a.genes.get("is_tf")
    unknown = pd.Series(pd.NA, index=shared, dtype="boolean")
    return NetworkComparison(
        a=a.name,
        b=b.name,
        edges_shared=both.drop(columns="smaller"),
        edges_a_only=_without(cut_a, cut_b),
        edges_b_only=_without(cut_b, cut_a),
        n_genes_shared=len(shared),
        n_genes_a_only=len(a.genes) - len(shared),
        n_genes_b_only=len(b.genes) - len(shared),
        is_tf=unknown if known is None else known.loc[shared],
        _centralities_a=centralities(cut_a),
        _centralities_b=centralities(cut_b).loc[shared],
    )


def _without(network: "GeneNetwork", other: "GeneNetwork") -> pd.DataFrame:
    """Edges of `network` that `other`, on the same genes, does not have."""
    keys = []
    for one in (network, other):
        source, target = (network.genes.index.get_indexer(one.edges[end]) for end in ("source", "target"))
        keys.append(source.astype(np.int64) * len(network.genes) + target)
    return network.edges[~np.isin(*keys)].reset_index(drop=True)


def _ranks(values: pd.Series) -> np.ndarray:
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order_by(values)] = np.arange(1, len(values) + 1)
    return ranks


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
