"""How fast this machine multiplies, exponentiates and copies at best; measured in the run that uses the numbers."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

_FLUSH_BYTES = 256 << 20  # several times the L2 cache of any GPU so far


def cpu_ceilings() -> dict[str, float]:
    """Rates of one core: float32 flops, exponentials, bytes read and written, all a second."""
    torch.set_num_threads(1)
    a = torch.rand(1024, 1024)
    x = torch.rand(1 << 15)
    source, target = torch.rand(2, 1 << 25)
    products = [lambda: torch.mm(a, a.T)]
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # oneDNN, which is the faster one on AMD cores
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], ""))
    return {
        "flops": 2 * 1024**3 / min(_cpu_seconds(product) for product in products),
        "exps": x.numel() / _cpu_seconds(lambda: torch.exp(x, out=torch.empty_like(x)), calls=50),
        "bytes": 2 * source.nbytes / _cpu_seconds(lambda: target.copy_(source)),
    }


def _cpu_seconds(call: Callable[[], Any], *, calls: int = 1) -> float:
    call()
    times = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(calls):
            call()
        times.append((time.process_time() - start) / calls)
    return min(times)


def gpu_ceilings(device: torch.device) -> dict[str, float]:
    """Rates of the device: bfloat16 flops, exponentials, bytes read and written; a row's unit is a millisecond."""
    if device.type != "cuda":
        return {**cpu_ceilings(), "seconds_per_unit": 1e-3}
    from exp_rate import exponentials

    a, b = torch.randn(2, 8192, 8192, device=device, dtype=torch.bfloat16)
    source = torch.empty(1 << 32, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    n_exps, run_exps = exponentials(device)
    return {
        "flops": 2 * 8192**3 / (1e-3 * milliseconds(lambda: a @ b, device)[0]),
        "exps": n_exps / (1e-3 * milliseconds(run_exps, device)[0]),
        "bytes": 2 * source.nbytes / (1e-3 * milliseconds(lambda: target.copy_(source), device)[0]),
        "seconds_per_unit": 1e-3,
    }


def milliseconds(call: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Median time of a call, the smaller of two medians, and how far the larger is above it, as a share.

    Between calls the L2 cache is filled with something else. A call must have run once before.
    """
    medians = sorted(_median(call, device) for _ in range(2))
    return medians[0], medians[1] / medians[0] - 1


def _median(call: Callable[[], Any], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device=device)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 150 and len(times) < 50):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        times.append(start.elapsed_time(end))
    return statistics.median(times)
