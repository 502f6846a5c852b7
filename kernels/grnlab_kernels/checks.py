"""What every operation asks of its input; one sentence each, naming the argument, what came and what to do."""

import math

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
D_HEADS = (16, 32, 64, 128)


def check_queries_keys(q: Tensor, k: Tensor, *, n_dims: int, backend: str) -> None:
    """Queries and keys: same shape, dtype and device, floating, contiguous; for Triton a d_head the kernels know.

    Parameters
    ----------
    q, k
        Shape (heads, genes, d_head) when `n_dims` is 3, (cells, heads, genes, d_head) when it is 4.
    n_dims
        3 or 4.
    backend
        As :func:`grnlab_kernels.resolve_backend` named it.

    Raises
    ------
    ValueError, TypeError
        With the reason and the mend.
    """
    layout = {3: "(heads, genes, d_head)", 4: "(cells, heads, genes, d_head)"}[n_dims]
    if q.ndim != n_dims or q.shape != k.shape:
        msg = f"q and k must have the same shape {layout}; got {tuple(q.shape)} and {tuple(k.shape)}."
        raise ValueError(msg)
    if min(q.shape) < 1:
        msg = f"q and k must not be empty; got shape {tuple(q.shape)}, expected {layout}."
        raise ValueError(msg)
    if q.dtype not in DTYPES or q.dtype != k.dtype:
        msg = f"q and k must share one dtype of {DTYPES}; got {q.dtype} and {k.dtype}. Convert with .float()."
        raise TypeError(msg)
    if q.device != k.device:
        msg = f"q and k must be on one device; got {q.device} and {k.device}. Move them with .to(device)."
        raise ValueError(msg)
    for name, x in (("q", q), ("k", k)):
        if not x.is_contiguous():
            msg = f"{name} of shape {tuple(x.shape)} has strides {x.stride()}; call .contiguous() first."
            raise ValueError(msg)
    if backend == "triton" and q.shape[-1] not in D_HEADS:
        msg = f'd_head={q.shape[-1]} is not one of {D_HEADS}, which the Triton kernels take; use backend="torch".'
        raise ValueError(msg)


def check_scale(scale: float) -> None:
    """Factor of the logits: positive and finite."""
    if not 0 < scale < math.inf:
        msg = f"scale={scale} must be positive and finite, such as 1/√d_head."
        raise ValueError(msg)


def check_weights(weights_H: Tensor, n_heads: int) -> None:
    """One finite non-negative weight a head, not all zero."""
    if weights_H.shape != (n_heads,):
        msg = f"weights_H has shape {tuple(weights_H.shape)}; expected one weight for each of {n_heads} heads."
        raise ValueError(msg)
    if not torch.isfinite(weights_H).all() or (weights_H < 0).any() or not weights_H.sum() > 0:
        msg = f"weights_H must be finite and non-negative with a positive sum; got {weights_H.tolist()}."
        raise ValueError(msg)


def check_genes(name: str, genes: Tensor, n_genes: int) -> None:
    """Gene numbers: int64 in [0, n_genes)."""
    if genes.dtype != torch.int64:
        msg = f"{name} has dtype {genes.dtype}; expected gene numbers as int64. Convert with .long()."
        raise TypeError(msg)
    if len(genes) and not (int(genes.min()) >= 0 and int(genes.max()) < n_genes):
        msg = f"{name} holds gene numbers from {int(genes.min())} to {int(genes.max())}; expected 0 to {n_genes - 1}."
        raise ValueError(msg)
