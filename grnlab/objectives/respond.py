"""Predict a whole signature from drug, cell and dose: the second stage of Tan et al. 2023."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.signature_collection import SignatureTokens
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import hidden_by, masked_mean


@dataclass(frozen=True)
class Respond:
    """Give the model the conditions and hide every value; squared error of all genes.

    It trains alone: what other tasks hide would be hidden twice, and what they tell would be given.

    Attributes
    ----------
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("decode_values",)

    weight: float = 1.0

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Hide all values and give the conditions.

        Raises
        ------
        ValueError
            When the tokens carry no conditions, or another task has hidden values already.
        """
        if not isinstance(tokens, SignatureTokens):
            msg = "'respond' needs signatures with conditions, see grnlab.data.collect_signatures."
            raise ValueError(msg)
        if tokens.hidden_BT is not None:
            msg = "'respond' trains alone, but another task has hidden values already; give it a run of its own."
            raise ValueError(msg)
        return replace(tokens, hidden_BT=tokens.real_BT, given=True)

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Mean squared error of all values."""
        return masked_mean((model.decode_values(encoded, seen) - target.values_BT).square(), hidden_by(self, seen))
