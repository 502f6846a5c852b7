"""What a piece of work costs: CPU-seconds of this process, and the peak of its memory while the work ran."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Cost:
    """CPU-seconds of all threads, and peak resident memory of the process in MB (NaN where it cannot be read)."""

    cpu_s: float = 0.0
    peak_mb: float = float("nan")

    def add(self, other: "Cost") -> None:
        """Count work done earlier as if it were done now."""
        self.cpu_s += other.cpu_s
        self.peak_mb = max(other.peak_mb, self.peak_mb) if self.peak_mb == self.peak_mb else other.peak_mb


@contextlib.contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block.

    Examples
    --------
    >>> with measured() as cost:
    ...     total = sum(range(100_000))
    >>> cost.cpu_s > 0
    True
    """
    cost = Cost()
    can_reset = _reset_peak()
    started = time.process_time()
    try:
        yield cost
    finally:
        cost.cpu_s = time.process_time() - started
        if can_reset:
            cost.peak_mb = _peak_mb()


class Shared:
    """Results that several methods use: computed once, charged to each method as if it had run alone."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[Any, Cost]] = {}
        self._charged: list[Cost] = []
        self._new: list[Cost] = []

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Result kept under `key`, or that of `make`."""
        if key in self._kept:
            self._charged.append(self._kept[key][1])
            return self._kept[key][0]
        with measured() as cost:
            found = make()
        self._kept[key] = (found, cost)
        self._new.append(cost)
        return found

    @contextlib.contextmanager
    def method(self) -> Iterator[Cost]:
        """Measure a method, the shared results it uses included."""
        self._charged, self._new = [], []
        own = Cost()
        try:
            with measured() as run:
                yield own
        finally:
            own.add(run)
            for cost in self._charged:
                own.add(cost)
            for cost in self._new:  # its time is in the run already; its peak was taken before the later reset
                own.add(Cost(0.0, cost.peak_mb))


def _reset_peak() -> bool:
    try:
        _RESET.write_text("5", encoding="ascii")  # Linux: the peak starts again from what is resident now
    except OSError:
        return False
    return True


def _peak_mb() -> float:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")
