"""The loss curve of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class MeanLosses:
    """Mean of the losses of many batches, added one after the other so that the sum does not depend on when it is read.

    Attributes
    ----------
    total
        Sum of the losses of each objective, float64.
    n
        Number of batches.
    """

    total: np.ndarray
    n: int = 0

    def add(self, losses: np.ndarray) -> None:
        """Add the losses of one batch."""
        self.total = self.total + losses
        self.n += 1

    def mean(self) -> np.ndarray:
        """Mean per batch; zeros when there is none."""
        return self.total / max(self.n, 1)

    def clear(self) -> None:
        """Begin anew."""
        self.total, self.n = np.zeros_like(self.total), 0


@dataclass
class LossCurve:
    """One point per validation: step, cells seen, and every loss (training losses averaged since the last point).

    Attributes
    ----------
    names
        Names of the objectives.
    points
        The curve; values are not rounded.

    Examples
    --------
    >>> curve = LossCurve(["mask"])
    >>> curve.add_point(step=10, cells=320, train=np.array([2.0]), val=np.array([1.5]))
    {'step': 10, 'cells': 320, 'train/mask': 2.0, 'val/mask': 1.5, 'val/loss': 1.5}
    """

    names: Sequence[str]
    points: list[dict[str, float]] = field(default_factory=list)

    def add_point(self, *, step: int, cells: int, train: np.ndarray, val: np.ndarray) -> dict[str, float]:
        """Add the losses of a validation and return the point; ``val/loss`` is their sum."""
        point: dict[str, float] = {"step": step, "cells": cells}
        point |= {f"train/{name}": float(value) for name, value in zip(self.names, train, strict=True)}
        point |= {f"val/{name}": float(value) for name, value in zip(self.names, val, strict=True)}
        point["val/loss"] = float(val.sum())
        self.points.append(point)
        return point

    def rounded(self, digits: int = 5) -> list[dict[str, Any]]:
        """Return the points for people to read."""
        return [{name: round(value, digits) for name, value in point.items()} for point in self.points]
