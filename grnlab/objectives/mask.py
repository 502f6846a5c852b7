"""Predict the counts of hidden genes from the other genes of the cell."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import check_shares, count_loss, hidden_by, hide, uniform


@dataclass(frozen=True)
class Mask:
    """Hide the counts of a random share of the genes.

    A gene whose own count is hidden can only be told from the others, so its attention must look for what predicts it.

    Attributes
    ----------
    rate
        Share of the genes to hide.
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("decode",)

    rate: float = 0.3
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_shares(self, "rate")

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Mark the hidden genes; their counts are kept for the loss and never reach the model."""
        return hide(tokens, uniform(tokens.values_BT, generator=generator) < self.rate)

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Likelihood of the true counts of the hidden genes."""
        return count_loss(model.decode(encoded, target.values_BT.sum(-1)), target, hidden_by(self, seen))
