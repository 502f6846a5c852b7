"""Softmax self-attention with a seam where queries and keys are recorded.

Shape suffixes: B cells, T tokens, H heads, D head dimension, M model dimension.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grnlab.nn import attention_cpu

ATTENTION_BACKENDS = ("sdpa", "flash")


class Recorder(Protocol):
    """Receives what a layer computed; called once per layer and batch.

    Parameters
    ----------
    layer
        Number of the layer.
    q_BTHD, k_BTHD
        Queries and keys exactly as they enter the attention logits ``q · k / √d_head``.
    v_BTHD, out_BTHD
        Values, and attention times values before the output projection; None in the last layer when only queries
        and keys were asked for.
    """

    def __call__(
        self, layer: int, q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor | None, out_BTHD: Tensor | None
    ) -> None:
        """Take one layer of one batch."""
        ...


def head_projections(blocks: Iterable[Any]) -> list[Tensor]:
    """What turns the values of each head into what it adds to a token, per block: shape (H, M, D).

    Parameters
    ----------
    blocks
        With an ``attention`` that has heads and an output projection.
    """
    layers = [block.attention for block in blocks]
    return [x.out.weight.unflatten(1, (x.n_heads, -1)).transpose(0, 1) for x in layers]


def attend(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    pad_BT: Tensor | None = None,
    dropout: float = 0.0,
    backend: str = "sdpa",
) -> Tensor:
    """Attention output ``softmax(q kᵀ / √d_head) v``, shape (B, T, H, D).

    Parameters
    ----------
    q_BTHD, k_BTHD, v_BTHD
        Shape (batch, tokens, heads, d_head).
    pad_BT
        True where a token is padding: nothing attends to it.
    dropout
        Probability that an attention weight is dropped.
    backend
        ``"sdpa"``, PyTorch's own; ``"flash"``, the flash-attn package: half precision on a CUDA device, no padding.

    Raises
    ------
    RuntimeError, ImportError
        When ``"flash"`` is asked for and cannot run.
    """
    if backend == "flash":
        return _flash(q_BTHD, k_BTHD, v_BTHD, pad_BT=pad_BT, dropout=dropout)
    if backend != "sdpa":
        msg = f"attention backend {backend!r} is unknown; choose one of {ATTENTION_BACKENDS}."
        raise ValueError(msg)
    if dropout == 0.0 and attention_cpu.fits(q_BTHD):
        return attention_cpu.attend_in_blocks(q_BTHD, k_BTHD, v_BTHD, pad_BT)
    mask = None if pad_BT is None else ~pad_BT[:, None, None, :]
    q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTHD, v_BTHD))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2)


def _flash(q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, *, pad_BT: Tensor | None, dropout: float) -> Tensor:
    from grnlab._optional import require

    flash_attn = require("flash_attn", install="grnlab[flash]", purpose='for attention backend "flash"')
    if q_BTHD.device.type != "cuda" or q_BTHD.dtype not in (torch.float16, torch.bfloat16):
        msg = (
            f'attention backend "flash" needs half precision on a CUDA device; got {q_BTHD.dtype} on '
            f'{q_BTHD.device}. Use backend "sdpa".'
        )
        raise RuntimeError(msg)
    if pad_BT is not None:
        msg = 'attention backend "flash" takes cells of one length; use backend "sdpa" for padded batches.'
        raise RuntimeError(msg)
    return flash_attn.flash_attn_func(q_BTHD, k_BTHD, v_BTHD, dropout_p=dropout)


class SelfAttention(nn.Module):
    """Multi-head softmax self-attention with biases and scale 1/√d_head.

    Parameters
    ----------
    d_model
        Model dimension M, a multiple of `n_heads`.
    n_heads
        Number of heads H.
    dropout
        Dropout of attention weights while training.
    """

    def __init__(self, d_model: int, n_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if d_model % n_heads:
            msg = f"d_model={d_model} must be a multiple of n_heads={n_heads}."
            raise ValueError(msg)
        self.n_heads = n_heads
        self.dropout = dropout
        self.backend = "sdpa"
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int = 0, record: Recorder | None = None
    ) -> Tensor:
        """Attend among the tokens of each cell; output of shape (B, T, M)."""
        q, k, v = self.qkv(x_BTM).unflatten(-1, (3, self.n_heads, -1)).unbind(2)
        dropout = self.dropout if self.training else 0.0
        out = attend(q, k, v, pad_BT=pad_BT, dropout=dropout, backend=self.backend)
        if record is not None:
            record(layer, q, k, v, out)
        return self.out(out.flatten(-2))

    def record_qk(self, x_BTM: Tensor, *, layer: int, record: Recorder) -> None:
        """Compute and record queries and keys only: all that a network needs of the last layer."""
        d_model = x_BTM.shape[-1]
        qk = F.linear(x_BTM, self.qkv.weight[: 2 * d_model], self.qkv.bias[: 2 * d_model])
        q, k = qk.unflatten(-1, (2, self.n_heads, -1)).unbind(2)
        record(layer, q, k, None, None)
