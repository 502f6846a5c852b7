"""One side of a case on the CPU: ``python child.py '[job, ...]'`` prints one JSON object a job.

The operation must first be right at small sizes, which also compiles and imports whatever it needs; then the clock and
the memory meter run around one call at the sizes of the case.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ceilings import cpu_ceilings
from problem import Problem
from problems import PROBLEMS, small
from table import Side

_CPU = torch.device("cpu")


def measured(job: dict[str, Any]) -> Side:
    """Check, then time, one way of a problem."""
    torch.set_num_threads(job["threads"])
    build, way = PROBLEMS[job["problem"]], job["way"]

    def checked() -> Side:
        if trouble := red(build(**small(job["sizes"]), device=_CPU), way):
            return Side(trouble=trouble)
        problem = build(**job["sizes"], device=_CPU)
        result, side = metered(problem.ways[way], problem.calls)
        side.rel_err = problem.error(result)
        side.trouble = judged(problem, way, side.rel_err)
        side.work, side.items = {name: amount / problem.calls for name, amount in problem.work.items()}, problem.items
        return side

    return attempt(checked)


def attempt(measure: Callable[[], Side]) -> Side:
    """What `measure` returns, or why it could not: one broken case must not cost the numbers of the others."""
    try:
        return measure()
    except ModuleNotFoundError as error:
        return Side(trouble=f"absent: {error.name}")
    except (MemoryError, torch.OutOfMemoryError):
        return Side(trouble="OOM")
    except Exception as error:  # noqa: BLE001 - whatever a kernel or its compiler may raise
        reason = " ".join(str(error).split())[:200]
        no_memory = "can't allocate memory" in reason  # which PyTorch says on the CPU, in a RuntimeError
        return Side(trouble="OOM" if no_memory else f"failed: {type(error).__name__}: {reason}")


def red(problem: Problem, way: str) -> str:
    """Why a way is not right; nothing when it is."""
    return judged(problem, way, problem.error(problem.ways[way]()))


def judged(problem: Problem, way: str, rel_err: float | None) -> str:
    """Say that an error is above what the problem tolerates. NaN is."""
    tolerance = problem.tolerance if way == "ours" else problem.peer_tolerance
    return "" if rel_err is None or rel_err <= tolerance else f"red: error {rel_err:.2g} above {tolerance:g}"


def metered(call: Callable[[], Any], calls: int) -> tuple[Any, Side]:
    """Result of a call, its CPU and wall time for each of its operations, and its memory."""
    _forget_peak()
    before_mb = _resident_mb("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak_mb = _resident_mb("VmHWM")
    return result, Side(cpu / calls, wall_s=wall / calls, extra_mb=max(peak_mb - before_mb, 0.0), peak_mb=peak_mb)


def _forget_peak() -> None:
    """Let the peak of resident memory start anew; where Linux refuses, it is that of the process so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _resident_mb(name: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process; the peak of the process for both where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def main() -> None:
    """Run the jobs named on the command line."""
    for job in json.loads(sys.argv[1]):
        said = cpu_ceilings() if job.get("problem") is None else asdict(measured(job))
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
