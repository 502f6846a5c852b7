"""Conditions of cells, and their shuffles: of cells or of whole units, within strata."""

import itertools
import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)


class Labels:
    """Rows of two conditions, made of units that are shuffled as a whole.

    Parameters
    ----------
    labels, units, strata
        Condition, unit and stratum of each row; without units every row is one, without strata there is one.
    a, b
        The two conditions.

    Raises
    ------
    ValueError
        When a condition is missing, lengths differ, or a unit has two conditions or strata.

    Examples
    --------
    >>> labels = Labels(["x", "y", "z", "x"], a="x", b="y")
    >>> rows_a, rows_b = labels.rows(labels.labellings(0, seed=0)[0])
    >>> rows_a.tolist(), rows_b.tolist()
    ([0, 3], [1])
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        a: str,
        b: str,
        units: Sequence[str] | None = None,
        strata: Sequence[str] | None = None,
    ) -> None:
        condition = _column(labels, len(labels), "labels")
        present = list(dict.fromkeys(condition.dropna()))
        for argument, wanted in (("a", a), ("b", b)):
            if wanted not in present:
                msg = f"{argument}={wanted!r} is not among the labels, which are {present[:10]}."
                raise ValueError(msg)
        if a == b:
            msg = f"a and b are both {a!r}; name two conditions."
            raise ValueError(msg)
        self._rows = np.flatnonzero(condition.isin([a, b]))
        rows = pd.DataFrame({"in_a": (condition == a).to_numpy()[self._rows]})
        rows["unit"] = np.arange(len(rows)) if units is None else _chosen(units, condition, self._rows, "units")
        rows["stratum"] = "" if strata is None else _chosen(strata, condition, self._rows, "strata")
        for column, argument in (("in_a", "condition"), ("stratum", "stratum")):
            mixed = rows.groupby("unit")[column].nunique()
            if (mixed > 1).any():
                unit = mixed.index[mixed > 1][0]
                msg = (
                    f"unit {unit!r} has more than one {argument}; a unit is shuffled as a whole. To compare two "
                    "conditions of the same donors, make units of donor and condition, and pass the donors as strata."
                )
                raise ValueError(msg)
        first = rows.drop_duplicates("unit")
        self._unit = pd.Index(first["unit"]).get_indexer(rows["unit"])
        self._in_a = first["in_a"].to_numpy()
        stratum = first["stratum"].to_numpy()
        self._strata = [np.flatnonzero(stratum == one) for one in dict.fromkeys(stratum)]

    @property
    def n_labellings(self) -> int:
        """How many different labellings the shuffles can give."""
        return math.prod(math.comb(len(units), int(self._in_a[units].sum())) for units in self._strata)

    def tell(self, n_permutations: int) -> None:
        """Warn in the log when there are fewer labellings than asked, and the smallest p-value with them."""
        if self.n_labellings - 1 <= n_permutations:
            logger.warning(
                "there are only %d ways to give the conditions to the %d units; each is used once, and no p-value of "
                "an edge or hub lies below %.3g",
                *(self.n_labellings, len(self._in_a), 1 / self.n_labellings),
            )

    def labellings(self, n_permutations: int, *, seed: int) -> list[np.ndarray]:
        """Give which units are `a`: the real labelling, then `n_permutations` shuffles.

        Where there are no more labellings than that, every other one comes once instead: shuffles drawn from so few may
        miss the real labelling, and would then promise p-values below 1 / `n_labellings`.
        """
        if self.n_labellings - 1 <= n_permutations:
            others = (in_a for in_a in self._every() if not np.array_equal(in_a, self._in_a))
            return [self._in_a, *others]
        rng = np.random.default_rng(seed)
        return [self._in_a, *(self._shuffled(rng) for _ in range(n_permutations))]

    def rows(self, in_a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the rows of `a` and of `b` under a labelling of the units."""
        chosen = in_a[self._unit]
        return self._rows[chosen], self._rows[~chosen]

    def _every(self) -> Iterator[np.ndarray]:
        choices = [itertools.combinations(units, int(self._in_a[units].sum())) for units in self._strata]
        for chosen in itertools.product(*choices):
            in_a = np.zeros(len(self._in_a), dtype=bool)
            in_a[list(itertools.chain.from_iterable(chosen))] = True
            yield in_a

    def _shuffled(self, rng: np.random.Generator) -> np.ndarray:
        in_a = self._in_a.copy()
        for units in self._strata:
            in_a[units] = rng.permutation(in_a[units])
        return in_a


def _column(values: Sequence[str], length: int, argument: str) -> pd.Series:
    column = pd.Series(np.asarray(values, dtype=object))
    if len(column) != length:
        msg = f"{argument} has {len(column)} entries; expected {length}, one per row."
        raise ValueError(msg)
    return column


def _chosen(values: Sequence[str], condition: pd.Series, rows: np.ndarray, argument: str) -> np.ndarray:
    column = _column(values, len(condition), argument).iloc[rows]
    if column.isna().any():
        msg = f"{argument} is missing for row {column.index[column.isna()][0]}; fill it in, or leave the row out."
        raise ValueError(msg)
    return column.to_numpy()
