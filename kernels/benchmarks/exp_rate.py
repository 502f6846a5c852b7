"""A kernel that does nothing but exponentials; imports Triton, so it is itself imported where it runs."""

from collections.abc import Callable

import torch
import triton
import triton.language as tl

_BLOCK, _ROUNDS = 2048, 512


@triton.jit
def exp2_rounds(x_ptr, n_rounds, BLOCK: tl.constexpr):
    """``x ← 2^(−x)``, over and over, in registers."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + place)
    for _ in range(n_rounds):
        x = tl.exp2(-x)
    tl.store(x_ptr + place, x)


def exponentials(device: torch.device) -> tuple[int, Callable[[], None]]:
    """Number of exponentials, and what runs them; it has run once."""
    n_programs = 64 * torch.cuda.get_device_properties(device).multi_processor_count
    x = torch.rand(n_programs * _BLOCK, device=device)

    def run() -> None:
        exp2_rounds[(n_programs,)](x, _ROUNDS, BLOCK=_BLOCK, num_warps=8)

    run()
    return x.numel() * _ROUNDS, run
