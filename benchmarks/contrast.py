"""What contrast over a large batch costs: divide and conquer beside plain in-batch and MoCo-style contrast.

``python benchmarks/contrast.py [--quick] [--json FILE] [--out FILE]`` prints a Markdown table (``--out`` writes it) and
a row of JSON per case; the exit status is 1 when a case fails or the target is missed. Every case is one forward and
backward pass of the contrastive loss of a CellLM in a fresh process with one thread; memory is the peak of the process,
and that less what it held before the pass. In-batch contrast stops where its activations no longer fit 3 GB. glibc's
malloc is told to give freed memory back (``MALLOC_MMAP_THRESHOLD_``), which costs time; rows "as installed" show what a
process holds without that. A last case asks how far the gradients point where those of the whole batch do: cosine of
the gradients of all weights with those of end-to-end contrast of all cells, the same dropout throughout. "Accumulated":
parts are contrasted alone and their gradients added up; "moco": with a queue of the other cells, made by a momentum
encoder (0.999) while the model trained for as many steps as the queue holds batches.
"""

import argparse
import datetime as dt
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import processes
from processes import conditions, run_script

MODEL = {"n_layers": 2, "d_model": 64, "n_heads": 4, "n_features": 48, "dropout": 0.1}
N_GENES, N_TOKENS, AT_ONCE = 2_000, 128, 64
BATCHES = (64, 512, 4_096)
LARGEST_IN_BATCH = 512
METHODS = {"divided": "divide and conquer", "in_batch": "in-batch", "moco": "MoCo, queue of"}
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
MOMENTUM, TEMPERATURE = 0.999, 0.05


def _model(seed: int) -> Any:
    import numpy as np
    import pandas as pd
    import torch

    from grnlab.backbones import CellLM, CellLMConfig
    from grnlab.genes import GeneVocab

    torch.manual_seed(seed)
    names = [f"G{number}" for number in range(N_GENES)]
    table = {"symbol": names, "ensembl_id": "", "aliases": "", "position": np.arange(N_GENES), "species": "none"}
    return CellLM(GeneVocab(pd.DataFrame(table).assign(is_tf=False)), CellLMConfig(**MODEL)).train()


def _cells(n_cells: int, seed: int) -> Any:
    import torch

    from grnlab.data import CellTokens

    generator = torch.Generator().manual_seed(seed)
    genes = torch.rand(n_cells, N_GENES, generator=generator).argsort(1)[:, :N_TOKENS].clone()
    values = 1 + torch.poisson(torch.full((n_cells, N_TOKENS), 1.0), generator=generator)
    return CellTokens(genes, values, values.sum(-1))


def one_pass(method: str, n_cells: int, *, seed: int) -> dict[str, Any]:
    """Loss and gradients of one batch; of MoCo, of 64 cells against a queue of the others."""
    import copy
    import gc
    import resource
    import time

    import torch

    from grnlab.objectives import DropoutContrast

    model = _model(seed)
    warm = _cells(4, seed)  # libraries load before anything is measured
    DropoutContrast(at_once=2).loss(model, None, seen=warm, target=warm).backward()
    n_read = AT_ONCE if method == "moco" else n_cells
    cells, queue = _cells(n_read, seed + 1), torch.randn(n_cells if method == "moco" else 0, MODEL["d_model"])
    momentum = copy.deepcopy(model) if method == "moco" else None
    model.zero_grad()
    gc.collect()
    torch.manual_seed(seed)
    before = _resident_mb()
    started = time.process_time()
    if momentum is not None:
        loss = _moco_loss(model.encode(cells).cell_BM, momentum, cells, queue)
    else:
        task = DropoutContrast(temperature=TEMPERATURE, at_once=AT_ONCE if method == "divided" else None)
        encoded = model.encode(cells) if method == "in_batch" else None
        loss = task.loss(model, encoded, seen=cells, target=cells)
    loss.backward()
    spent = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
    return {"cpu_s": spent, "loss": loss.item(), "extra_mb": peak - before, "peak_mb": peak, "before_mb": before}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _moco_loss(query_BM: Any, momentum: Any, cells: Any, queue_KM: Any) -> Any:
    import torch
    import torch.nn.functional as F

    with torch.no_grad():
        key_BM = F.normalize(momentum.encode(cells).cell_BM, dim=-1)
    query_BM, queue_KM = F.normalize(query_BM, dim=-1), F.normalize(queue_KM, dim=-1)
    own_B1 = (query_BM * key_BM).sum(-1, keepdim=True)
    logits_BK = torch.cat([own_B1, query_BM @ queue_KM.T], dim=1) / TEMPERATURE
    return F.cross_entropy(logits_BK, torch.zeros(len(query_BM), dtype=torch.int64))


