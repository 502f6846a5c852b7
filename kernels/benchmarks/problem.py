"""A problem: seeded inputs, every way to compute the result, how wrong a result is, and the work it needs.

Shape suffixes here and in the problems: B cells, H heads, N genes, T genes of a cell, G genes of the genome, D head
dimension, S sampled rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from grnlab_kernels import reference
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """One operation on seeded inputs.

    Attributes
    ----------
    ways
        Name → what is timed. ``"ours"`` is the operation of this package; the others are peers on the same inputs.
    error
        Error of a result against :mod:`grnlab_kernels.reference` in float64, on rows or heads drawn at random.
    work
        Least ``flops``, ``exps`` and ``bytes`` of device memory of one call, by the streaming algorithm.
    tolerance, peer_tolerance
        Errors above are wrong results.
    calls
        Calls of the operation that a way makes.
    items
        What a call handles, where it is counted (cells).
    """

    ways: dict[str, Callable[[], Any]]
    error: Callable[[Any], float | None]
    work: dict[str, float]
    tolerance: float = 1e-4
    peer_tolerance: float = 5e-2
    calls: int = 1
    items: int = 1


def generator(seed: int, device: torch.device) -> torch.Generator:
    """Source of the inputs."""
    return torch.Generator(device).manual_seed(seed)


def queries_keys(shape: tuple[int, ...], device: torch.device, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random queries and keys whose logits have a spread of 1: float32 on the CPU, bfloat16 elsewhere."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    source = generator(seed, device)
    return (
        torch.randn(shape, generator=source, device=device, dtype=dtype),
        torch.randn(shape, generator=source, device=device, dtype=dtype),
    )


def weights(n_heads: int, device: torch.device) -> Tensor:
    """Weights of heads, summing to 1."""
    drawn = torch.rand(n_heads, generator=generator(1, torch.device("cpu"))) + 0.5
    return (drawn / drawn.sum()).to(device)


def sampled(n_genes: int, device: torch.device, n_rows: int = 8) -> Tensor:
    """Rows to check, fewer than all where there are many."""
    return torch.randperm(n_genes, generator=generator(2, torch.device("cpu")))[:n_rows].to(device)


def map_rows(q_HND: Tensor, k_HND: Tensor, share_H: Tensor, rows_S: Tensor, scale: float) -> Tensor:
    """Rows of the combined map in float64, shape (S, N)."""
    shares_HSN = reference.attention(q_HND[:, rows_S], k_HND, scale=scale)
    return torch.einsum("h,hsn->sn", share_H.double(), shares_HSN)


def relative(got: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value; NaN and infinity stay what they are."""
    return float((got.double() - expected).abs().max() / expected.abs().max())


def softmax_map(q_ND: Tensor, k_ND: Tensor, scale: float) -> Tensor:
    """The plain map of one head, float32."""
    return torch.softmax((q_ND @ k_ND.T).float() * scale, -1)


def passes(device: torch.device) -> int:
    """Times each logit must be formed: on the CPU a row is whole, elsewhere its log-sum-exp takes a pass of its own."""
    return 1 if device.type == "cpu" else 2
