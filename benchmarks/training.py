"""What a training step costs, beside the published scprint package, and whether the loader keeps up.

``python benchmarks/training.py [--quick] [--peer-python PATH] [--json FILE]`` prints a Markdown table and a row of JSON
per case; the exit status is 1 when a case fails or a target is missed. Both sides get the same batches from a file and
run the same plain loop (corruption and losses, backward, clipping at 100, AdamW) with the four tasks of the scPRINT
paper, each side with its own code. Each case runs in a fresh process with one thread. Cells per second are counted in
CPU seconds of the fastest step after the first, so that other work on the machine counts little.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import processes
from processes import Run, conditions, machine, made_up_vocab, measure, report, run_script

HERE = Path(__file__).parent
SMALL = {"n_layers": 4, "d_model": 128, "n_heads": 2}  # the published scPRINT small
N_GENES = 44_756  # its vocabulary
CLASSES = {"cell_type": 424, "disease": 62, "assay": 26, "ethnicity": 21, "sex": 2, "organism": 2}  # leaves
N_GROUPS = 40  # coarse labels of cell_type, ten leaves each
CONTEXTS = {2_200: "published", 1_000: "short"}  # genes per cell
TASKS = ("denoise", "classify", "contrast", "bottleneck")
PEER = "scprint 2.3.8"


@dataclass
class Row:
    """One line of the table."""

    case: str
    cells_per_s: float | None = None
    peer: str = ""
    peer_cells_per_s: float | None = None
    peak_mb: float | None = None
    peer_peak_mb: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def batches(path: str, *, n_batches: int, batch_size: int, n_tokens: int, seed: int) -> dict[str, Any]:
    """Write synthetic batches: distinct genes, gamma-Poisson counts with 60 % zeros, labels at two levels."""
    import numpy as np

    rng = np.random.default_rng(seed)
    shape = (n_batches, batch_size, n_tokens)
    genes = np.stack([rng.permutation(N_GENES)[:n_tokens] for _ in range(n_batches * batch_size)]).reshape(shape)
    values = rng.poisson(rng.lognormal(-0.55, 1.2, shape) * rng.gamma(0.5, 1.0, shape)).astype(np.float32)
    labels = np.stack([rng.integers(-1, n, shape[:2]) for n in CLASSES.values()], axis=-1)
    coarse = rng.random(shape[:2]) < 0.2
    labels[..., 0] = np.where(coarse, CLASSES["cell_type"] + rng.integers(N_GROUPS, size=shape[:2]), labels[..., 0])
    np.savez(path, genes=genes, values=values, totals=values.sum(-1) * 1.3, labels=labels)
    return {"fraction_expressed": float((values > 0).mean())}


def steps(path: str, *, dtype: str, seed: int) -> dict[str, Any]:
    """Training steps on these batches."""
    import contextlib
    import resource

    import numpy as np
    import torch

    from grnlab.backbones import ScPrint, ScPrintConfig
    from grnlab.data import CellTokens
    from grnlab.objectives import build_objectives

    torch.manual_seed(seed)
    leaves = {name: tuple(f"{name} {number}" for number in range(n)) for name, n in CLASSES.items()}
    groups = {f"group {g}": leaves["cell_type"][10 * g : 10 * g + 10] for g in range(N_GROUPS)}
    config = ScPrintConfig(**SMALL, classes=leaves, groups={"cell_type": groups})
    model = ScPrint(made_up_vocab(N_GENES), config).train()
    objectives = build_objectives(TASKS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, foreach=True)
    generator = torch.Generator().manual_seed(seed)
    data = np.load(path)
    imported_mb, spent, losses = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, [], []
    for genes, values, totals, labels in zip(*(data[k] for k in ("genes", "values", "totals", "labels")), strict=True):
        started = time.process_time(), time.perf_counter()
        codes = {name: torch.from_numpy(labels[:, place].copy()) for place, name in enumerate(CLASSES)}
        target = CellTokens(torch.from_numpy(genes), torch.from_numpy(values), torch.from_numpy(totals), labels=codes)
        seen = target
        for objective in objectives:
            seen = objective.corrupt(seen, generator=generator)
        with torch.autocast("cpu", torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext():
            encoded = model.encode(seen)
            loss = sum(objective.loss(model, encoded, seen=seen, target=target) for objective in objectives)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
        spent.append((time.process_time() - started[0], time.perf_counter() - started[1]))
        losses.append(loss.item())
    return {
        "cpu_s_per_step": min(cpu for cpu, _ in spent[1:]),
        "wall_s_per_step": min(wall for _, wall in spent[1:]),
        "rss_before_mb": imported_mb,
        "tasks": f"one pass for {', '.join(TASKS[:3])}; a second for {TASKS[3]}",
        "losses": losses,
        "finite": bool(np.isfinite(losses).all()),
        "n_parameters": sum(weight.numel() for weight in model.parameters()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def loader(*, n_cells: int, batch_size: int, n_tokens: int, n_batches: int, seed: int) -> dict[str, Any]:
    """Batches drawn by weight from counts in memory: the stream that training reads."""
    import numpy as np
    import scipy.sparse as sp

    from grnlab.data import CellCollection
    from grnlab.training.batches import CellStream

    rng = np.random.default_rng(seed)
    n_expressed = rng.integers(800, 4_000, n_cells)
    columns = [np.sort(rng.choice(N_GENES, n, replace=False)) for n in n_expressed]
    data = 1.0 + rng.poisson(1.0, n_expressed.sum())
    start = np.concatenate([[0], np.cumsum(n_expressed)])
    counts = sp.csr_matrix((data.astype(np.float32), np.concatenate(columns), start), shape=(n_cells, N_GENES))
    cells = CellCollection(
        counts=counts,
        datasets=np.arange(n_cells) % 5,
        names=[f"data set {number}" for number in range(5)],
        available=[np.arange(N_GENES)] * 5,
        totals=np.asarray(counts.sum(axis=1)).ravel(),
        labels={"cell_type": rng.integers(0, 20, n_cells)},
    )
    sizes = {"objectives": (), "batch_size": batch_size, "n_tokens": n_tokens, "seed": seed}
    stream = CellStream(cells, np.arange(n_cells), cells.sampling_weights("cell_type"), **sizes)
    stream.draw(0)
    started = time.process_time(), time.perf_counter()
    for number in range(1, n_batches + 1):
        stream.draw(number)
    cpu_s, wall_s = time.process_time() - started[0], time.perf_counter() - started[1]
    return {
        "cells_per_cpu_s": n_batches * batch_size / cpu_s,
        "cells_per_wall_s": n_batches * batch_size / wall_s,
        "n_cells": n_cells,
        "batch_size": batch_size,
        "median_expressed": float(np.median(n_expressed)),
    }


CASES = {case.__name__: case for case in (batches, steps, loader, conditions)}
run_case = partial(processes.run_case, __file__)


def step_row(path: str, dtype: str, batch_size: int, n_tokens: int, *, peer_python: str | None, seed: int) -> Row:
    """Training steps of both sides on the same batches; the target is for the published context."""
    judged = CONTEXTS[n_tokens] == "published"
    row = Row(f"training step, {dtype}, {batch_size} cells × {n_tokens:,} genes", peer=PEER)
    row.target = "≥ 2 × the peer's cells/s, less memory" if judged else "none: shown"
    run = run_case("steps", path=path, dtype=dtype, seed=seed)
    if run.status != 0 or not run.said["finite"]:
        row.note, row.met = _failure(run), False
        return row
    row.cells_per_s, row.peak_mb = batch_size / run.said["cpu_s_per_step"], run.peak_gb * 1e3
    row.details = {"ours": run.said}
    if peer_python is None:
        row.note = "peer absent: give --peer-python, see README.md"
        return row
    sizes = {"classes": CLASSES, "n_groups": N_GROUPS, "n_genes": N_GENES, **SMALL}
    work = json.dumps({"path": path, "dtype": dtype, "seed": seed, **sizes})
    run = measure([peer_python, str(HERE / "peers" / "scprint_training.py"), work], threads=1)
    if run.status != 0:
        absent = "No module named 'scprint'" in run.errors
        row.note, row.met = ("peer absent: not installed", None) if absent else (f"peer {_failure(run)}", False)
        return row
    row.peer_cells_per_s, row.peer_peak_mb = batch_size / run.said["cpu_s_per_step"], run.peak_gb * 1e3
    row.details["peer"] = run.said
    ratio = row.cells_per_s / row.peer_cells_per_s
    row.note = f"{ratio:.1f} × the cells/s, 1/{row.peer_peak_mb / row.peak_mb:.1f} of the memory"
    row.met = (ratio >= 2 and row.peak_mb < row.peer_peak_mb) if judged else None
    return row


def loader_row(demand: float, n_tokens: int, *, n_batches: int, seed: int) -> Row:
    """Cells per second of the loader, against what the fastest of our steps takes."""
    row = Row(f"loader, batches of 64 cells × {n_tokens:,} genes", target="≥ 3 × the demand of the fastest step")
    run = run_case("loader", n_cells=2_000, batch_size=64, n_tokens=n_tokens, n_batches=n_batches, seed=seed)
    if run.status != 0:
        row.note, row.met = _failure(run), False
        return row
    row.cells_per_s, row.peak_mb, row.details = run.said["cells_per_cpu_s"], run.peak_gb * 1e3, run.said
    if demand > 0:
        row.note = f"{row.cells_per_s / demand:,.0f} × the demand of {demand:.1f} cells/s"
        row.met = row.cells_per_s >= 3 * demand
    return row


def _failure(run: Run) -> str:
    return "the loss is not finite" if run.status == 0 else f"failed: {run.last_words}"


def table(rows: Sequence[Row]) -> str:
    """Markdown table."""
    lines = ["| case | cells/s | peer | its cells/s | peak MB | its peak MB | target | met | |", "|---" * 9 + "|"]
    for row in rows:
        numbers = [
            "" if value is None else f"{value:,.{digits}f}"
            for value, digits in (
                (row.cells_per_s, 2),
                (row.peer_cells_per_s, 2),
                (row.peak_mb, 0),
                (row.peer_peak_mb, 0),
            )
        ]
        met = {True: "yes", False: "no", None: ""}[row.met]
        cells = [row.case, numbers[0], row.peer, *numbers[1:], row.target, met, row.note.replace("|", "/")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batches of 4 cells instead of 8, fewer steps")
    parser.add_argument(
        "--peer-python", metavar="PATH", help="Python that has scprint 2.3.8, see README.md; it gets the same batches"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write conditions and rows there too")
    parser.add_argument("--seed", type=int, default=0, help="of counts, weights and draws (%(default)s)")
    options = parser.parse_args(arguments)

    batch_size, n_batches = (4, 4) if options.quick else (8, 6)
    about = run_case("conditions")
    if about.status != 0:
        sys.stderr.write(about.errors)
        return 1
    said = {
        **machine(),
        **about.said,
        "threads": 1,
        "model": SMALL | {"n_genes": N_GENES, "classes": CLASSES, "coarse_cell_types": N_GROUPS},
        "steps_timed": n_batches - 1,
        "seed": options.seed,
        "quick": options.quick,
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n_tokens in CONTEXTS:
            path = str(Path(folder) / f"{n_tokens}.npz")
            sizes = {"n_batches": n_batches, "batch_size": batch_size, "n_tokens": n_tokens, "seed": options.seed}
            made = run_case("batches", path=path, **sizes)
            if made.status != 0:
                sys.stderr.write(made.errors)
                return 1
            peer = {"peer_python": options.peer_python, "seed": options.seed}
            rows += [step_row(path, dtype, batch_size, n_tokens, **peer) for dtype in ("fp32", "bf16")]
    for n_tokens in CONTEXTS:
        speeds = [row.cells_per_s or 0.0 for row in rows if f"× {n_tokens:,} genes" in row.case]
        rows.append(loader_row(max(speeds), n_tokens, n_batches=20, seed=options.seed))
    return report(said, rows, table(rows), options.json)


if __name__ == "__main__":
    run_script(CASES, main)
