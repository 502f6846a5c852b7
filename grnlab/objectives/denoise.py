"""Recover the counts of a cell from a down-sampled copy (scPRINT, doi:10.1038/s41467-025-58699-1)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import check_shares, count_loss, uniform


@dataclass(frozen=True)
class Denoise:
    """Zero-inflated Poisson down-sampling, ``x' = max((x − p) · π, 0)``.

    With ``p ~ Poisson(x · rate · factor)`` and ``π = [u ≥ rate · factor]``, ``u ~ Uniform(0, 1)``: about half of the
    loss removes single counts, half removes genes. The loss is the likelihood of the counts before that.

    Attributes
    ----------
    rate
        Share of the counts to lose, about.
    factor
        The paper uses 0.55 in place of one half.
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("decode",)

    rate: float = 0.6
    factor: float = 0.55
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_shares(self, "rate", "factor")

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Down-sample the counts.

        The total stays that of the whole cell: it tells the model how many counts the cell is to be given back, and at
        inference it is where any other sequencing depth is asked for.
        """
        values = tokens.values_BT
        share = self.rate * self.factor
        lost = torch.poisson((values * share).to(generator.device), generator=generator).to(values.device)
        kept = uniform(values, generator=generator) >= share
        return replace(tokens, values_BT=((values - lost) * kept).clamp(min=0))

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Likelihood of the true counts of the genes the model saw."""
        where_BT = seen.real_BT if seen.hidden_BT is None else seen.real_BT & ~seen.hidden_BT
        return count_loss(model.decode(encoded, target.values_BT.sum(-1)), target, where_BT)
