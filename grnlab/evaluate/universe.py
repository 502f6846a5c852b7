"""Candidate universes: the pairs of genes a ranking is judged on. Scores on different ones cannot be compared."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from grnlab.evaluate.gold import GoldStandard


@dataclass(frozen=True, eq=False)
class Universe:
    """Candidate pairs, regulator × target without a gene with itself, and which of them are true.

    Attributes
    ----------
    genes
        Names of the genes the numbers below refer to.
    regulators, targets
        Gene numbers, increasing, int64, shapes (R,) and (T,).
    truth_RT
        True edges.
    candidate_RT
        False where regulator and target are the same gene.

    Examples
    --------
    >>> import pandas as pd
    >>> gold = GoldStandard.from_frame(pd.DataFrame({"source": ["A", "B"], "target": ["C", "C"]}), name="toy")
    >>> universe = candidate_universe(gold, ["C", "A", "B", "D"])
    >>> universe
    Universe(2 regulators × 1 targets, 2 candidates, 2 true, base rate 1)
    >>> candidate_universe(gold, ["C", "A", "B", "D"], targets="all").n_candidates
    6
    """

    genes: tuple[str, ...]
    regulators: np.ndarray
    targets: np.ndarray
    truth_RT: np.ndarray
    candidate_RT: np.ndarray

    def __repr__(self) -> str:
        return (
            f"Universe({len(self.regulators):,} regulators × {len(self.targets):,} targets, {self.n_candidates:,} "
            f"candidates, {self.n_true:,} true, base rate {self.base_rate:.3g})"
        )

    @property
    def n_candidates(self) -> int:
        """Number of candidate pairs."""
        return int(self.candidate_RT.sum())

    @property
    def n_true(self) -> int:
        """Number of true ones."""
        return int(self.truth_RT.sum())

    @property
    def base_rate(self) -> float:
        """Share of true pairs: the AUPRC of chance."""
        return self.n_true / max(self.n_candidates, 1)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Regulator and target gene number of every true edge."""
        row, column = np.nonzero(self.truth_RT)
        return self.regulators[row], self.targets[column]

    def part(self, regulators: np.ndarray | None = None, targets: np.ndarray | None = None) -> "Universe":
        """Universe of some of the regulators and targets, by gene number: a fold."""
        row = np.ones(len(self.regulators), bool) if regulators is None else np.isin(self.regulators, regulators)
        column = np.ones(len(self.targets), bool) if targets is None else np.isin(self.targets, targets)
        both = np.ix_(row, column)
        return Universe(
            self.genes, self.regulators[row], self.targets[column], self.truth_RT[both], self.candidate_RT[both]
        )


def candidate_universe(
    gold: GoldStandard,
    genes: Sequence[str],
    *,
    regulators: str | Collection[str] = "gold",
    targets: str | Collection[str] = "gold",
) -> Universe:
    """Form the candidates of a gold standard among the genes at hand.

    Parameters
    ----------
    gold
        True edges, named as `genes` are (see :meth:`GoldStandard.align`).
    genes
        Genes that were ranked, for example those of a network.
    regulators, targets
        ``"gold"``: genes that regulate, or are regulated by, anything in the gold standard, so that its blind spots do
        not count as errors; ``"all"``: all genes; or names, for example of transcription factors.

    Raises
    ------
    ValueError
        When a gene is named twice, or no candidate is true.
    """
    genes = [str(gene) for gene in genes]
    if len(set(genes)) < len(genes):
        twice = next(gene for gene in genes if genes.count(gene) > 1)
        msg = f"genes names {twice!r} more than once."
        raise ValueError(msg)
    place = {gene: number for number, gene in enumerate(genes)}
    chosen = {}
    for role, wanted, column in (("regulators", regulators, "source"), ("targets", targets, "target")):
        if isinstance(wanted, str):
            if wanted not in ("gold", "all"):
                msg = f"{role}={wanted!r} is unknown; choose 'gold', 'all' or give names."
                raise ValueError(msg)
            names = set(gold.edges[column]) if wanted == "gold" else set(genes)
        else:
            names = set(wanted)
        chosen[role] = np.array(sorted(place[name] for name in names if name in place), dtype=np.int64)
    row_of, column_of = np.full(len(genes), -1), np.full(len(genes), -1)
    row_of[chosen["regulators"]] = np.arange(len(chosen["regulators"]))
    column_of[chosen["targets"]] = np.arange(len(chosen["targets"]))
    source, target = (gold.edges[c].map(place).fillna(-1).to_numpy(np.int64) for c in ("source", "target"))
    known = (source >= 0) & (target >= 0)
    source, target = row_of[source[known]], column_of[target[known]]
    inside = (source >= 0) & (target >= 0)
    truth_RT = np.zeros((len(chosen["regulators"]), len(chosen["targets"])), dtype=bool)
    truth_RT[source[inside], target[inside]] = True
    if not truth_RT.any():
        msg = (
            f"no edge of {gold.name!r} ({len(gold):,} edges) lies among the candidates of {len(genes):,} genes "
            f"({len(chosen['regulators'])} regulators, {len(chosen['targets'])} targets found). Are the names alike? "
            f"The gold standard names {gold.edges['source'].iloc[0]!r}, the genes begin with {genes[:3]}; see "
            "GoldStandard.align."
        )
        raise ValueError(msg)
    candidate_RT = chosen["regulators"][:, None] != chosen["targets"][None, :]
    return Universe(tuple(genes), chosen["regulators"], chosen["targets"], truth_RT & candidate_RT, candidate_RT)