def gradients(n_cells: int, *, part: int, seed: int) -> dict[str, Any]:
    """Cosine of the gradients of each method with those of end-to-end contrast of all cells."""
    import copy

    import torch

    from grnlab.objectives.divide import encode_in_parts, info_nce, split_cells

    model, cells = _model(seed), _cells(n_cells, seed + 1)
    parts = split_cells(cells, part)
    momentum = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    queue: list[Any] = []

    def view(net: Any, number: int, which: int) -> Any:
        torch.manual_seed(1_000 * which + number)  # dropout of a cell is the same in every method
        return net.encode(parts[number]).cell_BM

    for number in range(len(parts)):  # the queue fills while the model trains
        queue.append(view(momentum, number, 1).detach())
        optimizer.zero_grad()
        info_nce(view(model, number, 0), view(model, number, 1), temperature=TEMPERATURE).backward()
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(momentum.parameters(), model.parameters(), strict=True):
                old.lerp_(new, 1 - MOMENTUM)

    def collect(losses: Callable[[], Any]) -> Any:
        model.zero_grad()
        for loss in losses():
            loss.backward()
        return torch.cat([x.grad.flatten() for x in model.parameters() if x.grad is not None])

    def whole() -> Any:
        views = [torch.cat([view(model, number, which) for number in range(len(parts))]) for which in (0, 1)]
        yield info_nce(*views, temperature=TEMPERATURE)

    def divided() -> Any:
        views = []
        for which in (0, 1):
            pieces = []
            for number, cells_of_part in enumerate(parts):
                torch.manual_seed(1_000 * which + number)
                pieces.append(encode_in_parts(lambda x: model.encode(x).cell_BM, cells_of_part, at_once=part))
            views.append(torch.cat(pieces))
        yield info_nce(*views, temperature=TEMPERATURE, at_once=part)

    def accumulated() -> Any:
        for number in range(len(parts)):
            yield info_nce(view(model, number, 0), view(model, number, 1), temperature=TEMPERATURE) / len(parts)

    def moco() -> Any:
        for number in range(len(parts)):
            others = torch.cat([keys for place, keys in enumerate(queue) if place != number])
            torch.manual_seed(number)
            query = model.encode(parts[number]).cell_BM
            torch.manual_seed(1_000 + number)
            yield _moco_loss(query, momentum, parts[number], others) / len(parts)

    exact = collect(whole)
    found = {"divided": collect(divided), "accumulated": collect(accumulated), "moco": collect(moco)}
    return {name: torch.cosine_similarity(x, exact, dim=0).item() for name, x in found.items()}


CASES = {case.__name__: case for case in (one_pass, gradients, conditions)}


def run_case(name: str, **parameters: Any) -> dict[str, Any]:
    """Run a case in a process of its own, with one thread; what it said, or its error."""
    installed = parameters.pop("as_installed", False)
    before = dict(os.environ)
    os.environ.update({} if installed else GIVE_BACK)
    run = processes.run_case(__file__, name, **parameters)
    os.environ.clear()
    os.environ.update(before)
    return run.said if run.status == 0 else {"error": run.last_words}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown table."""
    lines = ["| contrast | cells | peak, MB | of which the pass | CPU-s | CPU-s per 64 cells |", "|---" * 6 + "|"]
    for row in rows:
        if "note" in row or "error" in row:
            values = [row.get("note", row.get("error")), "", "", ""]
        else:
            per = row["cpu_s"] / (row["n_read"] / 64)
            values = [f"{row['peak_mb']:,.0f}", f"{row['extra_mb']:,.0f}", f"{row['cpu_s']:.1f}", f"{per:.2f}"]
        name = METHODS[row["method"]] + (", malloc as installed" if row["as_installed"] else "")
        lines.append(f"| {name} | {row['n_cells']:,} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def judge(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Growth of divide and conquer from the smallest to the largest batch: of the process, and of the pass alone."""
    judged = [row for row in rows if row["method"] == "divided" and not row["as_installed"]]
    if any("peak_mb" not in row for row in judged):
        return {"target": "peak memory of the process grows by at most 10 %", "met": False, "note": "a case failed"}
    growth = {name: judged[-1][name] / judged[0][name] - 1 for name in ("peak_mb", "extra_mb")}
    return {
        "cells": [judged[0]["n_cells"], judged[-1]["n_cells"]],
        "growth_of_the_process": growth["peak_mb"],
        "growth_of_the_pass_alone": growth["extra_mb"],
        "target": "peak memory of the process grows by at most 10 %",
        "met": growth["peak_mb"] <= 0.10,
    }


def report(rows: Sequence[dict[str, Any]], pointing: dict[str, Any], target: dict[str, Any]) -> str:
    """Markdown."""
    cosines = ", ".join(
        f"{name} {value}" if name == "error" else f"{name} {value:.4f}" for name, value in pointing.items()
    )
    said = "; ".join(f"{name}: {value:+.1%}" for name, value in target.items() if name.startswith("growth"))
    return f"{table(rows)}\n\nCosine with the gradients of end-to-end contrast: {cosines}\n\n{said}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="not read: the cells are made")
    parser.add_argument("--quick", action="store_true", help="batches of 64 and 256 cells")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write conditions and rows there too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    sizes = BATCHES[:2] if options.quick else BATCHES
    rows = []
    cases = [(method, n_cells, False) for method in METHODS for n_cells in sizes]
    for method, n_cells, installed in [*cases, *(("divided", n_cells, True) for n_cells in sizes[:2])]:
        row: dict[str, Any] = {"method": method, "n_cells": n_cells, "as_installed": installed}
        row["n_read"] = AT_ONCE if method == "moco" else n_cells
        if method == "in_batch" and n_cells > LARGEST_IN_BATCH:
            rows.append(row | {"note": "not run: would not fit 3 GB"})
        else:
            work = {"method": method, "n_cells": n_cells, "as_installed": installed, "seed": options.seed}
            rows.append(row | run_case("one_pass", **work))
        print(json.dumps(rows[-1]), flush=True)
    pointing = run_case("gradients", n_cells=128 if options.quick else 256, part=32, seed=options.seed)
    target = judge(rows)
    said = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        **run_case("conditions"),
        "threads": 1,
        "model": MODEL | {"n_genes": N_GENES, "n_tokens": N_TOKENS},
        "at_once": AT_ONCE,
        "seed": options.seed,
        "quick": options.quick,
    }
    text = report(rows, pointing, target)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    if options.json is not None:
        content = {"conditions": said, "rows": rows, "gradient_cosine": pointing, "target": target}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(not target["met"] or any("error" in row for row in [*rows, pointing]))


if __name__ == "__main__":
    run_script(CASES, main)
