"""Rebuild the counts of a cell from its embedding alone, so that the embedding holds the cell."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import count_loss


@dataclass(frozen=True)
class Mvc:
    """Counts from the cell embeddings through the bilinear decoder.

    Attributes
    ----------
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("decode_from_cell",)

    weight: float = 1.0

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Leave the tokens as they are."""
        return tokens

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Likelihood of the true counts of all genes of the context."""
        return count_loss(model.decode_from_cell(encoded, target.values_BT.sum(-1)), target, seen.real_BT)
