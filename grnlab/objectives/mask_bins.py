"""Predict the bin of the expression of hidden genes (CellLM, https://arxiv.org/abs/2306.04371)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import check_shares, hidden_by, hide, masked_mean, uniform


@dataclass(frozen=True)
class MaskBins:
    """Hide the counts of a random share of the **expressed** genes; cross-entropy of their bins.

    Attributes
    ----------
    rate
        Share of the expressed genes to hide.
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("decode_bins", "bins")

    rate: float = 0.3
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_shares(self, "rate")

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Mark the hidden genes; their counts are kept for the loss and never reach the model."""
        chosen_BT = uniform(tokens.values_BT, generator=generator) < self.rate
        return hide(tokens, chosen_BT & (tokens.values_BT > 0))

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Mean over the hidden genes of the batch, in nats."""
        hidden_BT = hidden_by(self, seen)
        logits_NK = model.decode_bins(encoded.genes_BTM[hidden_BT]).float()
        loss_N = F.cross_entropy(logits_NK, model.bins(target)[hidden_BT], reduction="none")
        return masked_mean(loss_N, torch.ones_like(loss_N, dtype=torch.bool))
