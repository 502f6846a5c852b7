"""Training attention in bfloat16 on the CPU, without keeping the attention maps.

PyTorch's fused CPU kernel multiplies bfloat16 matrices no faster than float32; its batched products use the processor's
bfloat16 instructions where there are any (Zen 4, Cooper Lake and later) and are some 4 times faster. So the same
recomputing scheme is done here with batched products, cell by cell and some rows at a time, small enough for the cache.

Shape suffixes: B cells, T tokens, K tokens that are no padding, R rows of a block, H heads, D head dimension.
"""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

_ROWS = 512  # of a block: 2 MB of logits for 2 heads and 1,000 tokens


def fits(q_BTHD: Tensor) -> bool:
    """Whether this is faster: for bfloat16 on a CPU with instructions for it, where gradients are needed."""
    on_cpu = q_BTHD.device.type == "cpu" and q_BTHD.dtype == torch.bfloat16
    return on_cpu and q_BTHD.requires_grad and torch.is_grad_enabled() and _has_bfloat16()


@cache
def _has_bfloat16() -> bool:
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def attend_in_blocks(q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, pad_BT: Tensor | None = None) -> Tensor:
    """Attention output ``softmax(q kᵀ / √d_head) v``, shape (B, T, H, D), in the dtype of the inputs.

    Logits are rounded to bfloat16, as in PyTorch's attention by matrix products. Forward and backward each form the map
    of a cell anew, at most 512 rows of it at a time; a padded key costs nothing.

    Parameters
    ----------
    q_BTHD, k_BTHD, v_BTHD
        Shape (batch, tokens, heads, d_head).
    pad_BT
        True where a token is padding: nothing attends to it.
    """
    return _Blocks.apply(q_BTHD, k_BTHD, v_BTHD, pad_BT)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_BTHD, k_BTHD, v_BTHD, pad_BT):  # type: ignore[no-untyped-def]
        out_BTHD = torch.empty(q_BTHD.shape, dtype=q_BTHD.dtype)
        map_HRT = _buffer(q_BTHD)
        with torch.autocast("cpu", enabled=False):
            for cell in range(len(q_BTHD)):
                q_HTD, k_HKD, v_HKD = _cell(cell, q_BTHD, k_BTHD, v_BTHD, pad_BT)
                out_HTD = out_BTHD[cell].transpose(0, 1)
                for rows in _blocks(q_HTD):
                    map_HRK = _softmax(q_HTD[:, rows], k_HKD, map_HRT)
                    out_HTD[:, rows] = torch.bmm(map_HRK, v_HKD)
        ctx.save_for_backward(q_BTHD, k_BTHD, v_BTHD, pad_BT)
        return out_BTHD

    @staticmethod
    def backward(ctx, grad_BTHD):  # type: ignore[no-untyped-def]
        q_BTHD, k_BTHD, v_BTHD, pad_BT = ctx.saved_tensors
        dq_BTHD, dk_BTHD, dv_BTHD = (torch.zeros_like(x) for x in (q_BTHD, k_BTHD, v_BTHD))
        map_HRT, dmap_HRT = _buffer(q_BTHD), _buffer(q_BTHD)
        for cell in range(len(q_BTHD)):
            q_HTD, k_HKD, v_HKD = _cell(cell, q_BTHD, k_BTHD, v_BTHD, pad_BT)
            grad_HTD = grad_BTHD[cell].transpose(0, 1).contiguous()
            dq_HTD = dq_BTHD[cell].transpose(0, 1)
            dk_HKD, dv_HKD = (torch.zeros(x.shape, dtype=torch.float32) for x in (k_HKD, v_HKD))
            for rows in _blocks(q_HTD):
                q_HRD, grad_HRD = q_HTD[:, rows], grad_HTD[:, rows]
                map_HRK = _softmax(q_HRD, k_HKD, map_HRT)
                dv_HKD += torch.bmm(map_HRK.mT, grad_HRD)
                dmap_HRK = torch.bmm(grad_HRD, v_HKD.mT, out=_part(dmap_HRT, map_HRK.shape))
                torch._softmax_backward_data(dmap_HRK, map_HRK, -1, map_HRK.dtype, grad_input=dmap_HRK)
                dq_HTD[:, rows] = torch.bmm(dmap_HRK, k_HKD) * q_BTHD.shape[-1] ** -0.5
                dk_HKD += torch.bmm(dmap_HRK.mT, q_HRD)
            real = slice(None) if pad_BT is None else ~pad_BT[cell]
            dk_BTHD[cell, real] = dk_HKD.transpose(0, 1).to(k_BTHD.dtype)
            dv_BTHD[cell, real] = dv_HKD.transpose(0, 1).to(v_BTHD.dtype)
        return dq_BTHD, dk_BTHD, dv_BTHD, None


def _cell(
    cell: int, q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, pad_BT: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled queries of one cell, and its keys and values without padding; heads first, contiguous."""
    real = slice(None) if pad_BT is None else ~pad_BT[cell]
    q_HTD = (q_BTHD[cell] * q_BTHD.shape[-1] ** -0.5).transpose(0, 1)
    k_HKD, v_HKD = (x_BTHD[cell, real].transpose(0, 1) for x_BTHD in (k_BTHD, v_BTHD))
    return q_HTD.contiguous(), k_HKD.contiguous(), v_HKD.contiguous()


def _blocks(q_HTD: Tensor) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, q_HTD.shape[1], _ROWS))


def _buffer(q_BTHD: Tensor) -> Tensor:
    """Room for the largest block: new memory for each would cost as much as the softmax."""
    n_tokens, n_heads = q_BTHD.shape[1:3]
    return torch.empty(n_heads * min(_ROWS, n_tokens) * n_tokens, dtype=q_BTHD.dtype)


def _part(buffer: Tensor, shape: torch.Size) -> Tensor:
    return buffer[: shape.numel()].view(shape)


def _softmax(q_HRD: Tensor, k_HKD: Tensor, buffer: Tensor) -> Tensor:
    """Rows of the map, in the buffer."""
    shape = torch.Size((*q_HRD.shape[:2], k_HKD.shape[1]))
    map_HRK = torch.bmm(q_HRD, k_HKD.mT, out=_part(buffer, shape))
    return torch.softmax(map_HRK, dim=-1, out=map_HRK)
