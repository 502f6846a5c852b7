"""Divide and conquer: losses across the cells of a large batch, with the activations of a few cells at a time.

A loss that compares every cell with every other needs all embeddings at once, but not all activations. As in CellLM
(Zhao et al. 2023, https://arxiv.org/abs/2306.04371) the large batch is encoded without gradients; then each part of it
is encoded again with gradients, from the same random numbers, against the embeddings of the rest. The gradients are
those of the whole batch. That is checkpointing of activations, one part of the batch after the other, so it is left to
:func:`torch.utils.checkpoint.checkpoint`, which also replays dropout and mixed precision, and the second encoding
happens inside ``backward``: no training loop need know of it. The price is one more forward pass.

Shape suffixes: B cells of a batch, M embedding dimension.
"""

from collections.abc import Callable
from dataclasses import fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from grnlab.data.tokens import CellTokens


def split_cells(tokens: CellTokens, size: int) -> list[CellTokens]:
    """Parts of a batch of at most `size` cells each, in order; views, not copies.

    Of a subclass of :class:`CellTokens`, tensors of which each cell has a row have a shape suffix that begins with B.

    Parameters
    ----------
    tokens
        A batch.
    size
        Cells of a part.
    """
    names = [one.name for one in fields(tokens) if one.name.rpartition("_")[2].startswith("B")]
    of_cells = {name: value for name in names if (value := getattr(tokens, name)) is not None}

    def part(rows: slice) -> CellTokens:
        labels = {name: codes[rows] for name, codes in tokens.labels.items()}
        return replace(tokens, labels=labels, **{name: value[rows] for name, value in of_cells.items()})

    return [part(slice(start, start + size)) for start in range(0, len(tokens), size)]


def encode_in_parts(
    encode: Callable[[CellTokens], Tensor], tokens: CellTokens, *, at_once: int | None = None
) -> Tensor:
    """Embeddings of all cells, (B, M), holding the activations of `at_once` cells at a time, backward too.

    Parameters
    ----------
    encode
        Makes embeddings (b, M) of a part of the batch; random through torch's generators alone.
    tokens
        The batch.
    at_once
        Cells of a part. None: all cells in one part, whose activations are kept.

    Examples
    --------
    >>> weight = torch.tensor([2.0], requires_grad=True)
    >>> cells = CellTokens(torch.zeros(4, 1).long(), torch.arange(4.0)[:, None], torch.ones(4))
    >>> encode_in_parts(lambda part: part.values_BT * weight, cells, at_once=3).sum().backward()
    >>> weight.grad
    tensor([6.])
    """
    if at_once is None:
        return encode(tokens)
    parts = split_cells(tokens, at_once)
    return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in parts])


def info_nce(first_BM: Tensor, second_BM: Tensor, *, temperature: float = 0.05, at_once: int | None = None) -> Tensor:
    """Contrast of two views of each cell: cross-entropy of finding its own second view among those of all cells.

    ``−mean_i log( exp(cos(h_i, h⁺_i)/τ) / Σ_j exp(cos(h_i, h⁺_j)/τ) )``, in float32 or better.

    Parameters
    ----------
    first_BM, second_BM
        Views of the cells.
    temperature
        τ.
    at_once
        Cells whose similarities to all others are held at a time; None: all, a matrix of B · B.

    Examples
    --------
    >>> info_nce(torch.eye(4), torch.eye(4), temperature=1e-3).item()  # every cell is found
    0.0
    """
    dtype = torch.promote_types(first_BM.dtype, torch.float32)
    first_BM, second_BM = (F.normalize(x.to(dtype), dim=-1, eps=1e-6) for x in (first_BM, second_BM))
    n_cells = len(first_BM)

    def of_rows(rows_NM: Tensor, all_BM: Tensor, own_N: Tensor) -> Tensor:
        with torch.autocast(rows_NM.device.type, enabled=False):
            return F.cross_entropy(rows_NM @ all_BM.T / temperature, own_N, reduction="sum")

    own_B = torch.arange(n_cells, device=first_BM.device)
    if at_once is None:
        return of_rows(first_BM, second_BM, own_B) / n_cells
    losses = [
        checkpoint(of_rows, rows_NM, second_BM, own_N, use_reentrant=False)
        for rows_NM, own_N in zip(first_BM.split(at_once), own_B.split(at_once), strict=True)
    ]
    return torch.stack(losses).sum() / n_cells
