"""What xTrimoGene costs: decoder by genes, encoder by expressed genes, a training step over 19,264 genes.

``python benchmarks/xtrimogene_cost.py [--quick] [--json FILE]`` prints a table; exit status 1 when a target is missed.
Each case runs in a fresh process with one thread; CPU seconds are those of the fastest of three forward passes of one
cell, the exponent is the slope of log CPU seconds over log genes. ``--quick`` leaves out the step at published sizes
(119 M parameters), which takes minutes. Steps are in bf16-mixed precision, as the recipe and the released code train.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import processes
from processes import made_up_vocab, run_script

N_GENES = 19_264
SIZES = (2_408, 4_816, 9_632, 19_264)
EXPRESSED = (250, 500, 1_000, 2_000)
EXPONENT, PEAK_GB, BATCH = 1.15, 8.0, 4
SMALL = {"n_layers": 2, "d_model": 128, "n_heads": 4, "n_decoder_layers": 2, "d_decoder": 64, "n_decoder_heads": 4}
DEEP = {"n_layers": 1, "d_model": 768, "n_heads": 12, "n_decoder_layers": 1, "d_decoder": 512, "n_decoder_heads": 8}


def model_of(config: dict[str, Any] | None) -> Any:
    """A new model over 19,264 genes; None: at the published sizes, recomputing."""
    import torch

    from grnlab.backbones import XTrimoGene, XTrimoGeneConfig

    torch.manual_seed(0)
    sizes = XTrimoGeneConfig.published(recompute=True) if config is None else XTrimoGeneConfig(**config)
    return XTrimoGene(made_up_vocab(N_GENES), sizes)


def cells(n_cells: int, n_genes: int, n_expressed: int) -> Any:
    """Cells of so many genes, of which so many have counts."""
    import numpy as np
    import torch

    from grnlab.data import CellTokens

    rng = np.random.default_rng(0)
    values = np.zeros((n_cells, n_genes), dtype=np.float32)
    for row in values:
        row[rng.choice(n_genes, n_expressed, replace=False)] = 1 + rng.poisson(1.5, n_expressed)
    genes = torch.arange(n_genes).expand(n_cells, -1)
    return CellTokens(genes, torch.from_numpy(values), torch.from_numpy(values.sum(1)))


def _fastest(function: Callable[[], Any], repeats: int = 3) -> float:
    import torch

    found = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            started = time.process_time()
            function()
            found.append(time.process_time() - started)
    return min(found[1:])


def decoder(*, config: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """CPU seconds of the decoder by the number of genes; and of softmax attention blocks of the same sizes."""
    import torch

    from grnlab.nn import TransformerStack

    model = model_of(config).eval()
    heads, width = config["n_decoder_heads"], config["d_decoder"]
    softmax = TransformerStack(config["n_decoder_layers"], width, heads).eval()
    found: dict[str, Any] = {"performer": [], "softmax": []}
    for n_genes in sizes:
        x_BTM = torch.randn(1, n_genes, width)
        found["performer"].append(_fastest(lambda x=x_BTM: model.decoder(x)))
        if n_genes <= sizes[-2]:
            found["softmax"].append(_fastest(lambda x=x_BTM: softmax(x), repeats=1))
    return found


def encoder(*, config: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """CPU seconds of the encoder by the number of expressed genes, and by that of genes."""
    model = model_of(config).eval()

    def seconds(n_genes: int, n_expressed: int) -> float:
        tokens = cells(1, n_genes, n_expressed)
        shown = model._shown(tokens, None)[0]
        return _fastest(lambda: model.encoder(model.embed(shown)), repeats=5)

    return {
        "by_expressed": [seconds(N_GENES, n) for n in sizes],
        "by_genes": [seconds(n, 1_000) for n in SIZES],
    }


def step(*, config: dict[str, Any] | None) -> dict[str, Any]:
    """One training step over all genes in bf16-mixed precision: corruption, loss, backward, AdamW."""
    import torch

    from grnlab.objectives import ReadDepth

    model, task = model_of(config).train(), ReadDepth()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=False)
    target = cells(BATCH, N_GENES, 2_000)
    started = time.process_time()
    seen = task.corrupt(target, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(model, model.encode(seen), seen=seen, target=target)
    loss.backward()
    optimizer.step()
    n_parameters = sum(weight.numel() for weight in model.parameters())
    return {"cpu_s": time.process_time() - started, "loss": loss.item(), "n_parameters": n_parameters}


CASES = {case.__name__: case for case in (decoder, encoder, step)}
run_case = partial(processes.run_case, __file__)


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log seconds over log sizes."""
    import numpy as np

    return float(np.polyfit(np.log(sizes[: len(seconds)]), np.log(seconds), 1)[0])


