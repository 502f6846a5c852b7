"""What a head is trained to predict, a column of ``obs`` as classes or standardised values; and from which cells."""

import difflib
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd

KINDS = ("classification", "regression")


@dataclass(frozen=True)
class Target:
    """A column of ``obs`` and the scale on which a head predicts it.

    Attributes
    ----------
    column
        Name of the column.
    classes
        The classes in the order of the outputs; empty for regression.
    mean, sd
        Of the values that were trained on; 0 and 1 for classification.
    """

    column: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0

    @property
    def kind(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return KINDS[0] if self.classes else KINDS[1]

    @property
    def n_outputs(self) -> int:
        """Outputs of the head."""
        return len(self.classes) or 1

    def read(self, adata: ad.AnnData) -> np.ndarray:
        """Code of the class of each cell, int64; or its value on the scale of the data, float64.

        Raises
        ------
        ValueError
            When there is no such column, values are missing, or a class is none of those trained on.
        """
        values = column_of(adata, self.column)
        if not self.classes:
            return _numbers(values)
        codes = pd.Index(self.classes).get_indexer(pd.Index(values.astype(str)))
        if (codes < 0).any():
            unseen = sorted(set(values[codes < 0].astype(str)))
            msg = (
                f"adata.obs[{self.column!r}] has {len(unseen)} classes that were not trained on, {unseen[:5]} "
                f"({int((codes < 0).sum())} cells); known are {list(self.classes)[:10]}. Leave these cells out, or "
                "name them as in training."
            )
            raise ValueError(msg)
        return codes.astype(np.int64)


def column_of(adata: ad.AnnData, column: str) -> pd.Series:
    """A column of ``obs`` without missing values.

    Raises
    ------
    ValueError
        When there is no such column, or a cell has no value.
    """
    if column not in adata.obs:
        near = difflib.get_close_matches(str(column), map(str, adata.obs.columns), n=3)
        msg = f"target={column!r} is not a column of adata.obs; there are {list(map(str, adata.obs.columns))}" + (
            f" (did you mean {near[0]!r}?)." if near else "."
        )
        raise ValueError(msg)
    values = adata.obs[column]
    if missing := int(values.isna().sum()):
        msg = (
            f"{missing} of {len(values)} cells have no value in adata.obs[{column!r}]; leave them out: "
            f"adata[adata.obs[{column!r}].notna()]."
        )
        raise ValueError(msg)
    return values


def target_of(adata: ad.AnnData, column: str, kind: str) -> Target:
    """Decide what a column asks for; mean and sd are set later, from the cells that are trained on.

    Parameters
    ----------
    adata
        Cells.
    column
        Column of ``obs``.
    kind
        ``"classification"``, ``"regression"``, or ``"auto"``: numbers with a fraction are regression, whole numbers are
        refused as ambiguous, everything else is classification.

    Raises
    ------
    ValueError
        When the kind is unknown or cannot be told, there is one class only, a class has one member, or all values are
        equal.
    """
    values = column_of(adata, column)
    if kind not in ("auto", *KINDS):
        msg = f"kind={kind!r} is unknown; choose 'auto', 'classification' or 'regression'."
        raise ValueError(msg)
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if kind == "auto":
        if is_number and (np.asarray(values) == np.rint(values)).all():
            msg = (
                f"adata.obs[{column!r}] holds whole numbers, which may be classes or values; say kind='classification' "
                "or kind='regression'."
            )
            raise ValueError(msg)
        kind = "regression" if is_number else "classification"
    if kind == "classification":
        return Target(column, _classes(values.astype(str), column))
    if not is_number:
        msg = f"kind='regression' needs numbers, but adata.obs[{column!r}] has dtype {values.dtype}."
        raise ValueError(msg)
    numbers = _numbers(values)
    if np.ptp(numbers) == 0:
        msg = f"adata.obs[{column!r}] is {numbers[0]:g} for all cells; there is nothing to learn."
        raise ValueError(msg)
    return Target(column)


def _classes(labels: pd.Series, column: str) -> tuple[str, ...]:
    counted = labels.value_counts()
    if len(counted) < 2:
        msg = f"adata.obs[{column!r}] has one class only, {counted.index[0]!r}; there is nothing to tell apart."
        raise ValueError(msg)
    if single := sorted(counted.index[counted == 1]):
        msg = (
            f"{len(single)} classes of adata.obs[{column!r}] have one member: {single[:5]}; a class needs at least two "
            "cells, so leave these cells out or join the classes."
        )
        raise ValueError(msg)
    return tuple(sorted(counted.index))


def _numbers(values: pd.Series) -> np.ndarray:
    if not pd.api.types.is_numeric_dtype(values):
        msg = f"adata.obs[{values.name!r}] has dtype {values.dtype}; the model predicts numbers."
        raise ValueError(msg)
    numbers = values.to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all():
        msg = f"adata.obs[{values.name!r}] holds {int((~np.isfinite(numbers)).sum())} infinite values."
        raise ValueError(msg)
    return numbers


def few_shot(labels: np.ndarray, share: float, *, seed: int = 0) -> np.ndarray:
    """Draw the cells of a few-shot setting: the same share of every class, and no fewer than two of it.

    Parameters
    ----------
    labels
        Class of each cell. For a regression, give one label to all.
    share
        Share of the cells, in (0, 1].
    seed
        Of the draw.

    Returns
    -------
    Numbers of the cells drawn, increasing.

    Raises
    ------
    ValueError
        When `share` is not in (0, 1], or labels are missing.

    Examples
    --------
    >>> few_shot(np.array(["a"] * 100 + ["b"] * 20), 0.05).shape
    (7,)
    """
    if not 0 < share <= 1:
        msg = f"share={share} must lie above 0 and be at most 1."
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    if len(labels) == 0 or pd.isna(labels).any():
        msg = f"{int(pd.isna(labels).sum())} of {len(labels)} labels are missing; leave these cells out."
        raise ValueError(msg)
    drawn = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        drawn.append(members[: min(len(members), max(2, round(share * len(members))))])
    return np.sort(np.concatenate(drawn))


def split_cells(strata: np.ndarray, fraction: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells to train on and to validate on, of every stratum at least one to train on.

    Parameters
    ----------
    strata
        Class of each cell.
    fraction
        Share to validate on; at least one cell, unless it is 0.
    seed
        Of the draw.
    """
    rng = np.random.default_rng(seed)
    held_out = []
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        n_held_out = int(np.floor(fraction * len(members) + rng.random()))  # so that rare classes are held out at times
        held_out.append(members[: min(n_held_out, len(members) - 1)])
    rows = np.concatenate(held_out)
    if fraction > 0 and len(rows) == 0:
        largest = np.argmax(np.bincount(strata))
        rows = np.flatnonzero(strata == largest)[:1]
    return np.setdiff1d(np.arange(len(strata)), rows), np.sort(rows)
