"""Predict the bin of the expression of hidden genes (CellLM, https://arxiv.org/abs/2306.04371)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.backbones.celllm import CellLM
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import hide, masked_mean, uniform


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
        if not 0 <= self.rate <= 1:
            msg = f"rate={self.rate} must lie between 0 and 1."
            raise ValueError(msg)

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Mark the hidden genes; their counts are kept for the loss and never reach the model."""
        chosen_BT = uniform(tokens.values_BT, generator=generator) < self.rate
        return hide(tokens, chosen_BT & (tokens.values_BT > 0))

    def loss(self, model: CellLM, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Mean over the hidden genes of the batch, in nats."""
        if seen.hidden_BT is None:
            msg = "seen.hidden_BT is None; apply MaskBins.corrupt before the loss."
            raise ValueError(msg)
        logits_NK = model.decode_bins(encoded.genes_BTM[seen.hidden_BT]).float()
        loss_N = F.cross_entropy(logits_NK, model.bins(target)[seen.hidden_BT], reduction="none")
        return masked_mean(loss_N, torch.ones_like(loss_N, dtype=torch.bool))
