"""Blocks whose activations are computed again in the backward pass: memory of one cell in one block, not of all."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(blocks: Iterable[nn.Module], x_BTM: Tensor, *, pad_BT: Tensor | None = None) -> Tensor:
    """Send cells through blocks one after the other, keeping only what enters each block.

    Parameters
    ----------
    blocks
        Each called as ``block(x_BTM, pad_BT=pad_BT)``; cells must not depend on one another in it.
    x_BTM
        What enters the first block.
    pad_BT
        True where a token is padding.

    Returns
    -------
    The same numbers, and the same gradients, as of the blocks called plainly.
    """
    for block in blocks:
        cells = [
            checkpoint(block, x_1TM, pad_BT=None if pad_BT is None else pad_BT[cell : cell + 1], use_reentrant=False)
            for cell, x_1TM in enumerate(x_BTM.split(1))
        ]
        x_BTM = torch.cat(cells)
    return x_BTM
