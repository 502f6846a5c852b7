"""Whether two conditions are wired differently: a permutation test of edges, hubs and overlap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab._progress import progress
from grnlab.network.hubs import check_centrality, check_count
from grnlab.network.labellings import Labellings
from grnlab.network.relabel import Labels
from grnlab.network.statistics import permutation_pvalues

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

NULLS = ("edge", "pooled")
Infer = Callable[[np.ndarray], "GeneNetwork"]


@dataclass(frozen=True)
class DifferentialNetworks:
    """What `permutation_test` found between the conditions `a` and `b`.

    Attributes
    ----------
    a, b
        The networks of the real labels.
    edges
        ``source, target, weight_a, weight_b`` (0 where a network has no such edge), ``difference`` (a minus b), ``z``
        (difference, less its mean over all labellings, over its spread there), ``pvalue`` (two-sided), ``padj``
        (Benjamini-Hochberg over the edges tested); lowest p-value first, then largest ``|z|``. Edges of a gene that
        `a` or `b` does not have are not tested: that a gene is silent is no difference of networks.
    overlap
        Among the genes that both networks have: ``n_edges_shared, jaccard, jaccard_null`` (mean under permuted labels)
        and ``pvalue`` (one-sided: share of labellings whose networks are as unlike each other).
    n_permutations
        Labellings besides the real one, fewer than asked when there are no more; no p-value lies below
        1 / (n_permutations + 1), save those of the pooled null.
    """

    a: "GeneNetwork"
    b: "GeneNetwork"
    edges: pd.DataFrame
    overlap: dict[str, float]
    n_permutations: int
    _hubs: pd.DataFrame

    def hubs(self, by: str = "pagerank", *, n: int | None = None) -> pd.DataFrame:
        """Differential hubs among the genes that both networks have: lowest p-value first, then largest ``|z|``.

        Parameters
        ----------
        by
            One of the eight centralities of `grnlab.network.hubs.hubs`.
        n
            Keep the first `n` genes.

        Returns
        -------
        Indexed by gene: ``a``, ``b`` (the centralities), ``difference``, ``z``, ``pvalue`` (two-sided) and ``padj``
        (Benjamini-Hochberg over the genes with any difference in any labelling, for this centrality; 1 for others).
        PageRank is tested less its smallest value in the network, which every gene has.

        Raises
        ------
        ValueError
            When `by` is no centrality.
        """
        check_centrality(by)
        check_count(n, argument="n")
        table = self._hubs[self._hubs["centrality"] == by].drop(columns="centrality").set_index("gene")
        return table if n is None else table.head(n)

    def centralities(self) -> pd.DataFrame:
        """All differential hubs in one long table: ``centrality``, ``gene`` and the columns of `hubs`."""
        return self._hubs

    def summary(self) -> dict[str, str | int | float]:
        """Give names, the overlap, and how many edges and PageRank hubs have a padj of at most 0.05."""
        hubs = self.hubs("pagerank")
        return {
            "a": self.a.name,
            "b": self.b.name,
            "n_permutations": self.n_permutations,
            **self.overlap,
            "n_edges_tested": len(self.edges),
            "n_edges_different": int((self.edges["padj"] <= 0.05).sum()),
            "n_hubs_different": int((hubs["padj"] <= 0.05).sum()),
        }

    def __repr__(self) -> str:
        return (
            f"DifferentialNetworks({self.a.name!r} with {self.b.name!r}: {len(self.edges):,} edges tested with "
            f"{self.n_permutations:,} permutations, Jaccard {self.overlap['jaccard']:.3f}, p = "
            f"{self.overlap['pvalue']:.3g})"
        )


def permutation_test(
    infer: Infer,
    labels: Sequence[str],
    *,
    a: str,
    b: str,
    units: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
    n_permutations: int = 200,
    null: str = "edge",
    min_frequency: float = 0.1,
    seed: int = 0,
) -> DifferentialNetworks:
    """Compare the networks of two conditions with those of cells whose conditions are shuffled.

    The null hypothesis: the cells (or units) of both conditions are exchangeable. Networks are inferred again for every
    permutation, two calls of `infer` each. Edges tested are those that appear in enough networks over **all**
    labellings, the real one being one of them: choosing the edges of the real networks alone would favour edges that
    chance put there, and give p-values that are too small.

    Parameters
    ----------
    infer
        Takes rows (int64 positions in `labels`) and gives the network of those cells, always by the same rules. The
        rows may also stand for blocks of cells.
    labels
        Condition of each row; rows of other conditions take no part.
    a, b
        The two conditions.
    units
        Sample (donor, mouse, batch) of each row. Cells of one donor are alike, so shuffling cells makes every
        difference between *donors* significant: give the donors, and whole donors are shuffled. Each must be of one
        condition.
    strata
        Shuffle only within these (batches, or the two samples of a donor).
    n_permutations
        Number of shuffles. With so few units that there are no more labellings than that, each is used once, and the
        test is exact.
    null
        ``"edge"``: an edge is compared with itself under the permutations; exact, but p is at least
        1 / (n_permutations + 1), so that thousands of tested edges need thousands of permutations to survive the
        correction. ``"pooled"``: every difference is divided by its own spread over the labellings, and compared with
        those of all edges; p-values are as fine as edges × permutations, right on average over edges of like
        distribution, not for each. Hubs likewise, each centrality by itself.
    min_frequency
        Edges in a smaller share of the networks of all labellings are not tested.
    seed
        Seed of the shuffles.

    Raises
    ------
    ValueError
        When a condition is missing, lengths differ, a unit has two conditions, or a number is out of range.

    References
    ----------
    Phipson, Smyth (2010), doi:10.2202/1544-6115.1585. Bourgon, Gentleman, Huber (2010), doi:10.1073/pnas.0914005107:
    filters that do not see the labels keep p-values right. Squair et al. (2021), doi:10.1038/s41467-021-25960-2: cells
    are not replicates.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> rng = np.random.default_rng(0)
    >>> a, noise = rng.normal(size=(2, 60))
    >>> cells = np.column_stack([a, np.where(np.arange(60) < 30, 3 * a, 0) + noise])  # A drives B in the first 30
    >>> def infer(rows):
    ...     weight = abs(np.corrcoef(cells[rows].T)[0, 1])
    ...     edges = pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [weight]})
    ...     return GeneNetwork.from_edges(edges, name="cells")
    >>> found = permutation_test(infer, ["sick"] * 30 + ["well"] * 30, a="sick", b="well", n_permutations=99)
    >>> bool(found.edges["pvalue"].iloc[0] < 0.05), found.a.name
    (True, 'sick')
    """
    check_test(n_permutations=n_permutations, null=null, min_frequency=min_frequency)
    given = Labels(labels, a=a, b=b, units=units, strata=strata)
    given.tell(n_permutations)
    collected = Labellings()
    labellings = given.labellings(n_permutations, seed=seed)
    for in_a in progress(labellings, desc="permutations", unit="labelling"):
        rows_a, rows_b = given.rows(in_a)
        collected.add(infer(rows_a).renamed(a), infer(rows_b).renamed(b))
    network_a, network_b = collected.real
    jaccard_B = np.array(collected.jaccard)
    return DifferentialNetworks(
        a=network_a,
        b=network_b,
        edges=collected.edges(null, min_frequency),
        overlap={
            "n_edges_shared": collected.n_shared[0],
            "jaccard": float(jaccard_B[0]),
            "jaccard_null": float(jaccard_B[1:].mean()) if len(jaccard_B) > 1 else float("nan"),
            "pvalue": float(permutation_pvalues(-jaccard_B[0], -jaccard_B[1:])),
        },
        n_permutations=len(labellings) - 1,
        _hubs=collected.hubs(null),
    )


def check_test(*, n_permutations: int, null: str, min_frequency: float) -> None:
    """Refuse settings of `permutation_test` that make no sense."""
    check_count(n_permutations, argument="n_permutations")
    if null not in NULLS:
        msg = f"null must be one of {', '.join(NULLS)}, got {null!r}."
        raise ValueError(msg)
    if not 0 <= min_frequency <= 1:
        msg = f"min_frequency must be a share from 0 to 1, got {min_frequency!r}."
        raise ValueError(msg)
