"""Recover the counts of a cell from a down-sampled copy (scPRINT, doi:10.1038/s41467-025-58699-1)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.backbones.scprint import ScPrint
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import count_loss


@dataclass(frozen=True)
class Denoise:
    """Zero-inflated Poisson down-sampling, ``x' = max((x − p) · π, 0)``.

    With ``p ~ Poisson(x · rate · factor)`` and ``π = [u ≥ rate · factor]``, ``u ~ Uniform(0, 1)``: about half of the
    loss removes single counts, half removes genes.

    Attributes
    ----------
    rate
        Share of the counts to lose, about.
    factor
        The paper uses 0.55 in place of one half.
    weight
        Factor of the loss.
    """

    rate: float = 0.6
    factor: float = 0.55
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            msg = f"rate={self.rate} must lie between 0 and 1."
            raise ValueError(msg)

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Down-sample; the total of the cell shrinks in proportion."""
        values = tokens.values_BT
        share = self.rate * self.factor
        lost = torch.poisson(values * share, generator=generator)
        kept = torch.rand(values.shape, generator=generator) >= share
        fewer = ((values - lost) * kept).clamp(min=0)
        shrink_B = fewer.sum(-1) / values.sum(-1).clamp(min=1)
        return replace(tokens, values_BT=fewer, totals_B=tokens.totals_B * shrink_B)

    def loss(self, model: ScPrint, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Likelihood of the true counts of the genes the model saw."""
        where_BT = seen.real_BT if seen.hidden_BT is None else seen.real_BT & ~seen.hidden_BT
        return count_loss(model.decode(encoded, target.values_BT.sum(-1)), target, where_BT)
