"""Predict the labels of a cell from its class embeddings."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.backbones.scprint import ScPrint
from grnlab.data.tokens import CellTokens


@dataclass(frozen=True)
class Classify:
    """Cross-entropy of each class over the cells whose label is known.

    Attributes
    ----------
    weight
        Factor of the loss.
    """

    weight: float = 1.0

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Leave the tokens as they are."""
        return tokens

    def loss(self, model: ScPrint, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Sum over classes of the mean cross-entropy; a class without a known label in the batch adds 0."""
        total = encoded.cell_BM.new_zeros(())
        for name, logits in model.classify(encoded).items():
            if name not in target.labels:
                msg = f"the model has a class {name!r}, but the cells have labels for {sorted(target.labels)} only."
                raise ValueError(msg)
            labels = target.labels[name]
            if (labels >= 0).any():
                total = total + F.cross_entropy(logits.float(), labels, ignore_index=-1)
        return total
