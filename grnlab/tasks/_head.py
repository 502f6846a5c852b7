"""A head on the cell embedding of a backbone.

Shape suffixes: B cells, M dimension of the cell embedding, C outputs.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from grnlab.attention.prepare import PreparedCells
from grnlab.data.tokens import CellTokens, like_lengths


class Head(nn.Module):
    """Standardise the cell embedding, then a linear layer or one hidden layer.

    The last layer starts at zero: before training every class is as likely, every value the mean.

    Parameters
    ----------
    d_cell
        Dimension of the cell embedding.
    n_outputs
        Classes, or 1.
    hidden
        Width of the hidden layer; 0: none.
    dropout
        On what enters the last layer.
    """

    mean_M: Tensor
    scale_M: Tensor

    def __init__(self, d_cell: int, n_outputs: int, *, hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.register_buffer("mean_M", torch.zeros(d_cell))
        self.register_buffer("scale_M", torch.ones(d_cell))
        first: list[nn.Module] = [nn.Linear(d_cell, hidden), nn.GELU()] if hidden else []
        self.layers = nn.Sequential(*first, nn.Dropout(dropout), nn.Linear(hidden or d_cell, n_outputs))
        last = cast("nn.Linear", self.layers[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def standardise(self, cell_BM: Tensor) -> None:
        """Take mean and scale from embeddings of training cells."""
        self.mean_M.copy_(cell_BM.mean(0))
        sd_M = cell_BM.std(0) if len(cell_BM) > 1 else torch.ones_like(self.mean_M)
        # a dimension that hardly varies would be blown up when the backbone moves
        self.scale_M.copy_(sd_M.clamp(min=max(0.01 * float(sd_M.mean()), 1e-6)))

    def forward(self, cell_BM: Tensor) -> Tensor:
        """Logits, or standardised values, shape (B, C)."""
        return self.layers((cell_BM - self.mean_M) / self.scale_M)


class HeadedModel(nn.Module):
    """A backbone with its head.

    Parameters
    ----------
    backbone
        Gives the cell embedding.
    head
        Reads it.
    """

    def __init__(self, backbone: Any, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, tokens: CellTokens) -> Tensor:
        """Logits, or standardised values, shape (B, C)."""
        return self.head(self.backbone.encode(tokens).cell_BM.float())


def tokens_of(model: Any, cells: PreparedCells, rows: np.ndarray) -> CellTokens:
    """Some cells, as the model reads them."""
    return model.tokenize(cells.counts[rows], cells.tokens, cells.totals[rows], context="expressed")


def length_batches(model: Any, cells: PreparedCells, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Cells of like length together, as many as make a batch of bounded size."""
    for places in like_lengths(np.diff(cells.counts.indptr)[rows], least=getattr(model, "tokens_per_cell", 1)):
        yield rows[places]


@torch.no_grad()
def apply_to_cells(
    network: Callable[[CellTokens], Tensor],
    model: Any,
    cells: PreparedCells,
    rows: np.ndarray | None = None,
    *,
    on_batch: Callable[[int], object] = lambda n_cells: None,
) -> Tensor:
    """What a network says of cells, one row each in the order of `rows`, on the CPU.

    Parameters
    ----------
    network
        From tokens to a tensor with one row per cell.
    model
        The backbone, which makes the tokens.
    cells, rows
        Which cells; all by default.
    on_batch
        Called with the number of cells of each batch.
    """
    rows = np.arange(cells.counts.shape[0]) if rows is None else rows
    device = getattr(model, "device", torch.device("cpu"))
    parts, places = [], []
    for batch in length_batches(model, cells, rows):
        parts.append(network(tokens_of(model, cells, batch).to(device)).float().cpu())
        places.append(batch)
        on_batch(len(batch))
    where = {row: place for place, row in enumerate(np.concatenate(places).tolist())}
    return torch.cat(parts)[[where[row] for row in rows.tolist()]]


def check_not_blank(cells: PreparedCells, names: Any) -> None:
    """Refuse cells that express none of the genes the model is shown.

    Raises
    ------
    ValueError
        When there is one.
    """
    blank = np.flatnonzero(np.diff(cells.counts.indptr) == 0)
    if len(blank):
        msg = (
            f"{len(blank)} cells express none of the {cells.counts.shape[1]} genes the model is shown, the first is "
            f"{names[blank[0]]!r}; show more genes (genes=...), or leave these cells out."
        )
        raise ValueError(msg)
