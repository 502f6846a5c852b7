"""Predict a cell at its own depth from a shallower copy (scFoundation, doi:10.1038/s41592-024-02305-7)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.backbones.xtrimogene import PER
from grnlab.backbones.xtrimogene_tokens import DepthTokens
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import check_shares, masked_mean, uniform


@dataclass(frozen=True)
class ReadDepth:
    """Read-depth-aware masking: hidden genes of a down-sampled cell, at the depth of the whole one.

    Half the cells, of those with enough counts, are down-sampled: every count by a binomial of one rate
    ``b ~ Beta(2, 2)`` per cell. The model is told both totals, S of what it sees and T of the whole cell. Some genes
    are chosen, most of them hidden, and the loss is the squared error of log1p of counts per 10,000 of T there.

    The defaults of the rates are those of the released code. The paper: ``rate=0.3, zero_rate=0.3, keep=0, swap=0``.
    With a lower rate for zeros, what is predicted is not the mean of a gene, but nearer to its mean in cells that
    express it. A larger `keep` trains what is predicted of visible genes, as all are when a cell is enhanced.

    Attributes
    ----------
    rate, zero_rate
        Share of the genes that are chosen, of those with and without a count in the whole cell.
    keep, swap
        Share of the chosen genes that stay visible as they are, and that get the count of a gene that was not
        chosen.
    downsample
        Probability that a cell is down-sampled.
    min_total
        Total counts below which a cell never is.
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("values",)

    rate: float = 0.3
    zero_rate: float = 0.03
    keep: float = 0.1
    swap: float = 0.1
    downsample: float = 0.5
    min_total: float = 1_000.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_shares(self, "rate", "zero_rate", "keep", "swap", "downsample")
        if self.keep + self.swap > 1:
            msg = f"keep={self.keep} and swap={self.swap} are shares of the same genes; they must not add up to over 1."
            raise ValueError(msg)

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> DepthTokens:
        """Down-sample, choose genes, hide most of them; T is the total of the cell, S that of its down-sampled copy."""
        total_B = tokens.totals_B
        share_B = uniform(total_B.expand(3, -1), generator=generator).median(0).values  # of three uniform: Beta(2, 2)
        thinned_B = (uniform(total_B, generator=generator) < self.downsample) & (total_B >= self.min_total)
        share_B = torch.where(thinned_B, share_B, 1.0)
        rest_B = (total_B - tokens.values_BT.sum(-1)).clamp(min=0).round()  # counts of genes that are not shown
        seen_B, values_BT = _binomial(rest_B, share_B, generator), _binomial(tokens.values_BT, share_B, generator)
        source_B = torch.where(thinned_B, seen_B + values_BT.sum(-1), total_B)

        rate_BT = torch.where(tokens.values_BT > 0, self.rate, self.zero_rate)
        chosen_BT = (uniform(values_BT, generator=generator) < rate_BT) & tokens.real_BT
        fate_BT = uniform(values_BT, generator=generator)
        other_BT = uniform(values_BT, generator=generator)
        swapped_BT = chosen_BT & (fate_BT >= self.keep) & (fate_BT < self.keep + self.swap)
        hidden_BT = chosen_BT & (fate_BT >= self.keep + self.swap)
        if tokens.hidden_BT is not None:
            hidden_BT = hidden_BT | tokens.hidden_BT
        shown_BT = tokens.real_BT & ~hidden_BT & ~swapped_BT
        swapped_BT = swapped_BT & shown_BT.any(1, keepdim=True)
        return tokens.into(
            DepthTokens,
            values_BT=torch.where(swapped_BT, _of_others(values_BT, shown_BT, other_BT), values_BT),
            totals_B=source_B.clamp(min=1),
            hidden_BT=hidden_BT,
            target_B=total_B,
            asked_BT=chosen_BT,
        )

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Mean squared error at the chosen genes.

        Raises
        ------
        ValueError
            When the tokens were not corrupted by this task, or the model predicts no values.
        """
        asked_BT = getattr(seen, "asked_BT", None)
        if asked_BT is None:
            msg = "seen has no asked_BT; apply ReadDepth.corrupt before the loss."
            raise ValueError(msg)
        if not hasattr(model, "values"):
            msg = f"{type(model).__name__} predicts no values at a depth asked for; 'read_depth' is for xtrimogene."
            raise ValueError(msg)
        true_BT = (target.values_BT / target.totals_B.clamp(min=1).unsqueeze(-1) * PER).log1p()
        return masked_mean((model.values(encoded) - true_BT).square(), asked_BT)


def _of_others(values_BT: Tensor, shown_BT: Tensor, draw_BT: Tensor) -> Tensor:
    """At each place the value of a random one that is shown as it is: no hidden count comes back elsewhere."""
    order_BT = (~shown_BT).to(torch.uint8).argsort(dim=1, stable=True)
    return values_BT.gather(1, order_BT.gather(1, (draw_BT * shown_BT.sum(1, keepdim=True)).long()))


def _binomial(counts: Tensor, share_B: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from each count with the rate of its cell; where the rate is 1 all stays, counts or not."""
    share = share_B.reshape(-1, *[1] * (counts.dim() - 1)).expand_as(counts)
    drawn = torch.binomial(
        counts.round().to(generator.device), share.to(generator.device).contiguous(), generator=generator
    )
    return torch.where(share < 1, drawn.to(counts.device), counts)
