"""Two passes that differ in dropout alone tell each cell from all others (CellLM, https://arxiv.org/abs/2306.04371)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.objectives.divide import encode_in_parts, info_nce


@dataclass(frozen=True)
class DropoutContrast:
    """InfoNCE between the cell embeddings of two passes over what the model sees; the other cells are the negatives.

    Attributes
    ----------
    temperature
        τ of the softmax.
    at_once
        Divide and conquer: cells whose activations the passes of this task hold at a time, see
        :mod:`grnlab.objectives.divide`; ``cells_at_once`` of :class:`~grnlab.training.PretrainConfig` does so for the
        other tasks. None: the run that all tasks share is the first view, and the activations of the second are kept.
    weight
        Factor of the loss.
    """

    across_cells: ClassVar[bool] = True  # so it cannot be averaged over parts of a batch

    temperature: float = 0.05
    at_once: int | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "at_once"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = f"{name}={value} must be above 0."
                raise ValueError(msg)

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Leave the tokens as they are: dropout alone makes the views differ."""
        return tokens

    def loss(self, model: Any, encoded: Encoded | None, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Mean over cells; in evaluation mode the views are the same, and the loss tells how alike the cells are.

        Raises
        ------
        ValueError
            When a training batch holds one cell, which has nothing to be told from; in validation its loss is 0.
        """
        if len(seen) < 2 and torch.is_grad_enabled():
            msg = f"a batch of {len(seen)} cell has no other cells to contrast; use a batch_size of 2 or more."
            raise ValueError(msg)

        def cells(part: CellTokens) -> Tensor:
            return model.encode(part).cell_BM

        if encoded is None or self.at_once is not None:
            first_BM = encode_in_parts(cells, seen, at_once=self.at_once)
        else:
            first_BM = encoded.cell_BM
        second_BM = encode_in_parts(cells, seen, at_once=self.at_once)
        return info_nce(first_BM, second_BM, temperature=self.temperature, at_once=self.at_once)
