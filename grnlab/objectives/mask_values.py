"""Predict hidden changes of a perturbation signature from the other genes (one-task pretraining, Tan et al. 2023)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import hidden_by, hide, masked_mean, uniform


@dataclass(frozen=True)
class MaskValues:
    """Hide a random share of the values of each signature; values have a sign, the loss is the squared error.

    Attributes
    ----------
    rate
        Share of the genes to hide; the paper compares 0.15 and 0.8.
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("decode_values",)

    rate: float = 0.15
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            msg = f"rate={self.rate} must lie above 0 and be at most 1."
            raise ValueError(msg)

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Mark the hidden genes; their values are kept for the loss and never reach the model."""
        return hide(tokens, uniform(tokens.values_BT, generator=generator) < self.rate)

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Mean squared error of the hidden values."""
        return masked_mean((model.decode_values(encoded, seen) - target.values_BT).square(), hidden_by(self, seen))
