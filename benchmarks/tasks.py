"""Denoising, annotation, embedding and differential expression beside their peers, on cells with labels.

``python benchmarks/tasks.py --data DIR [--quick] [--peer-python PATH] [--json FILE] [--only PART ...]`` prints Markdown
tables. Every part is kept in the JSON when it is done, and a part that is there already is not computed again, so a
stopped run goes on. Costs are CPU seconds of one thread. ``PATH`` is a Python with magic-impute, harmonypy, scvi-tools
and scib-metrics (see ``benchmarks/peers/cell_tasks.py``); without it their rows are left out. ``--scprint-python`` is
one with scprint 2.3.8, for the throughput.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import scipy.sparse as sp  # noqa: E402
from cell_task_denoise import denoising, markers  # noqa: E402
from cell_task_labels import annotation, counterfactual, embedding  # noqa: E402
from cell_task_shared import HERE, MODEL, SEED, Context, timed  # noqa: E402


def throughput(context: Context, name: str) -> dict[str, Any]:
    """Cells per CPU second at the published small size: by default, and with all genes shown as the peer does."""
    from grnlab.attention.pool import pool_queries_keys
    from grnlab.backbones import ScPrint, ScPrintConfig
    from grnlab.tasks import cell_embeddings

    n_cells, n_genes = (32, 500) if context.quick else (128, 2_000)
    rng = np.random.default_rng(SEED)
    counts = sp.csr_matrix(rng.poisson(rng.gamma(0.3, 3.0, (n_cells, n_genes))).astype(np.float32))
    vocab = context.models[MODEL].vocab
    model = ScPrint(vocab, ScPrintConfig(n_layers=4, d_model=128, n_heads=2)).eval()
    tokens, totals = np.arange(n_genes), np.asarray(counts.sum(1)).ravel()
    rows = {}
    for context_name, said in (("expressed", "by default (genes a cell expresses)"), ("shared", "all genes shown")):
        _, used = timed(lambda c=context_name: cell_embeddings(model, counts, tokens, totals, context=c))
        rows[f"grnlab: embeddings, {said}"] = {"cpu_s": used, "cells_per_cpu_s": n_cells / used}
    _, used = timed(lambda: pool_queries_keys(model, counts, tokens, totals))
    rows["grnlab: queries and keys for networks, all genes shown"] = {"cpu_s": used, "cells_per_cpu_s": n_cells / used}
    if context.scprint is not None:
        path = context.folder / "cells.npz"
        sp.save_npz(path, counts)
        settings = {"path": str(path), "n_layers": 4, "d_model": 128, "n_heads": 2}
        settings |= {"top_k": 50, "seed": 0}
        script = HERE / "peers" / "scprint_embed.py"
        for batch_size in (64, 4):  # its default, and its cheapest here
            command = [context.scprint, script, json.dumps(settings | {"batch_size": batch_size})]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode == 0:
                used = json.loads(run.stdout.strip().splitlines()[-1])["cpu_s"]
                row = {"cpu_s": used, "cells_per_cpu_s": n_cells / used}
                rows[f"scprint 2.3.8: embeddings and network, all genes shown, batch {batch_size}"] = row
    return {"data": f"{name}: {n_cells} simulated cells × {n_genes} genes", "in_training": "–", "rows": rows}


PARTS: dict[str, tuple[Callable[[Context, str], dict[str, Any]], tuple[str, ...]]] = {
    "denoising": (denoising, ("pbmc3k", "kang control", "manno")),
    "annotation": (annotation, ("pbmc3k", "kang control")),
    "embedding": (embedding, ("kang donors", "three chemistries", "tian plates")),
    "counterfactual": (counterfactual, ("pbmc3k",)),
    "markers": (markers, ("pbmc3k",)),
    "throughput": (throughput, ("published small size",)),
}


def tables(results: dict[str, Any]) -> str:
    """All results as Markdown."""
    lines = []
    for key, part in results.items():
        if "rows" not in part:
            continue
        columns = list(dict.fromkeys(c for row in part["rows"].values() for c in row if not c.endswith("_se")))
        lines += ["", f"**{key}** — {part['data']}; {part['in_training']}", ""]
        lines += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for label, row in part["rows"].items():
            lines.append(f"| {label} | " + " | ".join(_cell(row.get(column)) for column in columns) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Compute what is missing, print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None, help="Markdown file to write")
    parser.add_argument("--peer-python")
    parser.add_argument("--scprint-python")
    parser.add_argument("--only", nargs="*", default=[], help="parts, as denoising or 'denoising: manno'")
    given = parser.parse_args()
    results = json.loads(given.json.read_text()) if given.json and given.json.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        context = Context(given.data, given.quick, given.peer_python, given.scprint_python, Path(folder))
        for part, (function, names) in PARTS.items():
            for name in names:
                key = f"{part}: {name}"
                if key in results or (given.only and part not in given.only and key not in given.only):
                    continue
                found, used = timed(lambda f=function, n=name: f(context, n))
                results[key] = found | {"cpu_s_of_part": round(used, 1), "seed": SEED, "quick": given.quick}
                if given.json:
                    given.json.write_text(json.dumps(results, indent=1) + "\n")
    text = tables(results)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
