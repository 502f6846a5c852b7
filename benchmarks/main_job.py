"""What the main job costs: import, demo, inference beside the published scprint package, genome-wide top edges.

``python benchmarks/main_job.py [--quick] [--peer-python PATH] [--json FILE]`` prints a Markdown table and a row of JSON
per case; the exit status is 1 when a case fails or a target is missed. Each case runs in a fresh process, whose wall
time, CPU time (user and system, all its threads) and peak resident memory are read from the operating system.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import processes
from processes import Row, machine, measure, report, table

HERE = Path(__file__).parent
SMALL = {"n_layers": 4, "d_model": 128, "n_heads": 2}  # the published scPRINT small
SHAPES = {"8 heads, d 64": (4, 2, 64), "16 heads, d 32": (4, 4, 32)}  # layers, heads a layer, d_head
PEER_BATCHES = {"its default batch of 64": 64, "batch of 4, where it costs least": 4}
RECORDED_PEER = 0.5  # CPU-s per cell: 128 CPU-s for 256 cells × 2,000 genes, scprint 2.3.8, the same model size


run_case = partial(processes.run_case, HERE / "cases.py")


def import_rows() -> list[Row]:
    """Import time, median of five fresh processes."""
    runs = [run_case("import_package") for _ in range(5)]
    first = runs[0].row("import grnlab", target="< 1.5 s, no heavy module")
    if all(run.status == 0 for run in runs):
        seconds = statistics.median(run.said["import_s"] for run in runs)
        heavy = runs[0].said["heavy"]
        first.result = f"{seconds:.3f} s; heavy modules: {', '.join(heavy) or 'none'}"
        first.met = seconds < 1.5 and not heavy
        first.details = {"import_s": [run.said["import_s"] for run in runs], "heavy": heavy}
    verbs = run_case("import_tools")
    second = verbs.row("import its verbs (gl.io, pp, tl, pl: torch and scanpy)")
    if verbs.status == 0:
        second.result = f"{verbs.said['import_s']:.2f} s"
    return [first, second]


def demo_row(folder: Path, models: Sequence[str], *, threads: int) -> Row:
    """``grnlab demo``, from the start of the process to its end."""
    case, target = f"grnlab demo, {threads} threads", "≤ 90 s, ≤ 2.5 GB"
    if "grnlab-small" not in models:
        return Row(case, result="not run: the model grnlab-small is missing", target=target)
    run = measure([sys.executable, "-m", "grnlab.cli", "demo", "--out", str(folder / "demo")], threads=threads)
    row = run.row(case, target=target)
    if run.status == 0:
        row.result = f"{run.wall_s:.1f} s, {run.peak_gb:.2f} GB"
        row.met = run.wall_s <= 90 and run.peak_gb <= 2.5
    return row


def infer_rows(folder: Path, n_cells: int, n_genes: int, *, peer_python: str | None, seed: int) -> list[Row]:
    """Cells through attention and network inference, beside the published package."""
    path = str(folder / "counts.npz")
    made = run_case("counts", path=path, n_cells=n_cells, n_genes=n_genes, seed=seed)
    if made.status != 0:
        return [made.row("synthetic counts")]
    work = {"path": path, **SMALL, "top_k": 10, "seed": seed}
    size = f"{n_cells:,} cells × {n_genes:,} genes, {SMALL['n_layers']} layers, d {SMALL['d_model']}, 1 thread"
    runs = {
        "infer (default: each cell its expressed genes)": run_case("infer", **work, context="expressed"),
        "infer, all genes in every cell, as the peer": run_case("infer", **work, context="shared"),
    }
    rows = [
        run.row(f"{name}: {size}", target="≤ 1/5 of the peer's CPU-s", details={**made.said, **run.said})
        for name, run in runs.items()
    ]
    peers = {"recorded before, not measured here": RECORDED_PEER}
    for name, batch_size in PEER_BATCHES.items() if peer_python is not None else ():
        command = [
            str(peer_python),
            str(HERE / "peers" / "scprint_embed.py"),
            json.dumps(work | {"batch_size": batch_size}),
        ]
        run = measure(command, threads=1)
        rows.append(run.row(f"peer scprint, {name}: {size}", details=run.said or {"stderr": run.errors[-2_000:]}))
        if run.status == 0:
            peers[name] = run.said["cpu_s_per_cell"]
            rows[-1].result = (
                f"{peers[name]:.4f} CPU-s per cell (scprint {run.said['scprint']}, torch {run.said['torch']}, "
                f"{run.said['settings']})"
            )
    for row, run in zip(rows, runs.values(), strict=False):
        if run.status == 0:
            cost = run.said["cpu_s_per_cell"]
            ratios = (f"1/{peer / cost:.1f} of {peer:.3f} ({name})" for name, peer in peers.items())
            row.result = f"{cost:.4f} CPU-s per cell; {'; '.join(ratios)}"
            row.met = cost <= min(peers.values()) / 5
    return rows


def genome_rows(n_genes: int, n_naive: int, *, n_edges: int, seed: int) -> list[Row]:
    """Top edges of every gene, all heads; and against the whole map in memory, at a size where that fits."""
    rows = []
    for shape, (n_layers, n_heads, d_head) in SHAPES.items():
        for symmetrize in (False, True):
            work = {
                "n_layers": n_layers,
                "n_heads": n_heads,
                "d_head": d_head,
                "n_edges": n_edges,
                "symmetrize": symmetrize,
                "seed": seed,
            }
            kind = f"{shape}{', symmetrised' if symmetrize else ''}"
            run = run_case("top_edges", n_genes=n_genes, **work)
            row = run.row(f"top {n_edges} of {n_genes:,} genes, {kind}", target="≤ 4 GB", details=run.said)
            if run.status == 0:
                row.result = f"{run.said['op_cpu_s']:.1f} CPU-s, {run.peak_gb:.2f} GB"
                row.met = run.peak_gb <= 4.0
            rows += [row, _naive_row(kind, n_naive, work)]
    return rows


def _naive_row(kind: str, n_genes: int, work: dict[str, Any]) -> Row:
    ours, naive = (run_case(name, n_genes=n_genes, **work) for name in ("top_edges", "top_edges_naive"))
    row = naive.row(f"naive: dense loop over heads, {n_genes:,} genes, {kind}")
    if ours.status == 0 and naive.status == 0:
        cost, theirs = ours.said["op_cpu_s"], naive.said["op_cpu_s"]
        gap = abs(ours.said["sum"] - naive.said["sum"]) / naive.said["sum"]
        row.result = (
            f"naive {theirs:.2f} CPU-s, {naive.peak_gb:.2f} GB; ours {cost:.2f} CPU-s, {ours.peak_gb:.2f} GB: "
            f"{theirs / cost:.1f} × the CPU-s; sums of weights differ by {gap:.0e}"
        )
        row.details = {"ours": {**ours.said, "peak_gb": ours.peak_gb}, "naive": naive.said}
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 cells, 4,000 genes instead of 1,024 and 20,000")
    parser.add_argument(
        "--peer-python", metavar="PATH", help="Python that has scprint 2.3.8, see README.md; it runs in the same job"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write conditions and rows there too")
    parser.add_argument("--seed", type=int, default=0, help="of counts, weights, queries and keys (%(default)s)")
    options = parser.parse_args(arguments)

    n_cells, n_wide, n_naive = (128, 4_000, 2_000) if options.quick else (1_024, 20_000, 5_000)
    about = machine()
    threads = min(2, about["cores"])
    said = run_case("conditions", threads=threads)
    if said.status != 0:
        sys.stderr.write(said.errors)
        return 1
    models = said.said["builtin_models"]
    about |= said.said | {"threads": f"{threads} in demo, 1 elsewhere", "seed": options.seed, "quick": options.quick}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = import_rows()
        rows.append(demo_row(folder, models, threads=threads))
        rows += infer_rows(folder, n_cells, 2_000, peer_python=options.peer_python, seed=options.seed)
        rows += genome_rows(n_wide, n_naive, n_edges=50, seed=options.seed)
    return report(about, rows, table(rows), options.json)


if __name__ == "__main__":
    sys.exit(main())
