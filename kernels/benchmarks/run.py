"""Cost of the kernels beside plain ways to compute the same.

``python kernels/benchmarks/run.py --suite cpu|h200 [--quick] [--case NAME ...] [--json FILE]`` prints a Markdown table;
the exit status is 1 when a target is missed. An operation is not timed unless it is right: each way is compared with
the float64 reference at small sizes first, and its result at full size after; the h200 suite runs the GPU tests of the
kernels before anything else. grnlab need not be installed.
"""

import argparse
import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cpu
import table

# The process that starts those of the CPU suite imports the standard library alone, see table.py.

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("torch", "numpy", "triton", "numba", "scipy", "scikit-learn")
_GPU_TESTS = "tests/kernels/on_triton"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, print; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suite", required=True, choices=("cpu", "h200"))
    parser.add_argument("--quick", action="store_true", help="smaller sizes; the CPU suite within a minute on 2 cores")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU without targets: does it run?")
    parser.add_argument("--case", nargs="+", metavar="NAME", help="these cases alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write conditions and rows")
    chosen = parser.parse_args(arguments)
    size = "smoke" if chosen.smoke else "quick" if chosen.quick else "full"
    places = [str(_ROOT / "kernels"), str(_ROOT)]  # also where the packages are not installed
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*places, os.environ.get("PYTHONPATH")]))
    sys.path[1:1] = places
    suite = cpu if chosen.suite == "cpu" else _h200(size)
    names = [case.name for case in suite.CASES]
    if unknown := set(chosen.case or ()) - set(names):
        parser.error(f"--case {' '.join(sorted(unknown))}: unknown; the suite has {', '.join(names)}")
    cases = [case for case in suite.CASES if chosen.case is None or case.name in chosen.case]
    conditions, started, rows = _conditions(chosen.suite, size), time.monotonic(), []
    for row in suite.run(cases, size):
        rows.append(row)
        conditions |= {"wall_s": round(time.monotonic() - started, 1), "ceilings": row.ceilings}
        print(f"{conditions['wall_s']} s: {row.case.name} {'; '.join(row.missed)}", file=sys.stderr)
        if chosen.json is not None:  # after every row: a run that is cut short keeps what it has
            table.write_json(chosen.json, chosen.suite, conditions, rows)
    print(table.markdown(rows, chosen.suite))
    return int(any(row.missed for row in rows))


def _h200(size: str) -> Any:
    """The GPU suite, once its device is there and its tests are green."""
    import torch

    if size != "smoke":
        if not torch.cuda.is_available():
            sys.exit("--suite h200 needs a CUDA device and finds none; --suite cpu, or --smoke to see its cases run.")
        if os.environ.get("TRITON_INTERPRET") == "1":
            sys.exit("--suite h200 would time Triton's interpreter: TRITON_INTERPRET=1 is set; unset it.")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--confcutdir=tests/kernels", _GPU_TESTS]
        tests = subprocess.run(command, cwd=_ROOT, check=False, capture_output=True, text=True)
        print(tests.stdout[-2000:], file=sys.stderr)
        if tests.returncode != 0:
            sys.exit(f"nothing is timed: {' '.join(command[1:])} ended with status {tests.returncode}.")
    import h200

    return h200


def _conditions(suite: str, size: str) -> dict[str, Any]:
    """Where, when and with what."""
    found = {
        "size": size,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }
    if suite == "h200" and size != "smoke":
        import torch
        from grnlab_kernels import resolve_backend

        found |= {"gpu": torch.cuda.get_device_name(), "backend": resolve_backend("auto", "cuda")}
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
