"""One single-threaded worker per core over panels of rows.

A panel is small enough to stay in a core's cache, and too small to be worth splitting: with PyTorch's own threads
inside each operation the cores would mostly wait for one another.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
_CPU = torch.device("cpu")


def panels(n_rows: int, rows_per_panel: int) -> Iterator[tuple[int, int]]:
    """First row and end of each panel."""
    for start in range(0, n_rows, rows_per_panel):
        yield start, min(start + rows_per_panel, n_rows)


def run(work: Callable[[int, int], T], n_rows: int, rows_per_panel: int, device: torch.device = _CPU) -> Iterator[T]:
    """Results of ``work(start, end)`` for every panel, in order, with as many workers as PyTorch has threads.

    Each call of `work` runs on one thread of PyTorch's, with the caller's inference and gradient mode; what it computes
    therefore does not depend on the number of threads. Within a worker, and on other devices than the CPU, the caller
    does the work. At most two results a worker wait to be taken. Work must write to places of its own; buffers that
    outlive a call belong in a :class:`threading.local`.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1 or device.type != "cpu":
        yield from (work(start, end) for start, end in panels(n_rows, rows_per_panel))
        return
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def task(start: int, end: int) -> T:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return work(start, end)

    n_workers = max(1, min(n_threads, -(-n_rows // rows_per_panel)))
    pool = ThreadPoolExecutor(n_workers, "grnlab", initializer=torch.set_num_threads, initargs=(1,))
    waiting: list[Future[T]] = []
    try:
        for start, end in panels(n_rows, rows_per_panel):
            waiting.append(pool.submit(task, start, end))
            if len(waiting) > 2 * n_workers:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)
