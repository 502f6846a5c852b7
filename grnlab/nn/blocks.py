"""Blocks in a row, and pre-norm transformer blocks."""

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grnlab.nn.attention import Recorder, SelfAttention
from grnlab.nn.recompute import recomputed


class BlockStack(nn.Module):
    """Blocks in a row, then a norm where there is one.

    Parameters
    ----------
    blocks
        Each with an ``attention``, a ``forward`` and a ``record_qk`` as :class:`TransformerBlock` has them.
    norm
        Of what the last block puts out; none by default.
    """

    def __init__(self, blocks: Iterable[nn.Module], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm or nn.Identity()

    @property
    def layers(self) -> list[Any]:
        """The blocks, first to last."""
        return list(self.blocks)

    def forward(
        self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, record: Recorder | None = None, recompute: bool = False
    ) -> Tensor:
        """Output of shape (B, T, M).

        Parameters
        ----------
        x_BTM
            What enters the first block.
        pad_BT
            True where a token is padding.
        record
            Hears the attention of every block.
        recompute
            Where gradients are needed and nothing is recorded, see :func:`grnlab.nn.recompute.recomputed`.
        """
        if recompute and record is None and torch.is_grad_enabled():
            return self.norm(recomputed(self.blocks, x_BTM, pad_BT=pad_BT))
        for layer, block in enumerate(self.blocks):
            x_BTM = block(x_BTM, pad_BT=pad_BT, layer=layer, record=record)
        return self.norm(x_BTM)

    def record_qk(self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, record: Recorder) -> None:
        """Record queries and keys of every block and stop: the rest of the last block feeds no attention."""
        *earlier, last = self.layers
        for layer, block in enumerate(earlier):
            x_BTM = block(x_BTM, pad_BT=pad_BT, layer=layer, record=record)
        last.record_qk(x_BTM, pad_BT=pad_BT, layer=len(earlier), record=record)


def drop(x: Tensor, p: float) -> Tensor:
    """Dropout while training; on the CPU from 16 random bits per entry, in less than half the time of PyTorch's.

    There `p` is rounded to a multiple of 2⁻¹⁶.
    """
    if p == 0.0 or x.device.type != "cpu":
        return F.dropout(x, p)
    words = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64).random_(-(1 << 63), None)
    keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= round(p * 2**16) - 2**15
    return x * keep.to(x.dtype).mul_(1 / (1 - p))


class TransformerBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``; exact GELU, hidden width 4 M.

    Parameters
    ----------
    d_model, n_heads
        Sizes.
    dropout
        Of what attention and MLP add. Attention weights are never dropped: the published models were trained with
        FlashAttention, which does not either, and without it the map of a cell need not be kept in memory.
    drop_path
        Stochastic depth: probability that a branch is skipped for a cell while training.
    """

    def __init__(
        self, d_model: int, n_heads: int, *, dropout: float = 0.0, drop_path: float = 0.0, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model, eps=eps)
        self.attention = SelfAttention(d_model, n_heads)
        self.norm2 = nn.LayerNorm(d_model, eps=eps)
        self.mlp = nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model))
        self.dropout = dropout
        self.drop_path = drop_path

    def forward(
        self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int = 0, record: Recorder | None = None
    ) -> Tensor:
        """Output of shape (B, T, M)."""
        x_BTM = x_BTM + self._branch(self.attention(self.norm1(x_BTM), pad_BT=pad_BT, layer=layer, record=record))
        return x_BTM + self._branch(self.mlp(self.norm2(x_BTM)))

    def record_qk(self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int = 0, record: Recorder) -> None:
        """Record queries and keys, and compute nothing beyond them."""
        self.attention.record_qk(self.norm1(x_BTM), layer=layer, record=record)

    def _branch(self, x_BTM: Tensor) -> Tensor:
        if not self.training:
            return x_BTM
        x_BTM = drop(x_BTM, self.dropout)
        if self.drop_path == 0.0:
            return x_BTM
        keep_B11 = torch.rand(len(x_BTM), 1, 1, device=x_BTM.device) >= self.drop_path
        return x_BTM * keep_B11 / (1.0 - self.drop_path)


class TransformerStack(BlockStack):
    """Pre-norm blocks in a row and a final norm.

    Parameters
    ----------
    n_layers, d_model, n_heads
        Sizes.
    dropout
        As in :class:`TransformerBlock`.
    drop_path
        Of the last block; rises linearly from 0 at the first.
    """

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        n_heads: int,
        *,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        rates = [drop_path * layer / max(n_layers - 1, 1) for layer in range(n_layers)]
        super().__init__(
            (TransformerBlock(d_model, n_heads, dropout=dropout, drop_path=rate, eps=eps) for rate in rates),
            nn.LayerNorm(d_model, eps=eps),
        )
