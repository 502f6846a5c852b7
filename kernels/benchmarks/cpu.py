"""The CPU suite: every side of a case in a fresh process, CPU-seconds and peak memory around one call.

Both sides have the same number of threads; one thread, unless the case says otherwise, so that CPU-seconds mean work
and not waiting. Standard library alone, as :mod:`table` explains.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from table import Case, Row, Side, Target

_CHILD = Path(__file__).with_name("child.py")
_SMOKE = {"genes": 60, "heads": 4, "d_head": 16}


def maps(genes: int, heads: int = 64, d_head: int = 64, **more: int) -> dict[str, int]:
    """Sizes of pooled queries and keys."""
    return {"genes": genes, "heads": heads, "d_head": d_head, **more}


CASES = (
    Case(
        "mean-map",
        "mean_map",
        (maps(5000), maps(2000, 32), _SMOKE),
        "loop over heads",
        (Target("time_ratio", ">=", 4), Target("rel_err", "<=", 1e-5)),
        (Target("rel_err", "<=", 1e-5),),
    ),
    Case(
        "mean-map-cat",
        "mean_map",
        (maps(2500), maps(1000, 32), _SMOKE),
        "all heads, torch.cat",
        (Target("memory_ratio", ">=", 20), Target("rel_err", "<=", 1e-5)),
        (Target("memory_ratio", ">=", 5),),
    ),
    Case(
        "mean-map-symmetric",
        "symmetric_map",
        (maps(5000), maps(2000, 32), _SMOKE),
        "loop over heads",
        (Target("time_ratio", ">=", 4), Target("rel_err", "<=", 1e-5)),
        (Target("rel_err", "<=", 1e-5),),
    ),
    Case(
        "topk-genome",
        "topk",
        (maps(20_000, 32, edges=50), maps(3000, 16, edges=50), _SMOKE | {"edges": 5}),
        None,
        (Target("time", "<=", 45), Target("peak_mb", "<=", 1000), Target("rel_err", "<=", 1e-5)),
        (Target("peak_mb", "<=", 1000), Target("rel_err", "<=", 1e-5)),
    ),
    Case(
        "topk-dense",
        "topk",
        (maps(5000, 32, edges=50), maps(2000, 16, edges=50), _SMOKE | {"edges": 5}),
        "dense map, topk",
        (Target("time_ratio", ">=", 2), Target("memory_ratio", ">=", 4), Target("rel_err", "<=", 1e-5)),
        (Target("rel_err", "<=", 1e-5),),
    ),
    Case(
        "head-selection",
        "head_selection",
        (maps(2000), maps(400, 32), _SMOKE),
        "scikit-learn Ridge",
        (Target("time_ratio", ">=", 8), Target("memory_ratio", ">=", 10), Target("rel_err", "<=", 1e-6)),
        (Target("rel_err", "<=", 1e-6),),
    ),
    Case(
        "head-selection-5k",
        "head_selection",
        (maps(5000), maps(1000, 32), _SMOKE),
        None,
        (Target("wall_s", "<=", 30),),
        (Target("wall_s", "<=", 30),),
        threads=2,
    ),
    Case(
        "head-auprc",
        "average_precision",
        (maps(1500, 32), maps(500, 8), _SMOKE),
        "scikit-learn, a head at a time",
        (Target("time_ratio", ">=", 4), Target("rel_err", "<=", 1e-3)),
        (Target("rel_err", "<=", 1e-3),),
    ),
    Case(
        "cell-mean",
        "shared_genes",
        (
            maps(1000, 32, cells=32, batch=32),
            maps(500, 8, cells=8, batch=8),
            _SMOKE | {"cells": 8, "batch": 8},
        ),
        "loop over cells and heads",
        (Target("time_ratio", ">=", 1), Target("rel_err", "<=", 1e-5)),
        (Target("rel_err", "<=", 1e-5),),
    ),
    Case(
        "cell-mean-batched",
        "shared_genes",
        (
            maps(1000, 32, cells=32, batch=32),
            maps(500, 8, cells=8, batch=8),
            _SMOKE | {"cells": 8, "batch": 8},
        ),
        "8 cells at once",
        (Target("time_ratio", ">=", 2), Target("memory_ratio", ">=", 20)),
        (Target("memory_ratio", ">=", 5),),
    ),
    Case(
        "cell-scatter",
        "own_genes",
        (
            maps(1000, 32, cells=32, batch=32, genome=10_000),
            maps(500, 8, cells=8, batch=8, genome=2000),
            _SMOKE | {"cells": 4, "batch": 2, "genome": 100},
        ),
        "loop over cells and heads",
        (Target("time_ratio", ">=", 1), Target("rel_err", "<=", 1e-5)),
        (Target("rel_err", "<=", 1e-5),),
    ),
    Case(
        "zinb",
        "zinb",
        (
            {"cells": 32, "tokens": 1024, "calls": 50},
            {"cells": 32, "tokens": 1024, "calls": 10},
            {"cells": 4, "tokens": 64, "calls": 1},
        ),
        "textbook, float32",
        (Target("time_ratio", ">=", 0.5), Target("error_ratio", ">=", 100), Target("rel_err", "<=", 1e-5)),
        (Target("error_ratio", ">=", 100), Target("rel_err", "<=", 1e-5)),
    ),
    Case(
        "sampler",
        "sampler",
        (
            {"cells": 10_000, "genes": 20_000, "expressed": 1250, "tokens": 1024},
            {"cells": 1000, "genes": 20_000, "expressed": 1250, "tokens": 1024},
            {"cells": 20, "genes": 200, "expressed": 40, "tokens": 50},
        ),
        "numpy loop over cells",
        (Target("items_per_s", ">=", 100_000), Target("time_ratio", ">=", 10)),
        (Target("time_ratio", ">=", 5),),
    ),
)


def run(cases: Sequence[Case], size: str) -> Iterator[Row]:
    """Rows of the cases: each side twice in the full run, once otherwise.

    ``quick`` has two processes at a time, which costs precision; ``smoke`` has one for all.
    """
    jobs = [
        {"problem": case.problem, "sizes": case.at(size), "way": way, "threads": case.threads}
        for case in cases
        for way in ("ours", case.peer)
        if way is not None
    ]
    if size == "smoke":
        ceilings, *said = _child([{}, *jobs], timeout=600)
        yield from _rows(cases, size, (Side(**one) for one in said), ceilings)
        return
    (ceilings,) = _child([{}], timeout=120)
    repeats, at_a_time = (2, 1) if size == "full" else (1, 2)
    with ThreadPoolExecutor(at_a_time) as pool:
        waiting = [[pool.submit(_one, job) for _ in range(repeats)] for job in jobs]
        measured = (Side.best_of([run.result() for run in runs]) for runs in waiting)
        yield from _rows(cases, size, measured, ceilings)


def _rows(cases: Sequence[Case], size: str, sides: Iterator[Side], ceilings: dict[str, float]) -> Iterator[Row]:
    for case in cases:
        ours = next(sides)
        yield Row(case, size, ours, None if case.peer is None else next(sides), ceilings)


def _one(job: dict[str, Any]) -> Side:
    """One side in a process of its own."""
    try:
        return Side(**_child([job], timeout=1800)[0])
    except subprocess.TimeoutExpired as error:
        return Side(trouble=f"failed: not done after {error.timeout:g} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        return Side(trouble="OOM" if error.returncode == -9 else f"failed: {last}")


def _child(jobs: list[dict[str, Any]], *, timeout: int) -> list[dict[str, Any]]:
    threads = str(max((job.get("threads", 1) for job in jobs), default=1))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, threads), "GRNLAB_KERNELS": "auto"}
    done = subprocess.run(
        [sys.executable, str(_CHILD), json.dumps(jobs)],
        env=environment,
        timeout=timeout,
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
