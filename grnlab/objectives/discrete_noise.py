"""Discrete noise masking (Connell, Khan & Keiser 2022, doi:10.48550/arXiv.2210.14330).

Shape suffixes: B cells, T gene tokens, Q genes asked for.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.backbones.exceiver import Exceiver, ExceiverEncoded, QueriedTokens
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import masked_mean, uniform


@dataclass(frozen=True)
class DiscreteNoise:
    """Hide equally many expressed genes of every cell, and predict their expression from the others.

    The embedding of a hidden gene becomes that of the mask, its value the mean of the gene. Their number is a share of
    the genes that the median cell expresses (of those shown to the model); cells that express fewer than twice as many
    are left out: none of their genes is hidden, and they have no part in the loss. That is the squared error of
    standard scores.

    Attributes
    ----------
    rate
        Share of the genes of the median cell.
    median
        Genes the median cell expresses; by default that of the batch.
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("predict", "scores")

    rate: float = 0.15
    median: int | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 0.5:
            msg = f"rate={self.rate} must lie above 0 and not above 0.5."
            raise ValueError(msg)
        if self.median is not None and self.median < 1:
            msg = f"median={self.median} must be a number of genes of at least 1, or None for that of the batch."
            raise ValueError(msg)

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> QueriedTokens:
        """Mark the hidden genes, and have them ask the latents.

        Raises
        ------
        ValueError
            When no cell of the batch expresses twice as many genes as are hidden, or another task has hidden some.
        """
        if tokens.hidden_BT is not None:
            msg = (
                "another task has hidden genes before 'discrete_noise', which hides equally many; give it its own run."
            )
            raise ValueError(msg)
        expressed_BT = (tokens.values_BT > 0) & tokens.real_BT
        n_B = expressed_BT.sum(1)
        n_hidden = max(1, round(self.rate * float(n_B.median() if self.median is None else self.median)))
        enough_B = n_B >= 2 * n_hidden
        if not enough_B.any():
            msg = (
                f"{n_hidden} genes of a cell are to be hidden, so it must express {2 * n_hidden} of those shown; the "
                f"richest of {len(tokens)} cells expresses {int(n_B.max())}. Lower rate or median, show more genes "
                "(n_tokens), or leave such cells out (QualityRules.min_genes)."
            )
            raise ValueError(msg)
        draw_BT = uniform(tokens.values_BT, generator=generator).masked_fill(~expressed_BT, -1.0)
        query_BQ = draw_BT.topk(n_hidden, dim=1).indices
        hidden_BT = torch.zeros_like(expressed_BT).scatter(1, query_BQ, True) & enough_B.unsqueeze(1)
        return tokens.into(QueriedTokens, hidden_BT=hidden_BT, query_BQ=query_BQ)

    def loss(self, model: Exceiver, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Mean squared error of the standard scores of the hidden genes."""
        if not isinstance(seen, QueriedTokens) or not isinstance(encoded, ExceiverEncoded) or seen.hidden_BT is None:
            msg = "discrete_noise needs an Exceiver and tokens made by DiscreteNoise.corrupt, with no masking after it."
            raise ValueError(msg)
        error_BQ = model.predict(encoded) - model.scores(target).gather(1, seen.query_BQ)
        return masked_mean(error_BQ**2, seen.hidden_BT.gather(1, seen.query_BQ))