def shapes(add: Callable[..., None]) -> None:
    """Decoder by genes, encoder by expressed genes."""
    run = run_case("decoder", config=SMALL, sizes=SIZES)
    if run.status != 0:
        add("decoder", run.errors.strip().splitlines()[-1], "", False)
    else:
        said = run.said
        slope = exponent(SIZES, said["performer"])
        shown = ", ".join(f"{x:.3f}" for x in said["performer"])
        target = f"exponent ≤ {EXPONENT}"
        add("decoder, CPU-s by genes", f"{shown}; exponent {slope:.2f}", target, slope <= EXPONENT, **said)
        slope = exponent(SIZES, said["softmax"])
        shown = ", ".join(f"{x:.3f}" for x in said["softmax"])
        add("softmax blocks instead", f"{shown}; exponent {slope:.2f}", "none: shown", None)
    for name, config in (("recipe", SMALL), ("published width, one layer", DEEP)):
        run = run_case("encoder", config=config, sizes=EXPRESSED)
        if run.status != 0:
            add(f"encoder, {name}", run.errors.strip().splitlines()[-1], "", False)
            continue
        said = run.said
        slope = exponent(EXPRESSED, said["by_expressed"])
        shown = ", ".join(f"{x:.3f}" for x in said["by_expressed"])
        add(
            f"encoder ({name}), CPU-s by expressed genes", f"{shown}; exponent {slope:.2f}", "none: shown", None, **said
        )
        slope = exponent(SIZES, said["by_genes"])
        shown = ", ".join(f"{x:.3f}" for x in said["by_genes"])
        add(
            f"encoder ({name}), CPU-s by genes, 1,000 expressed", f"{shown}; exponent {slope:.2f}",
            "|exponent| ≤ 0.15", abs(slope) <= 0.15,
        )  # fmt: skip


def rows(*, quick: bool, only_step: bool) -> list[dict[str, Any]]:
    """All cases."""
    found: list[dict[str, Any]] = []

    def add(case: str, result: str, target: str, met: bool | None, **details: Any) -> None:
        found.append({"case": case, "result": result, "target": target, "met": met, **details})
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)

    if not only_step:
        shapes(add)
    steps = {"recipe": SMALL} if quick else {"recipe": SMALL, "published, recomputing": None}
    for name, config in steps.items():
        run = run_case("step", config=config)
        case, target = f"training step ({name}), {BATCH} cells × {N_GENES:,} genes", f"< {PEAK_GB:g} GB"
        if run.status != 0:
            add(case, run.errors.strip().splitlines()[-1], target, False)
            continue
        shown = (
            f"{run.peak_gb:.2f} GB, {run.said['cpu_s']:.1f} CPU-s, {run.said['n_parameters'] / 1e6:.1f} M parameters"
        )
        add(case, shown, target, run.peak_gb < PEAK_GB, peak_gb=run.peak_gb, **run.said)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Table of all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="not at the published sizes")
    parser.add_argument("--only-step", action="store_true", help="the training steps alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    found = rows(quick=options.quick, only_step=options.only_step)
    print("| case | result | target | met |\n|---|---|---|---|")
    for row in found:
        print(f"| {row['case']} | {row['result']} | {row['target']} | {row['met'] if row['met'] is not None else ''} |")
    if options.json is not None:
        text = json.dumps({"sizes": SIZES, "expressed": EXPRESSED, "quick": options.quick, "rows": found}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(any(row["met"] is False for row in found))


if __name__ == "__main__":
    run_script(CASES, main)
