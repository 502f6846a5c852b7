"""Scores of (regulator, target) pairs, the common form of every read-out.

Shape suffixes: R regulators, T targets.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata


@dataclass(frozen=True)
class PairScores:
    """Scores of (regulator, target) pairs per group of cells, by one read-out.

    Attributes
    ----------
    genes
        One row per gene, index ``gene`` (the symbol of the vocabulary), columns as in
        :class:`grnlab.attention.AttentionMaps`.
    regulators, targets
        Rows of `genes` that the rows and columns of a score stand for, int64.
    groups
        Group name → scores, float32, shape (R, T). Higher is a stronger edge regulator → target; NaN where the pair was
        never observed. A gene paired with itself is NaN, whatever was given.
    n_cells
        Group name → number of cells read.
    method
        Name of the read-out, see ``grnlab.attention.READOUTS``.
    signed
        Values below zero mean repression, and the strength of an edge is the absolute value.
    provenance
        Model, weights, data and settings.
    expression
        Group name → table with ``mean_counts`` and ``fraction_expressed`` by gene, where known.

    Raises
    ------
    ValueError
        When shapes, row numbers or the groups of `n_cells` do not fit, a gene is named twice, or a score is infinite.

    Examples
    --------
    >>> genes = pd.DataFrame({"is_tf": [True, False, False]}, index=["SPI1", "LYZ", "CD14"])
    >>> scores = PairScores(genes, np.array([0]), np.arange(3), {"all": np.array([[9.0, -2.0, 1.0]])}, {"all": 5},
    ...     method="jacobian", signed=True)
    >>> scores
    PairScores('jacobian', signed: 1 regulators × 3 targets; all (5 cells))
    >>> scores.strength("all").tolist()
    [[nan, 2.0, 1.0]]
    >>> scores.rank("all").tolist()
    [[nan, 1.0, 0.0]]
    """

    genes: pd.DataFrame
    regulators: np.ndarray
    targets: np.ndarray
    groups: Mapping[str, np.ndarray]
    n_cells: Mapping[str, int]
    method: str
    signed: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    expression: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("regulators", "targets"):
            rows = np.asarray(getattr(self, name))
            if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or len(np.unique(rows)) < len(rows):
                msg = f"{name} must be distinct row numbers of genes in one dimension, got {rows!r}."
                raise ValueError(msg)
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.genes):
                msg = f"{name} must lie between 0 and {len(self.genes) - 1}, the rows of genes; got {rows!r}."
                raise ValueError(msg)
            object.__setattr__(self, name, rows.astype(np.int64))
        if set(self.groups) != set(self.n_cells):
            msg = f"n_cells has the groups {sorted(self.n_cells)}; expected {sorted(self.groups)}, those of groups."
            raise ValueError(msg)
        if not self.genes.index.is_unique:
            twice = list(self.genes.index[self.genes.index.duplicated()][:3])
            msg = f"genes names {twice} more than once; each gene needs one row."
            raise ValueError(msg)
        own, shape, groups = self.regulators[:, None] == self.targets, (len(self.regulators), len(self.targets)), {}
        for name, values in self.groups.items():
            if np.shape(values) != shape:
                msg = f"scores of group {name!r} have shape {np.shape(values)}; expected {shape}, regulators × targets."
                raise ValueError(msg)
            scores = np.where(own, np.float32(np.nan), np.asarray(values, dtype=np.float32))
            if np.isinf(scores).any():
                msg = (
                    f"scores of group {name!r} hold {int(np.isinf(scores).sum())} infinite values as float32; give "
                    "finite ones, or NaN where a pair was not observed."
                )
                raise ValueError(msg)
            groups[name] = scores
        object.__setattr__(self, "groups", groups)

    def __repr__(self) -> str:
        sizes = f"{len(self.regulators):,} regulators × {len(self.targets):,} targets"
        groups = ", ".join(f"{name} ({self.n_cells[name]} cells)" for name in self.groups)
        return f"PairScores({self.method!r}{', signed' if self.signed else ''}: {sizes}; {groups})"

    def group(self, name: str) -> np.ndarray:
        """Scores of one group; an unknown name raises a KeyError that lists the groups."""
        if name not in self.groups:
            msg = f"group {name!r} is unknown; there are {list(self.groups)}."
            raise KeyError(msg)
        return self.groups[name]

    def strength(self, group: str) -> np.ndarray:
        """Strength of the edges, shape (R, T): the absolute score when signed, else the score; NaN stays."""
        scores = self.group(group)
        return np.abs(scores) if self.signed else scores.copy()

    def rank(self, group: str) -> np.ndarray:
        """Rank of the strength among all pairs of the group, 0 the weakest, 1 the strongest, ties averaged; NaN stays.

        A pair that was never observed ranks below every other when it has to be scored: fill it with 0.
        """
        return unit_ranks(self.strength(group))

    def symmetrised(self) -> "PairScores":
        """Mean strength of both directions; one direction alone where the other was not observed.

        Signed scores take the sign of the sum of the two. Needs the same genes as regulators and targets.
        """

        def both(scores: np.ndarray, strength: np.ndarray) -> np.ndarray:
            mean = _nanmean(np.stack([strength, strength.T]))
            return mean * _sign(np.nansum([scores, scores.T], axis=0)) if self.signed else mean

        return self._square("symmetrised", both)

    def apc(self) -> "PairScores":
        """Average product correction ``s − row mean · column mean / mean`` of the strength, over the observed pairs.

        The correction takes out what a gene gives to or gets from everybody (Dunn et al. 2008,
        doi:10.1093/bioinformatics/btm604). It leaves values below zero, which mean "weaker than expected" and no
        longer repression: the result is not signed. Works on any regulators and targets.
        """

        def correct(_: np.ndarray, strength: np.ndarray) -> np.ndarray:
            rows, columns = _nanmean(strength, axis=1)[:, None], _nanmean(strength, axis=0)[None]
            overall = float(_nanmean(strength, axis=None))
            return strength - rows * columns / overall if overall else strength

        return replace(self._changed("apc", correct), signed=False)

    def on(self, genes: Collection[str], *, targets: Collection[str] | None = None) -> "PairScores":
        """Keep the regulators and targets among `genes`, or the regulators among `genes` and the targets `targets`.

        The table of genes stays as it is, and so do its row numbers.

        Raises
        ------
        ValueError
            When a name is not in the table, or no regulator or no target is left.
        """
        rows = np.isin(self.regulators, self._rows(genes, "genes"))
        columns = np.isin(self.targets, self._rows(genes if targets is None else targets, "targets"))
        if not rows.any() or not columns.any():
            msg = f"the names leave {rows.sum()} regulators and {columns.sum()} targets; both need at least one."
            raise ValueError(msg)
        groups = {name: scores[np.ix_(rows, columns)] for name, scores in self.groups.items()}
        return replace(self, regulators=self.regulators[rows], targets=self.targets[columns], groups=groups)

    def _rows(self, names: Collection[str], argument: str) -> np.ndarray:
        rows = self.genes.index.get_indexer(pd.Index(names))
        if (rows < 0).any():
            unknown = [name for name, row in zip(names, rows, strict=True) if row < 0]
            msg = f"{argument} holds {len(unknown)} names that the scores do not have: {unknown[:3]}."
            raise ValueError(msg)
        return rows

    def _square(self, step: str, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> "PairScores":
        if not np.array_equal(self.regulators, self.targets):
            msg = (
                f"{step}() needs the same genes as regulators and targets, got {len(self.regulators)} and "
                f"{len(self.targets)}; read out with regulators='all', then take a subset with on()."
            )
            raise ValueError(msg)
        return self._changed(step, change)

    def _changed(self, step: str, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> "PairScores":
        groups = {name: change(scores, self.strength(name)) for name, scores in self.groups.items()}
        steps = [*self.provenance.get("steps", []), step]
        return replace(self, groups=groups, provenance={**self.provenance, "steps": steps})


def unit_ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value, 0 the lowest, 1 the highest, ties averaged, float32; NaN stays.

    Parameters
    ----------
    values
        Of any shape.
    """
    seen = ~np.isnan(values)
    ranks = np.full(values.shape, np.nan, dtype=np.float32)
    ranks[seen] = (rankdata(values[seen]) - 1) / max(int(seen.sum()) - 1, 1)
    return ranks


def _sign(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0, -1.0, 1.0)


def _nanmean(values: np.ndarray, axis: int | None = 0) -> np.ndarray:
    """Mean of what is no NaN, in float64; NaN, without a warning, where there is nothing."""
    seen = (~np.isnan(values)).sum(axis=axis)
    total = np.nansum(values, axis=axis, dtype=np.float64)
    return np.divide(total, seen, out=np.full(np.shape(total), np.nan), where=seen > 0)
