"""Rebuild the counts of a cell from its embeddings by the same model (scPRINT, doi:10.1038/s41467-025-58699-1)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import count_loss


@dataclass(frozen=True)
class Bottleneck:
    """Second pass of the model, in which the cell embeddings of the first are all it knows of the counts.

    With ``emb = scPRINT([gene_j + expr_j + pos_j ..., depth, placeholders])`` at the special places, the counts are
    decoded from ``scPRINT([gene_j + pos_j ..., depth, emb])``. Where the first pass saw a down-sampled cell, the
    embeddings are those of the down-sampled cell and the counts those of the whole one. The loss is the mean over genes
    and cells, as in denoising; the paper prints a sum over cells of it, which no other loss of the sum would match.

    :class:`~grnlab.objectives.Mvc` is the cheap form, without a second pass.

    Attributes
    ----------
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("regenerate", "decode")

    weight: float = 1.0

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Leave the tokens as they are."""
        return tokens

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Likelihood of the true counts of all genes of the context."""
        again = model.regenerate(encoded, target)
        return count_loss(model.decode(again, target.values_BT.sum(-1)), target, target.real_BT)
