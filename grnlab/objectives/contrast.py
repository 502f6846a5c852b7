"""Make the embeddings of a cell unlike each other, so that each holds its own class (scPRINT).

Shape suffixes: B cells, E embeddings of a cell, M model dimension.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import masked_mean


@dataclass(frozen=True)
class Contrast:
    """Mean cosine between the embeddings of a cell, ``1/m² Σ_i Σ_i' cos(emb_i, emb_i')``.

    The sum runs over all pairs of the m embeddings of a cell (its own and one per class), each with itself too, and is
    averaged over cells. It is 1 when all are alike and 0 when they cancel. The paper (doi:10.1038/s41467-025-58699-1)
    prints ``1/m² Σ_i Σ_i' (1 − cos(emb_i, emb_i'))`` for a loss that is to push the embeddings "to be as different from
    one another as possible"; minimised as printed, it would make them the same. This is 1 minus the printed form: the
    same gradient with the sign the text asks for.

    Attributes
    ----------
    weight
        Factor of the loss.
    """

    weight: float = 1.0

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Leave the tokens as they are."""
        return tokens

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Mean over cells; an embedding of zeros counts as unlike every other.

        Raises
        ------
        ValueError
            When the model has no classes, so one embedding per cell.
        """
        if not encoded.classes_BM:
            msg = "the model has no classes, so a cell has one embedding and nothing to contrast; leave 'contrast' out."
            raise ValueError(msg)
        cell_BEM = torch.stack([encoded.cell_BM, *encoded.classes_BM.values()], dim=1)
        unit_BEM = F.normalize(cell_BEM.float(), dim=-1, eps=1e-6)
        # the mean over all pairs of dot products is the squared length of the mean vector: no matrix product, which
        # mixed precision would round
        alike_B = unit_BEM.mean(dim=1).square().sum(dim=-1)
        return masked_mean(alike_B, torch.ones_like(alike_B, dtype=torch.bool))
