"""The suite for one large GPU: its ceilings first, then each case beside plain PyTorch on the same tensors."""

import gc
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from ceilings import gpu_ceilings, milliseconds
from child import attempt, judged, red
from cpu import maps
from problems import PROBLEMS, small
from table import Case, Row, Side, Target

_CEILING = Target("fraction_of_ceiling", ">=", 0.4)
_SMOKE = {"genes": 60, "heads": 4, "d_head": 16}
_CELLS = (
    maps(2000, cells=1000, batch=40),
    maps(1000, 16, cells=80, batch=40),
    _SMOKE | {"cells": 16, "batch": 8},
)
_OWN = (
    maps(2000, 32, 32, cells=1000, batch=50, genome=20_000),
    maps(1000, 16, 32, cells=80, batch=40, genome=10_000),
    _SMOKE | {"cells": 4, "batch": 2, "genome": 100},
)


def _map(name: str, genes: int, heads: int, d_head: int, peer: str, *targets: Target) -> Case:
    sizes = maps(genes, heads, d_head), maps(genes // 4, heads // 2, d_head), _SMOKE
    return Case(name, "mean_map", sizes, peer, (_CEILING, *targets))


def _topk(name: str, genes: int, edges: int) -> Case:
    sizes = maps(genes, 32, edges=edges), maps(genes // 8, 16, edges=edges), _SMOKE | {"edges": 5}
    return Case(name, "topk", sizes, "dense map, topk", (_CEILING,))


CASES = (
    _map("map-5k-d64", 5000, 64, 64, "loop over heads"),
    _map("map-5k-d64-compiled", 5000, 64, 64, "compiled loop over heads"),
    _map("map-5k-d64-at-once", 5000, 64, 64, "all heads at once"),
    _map("map-5k-d32", 5000, 64, 32, "loop over heads"),
    _map("map-20k", 20_000, 32, 64, "loop over heads"),
    _map("map-20k-at-once", 20_000, 32, 64, "all heads at once"),
    Case("map-5k-symmetric", "symmetric_map", (maps(5000), maps(1250, 32), _SMOKE), "loop over heads", (_CEILING,)),
    _topk("topk-20k", 20_000, 100),
    _topk("topk-60k", 60_000, 100),
    Case("gram-5k", "gram", (maps(5000), maps(1250, 32), _SMOKE), "all pairs in memory", (_CEILING,)),
    Case(
        "head-auprc-5k",
        "average_precision",
        (maps(5000), maps(1250, 32), _SMOKE),
        "torch.sort, a head at a time",
        (_CEILING,),
    ),
    Case("cell-mean", "shared_genes", _CELLS, "compiled loop over cells", (_CEILING, Target("time_ratio", ">=", 8))),
    Case("cell-mean-batched", "shared_genes", _CELLS, "8 cells at once", (_CEILING,)),
    Case("cell-scatter", "own_genes", _OWN, "loop over cells and heads", (_CEILING,)),
    Case(
        "zinb",
        "zinb",
        (
            {"cells": 256, "tokens": 1024, "calls": 10},
            {"cells": 64, "tokens": 1024, "calls": 10},
            {"cells": 4, "tokens": 64, "calls": 1},
        ),
        "textbook, float32",
        (Target("error_ratio", ">=", 100),),
    ),
)


def run(cases: Sequence[Case], size: str) -> Iterator[Row]:
    """Rows of the cases; ``smoke`` runs on the CPU."""
    device = torch.device("cpu" if size == "smoke" else "cuda")
    ceilings = gpu_ceilings(device)
    timed: dict[str, Side] = {}
    for case in cases:
        sides = []
        for way in ("ours", case.peer or "ours"):
            key = f"{case.problem} {case.at(size)} {way}"
            if key not in timed:
                timed[key] = attempt(partial(_measured, case, size, way, device))
                gc.collect()
                if device.type == "cuda":
                    torch.cuda.empty_cache()
            sides.append(timed[key])
        yield Row(case, size, sides[0], sides[1] if case.peer else None, ceilings)


def _measured(case: Case, size: str, way: str, device: torch.device) -> Side:
    """Check at small sizes and at those of the case, then time."""
    build = PROBLEMS[case.problem]
    if trouble := red(build(**small(case.at(size)), device=device), way):
        return Side(trouble=trouble)
    problem = build(**case.at(size), device=device)
    call = problem.ways[way]
    before = _allocated(device)
    result = call()  # compiles and warms up
    peak = _peak(device)
    rel_err = problem.error(result)
    del result
    time, noise = milliseconds(call, device)
    return Side(
        time / problem.calls,
        noise=noise,
        wall_s=1e-3 * time / problem.calls,
        extra_mb=(peak - before) / 1e6,
        peak_mb=peak / 1e6,
        rel_err=rel_err,
        trouble=judged(problem, way, rel_err),
        work={name: amount / problem.calls for name, amount in problem.work.items()},
        items=problem.items,
    )


def _allocated(device: torch.device) -> int:
    """Bytes held now; the peak starts anew."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
