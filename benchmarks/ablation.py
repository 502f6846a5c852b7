"""What each part of pretraining is worth: ``python benchmarks/ablation.py --data DIR --out DIR --json FILE``.

Every variant is the recipe ``grnlab-small`` with one change and fewer steps; all see the same cells in the same order
(seed 0), "seed 1" shows how much of a difference is chance. Two kinds of numbers:

* held out: on cells no variant trained on, 30 % of the genes hidden, the same for all variants (and, for those with
  labels, all genes shown). ``mask`` is the likelihood of the hidden counts in nats per gene where the decoder gives
  one, ``mask_r`` the correlation of expected and true log2(1 + count) over the hidden places of all cells;
  ``mvc`` and ``classify`` are the losses of these objectives for variants that train them.
* networks: the AUPRC ratios, EPR and AUROC of ``grnlab benchmark`` on pbmc3k and the control cells of Kang 2018 (mean
  over data sets, gold standards and cell types; 2,000 genes), which no variant trained on, for the symmetrised map.

A variant that is finished already in ``--out`` is scored again, not trained again. With ``OMP_NUM_THREADS=1`` set
``NUMBA_NUM_THREADS=1`` as well: scanpy starts numba's threads, which gives torch as many.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import grnlab as gl
from grnlab.benchmark import choose, run_benchmark
from grnlab.objectives import Mask, build_objectives
from grnlab.training import Recipe, read_recipe, run_recipe
from grnlab.training.batches import FixedBatches

MASK = {"name": "mask", "rate": 0.3}
CLASSIFY = {"name": "classify", "weight": 0.1}
FULL = (MASK, "mvc", CLASSIFY)
TRAINING: dict[str, dict[str, Any]] = {
    "grnlab-small": {"objectives": FULL},
    "seed 1": {"objectives": FULL, "seed": 1},
    "no mvc": {"objectives": (MASK, CLASSIFY)},
    "no classify": {"objectives": (MASK, "mvc")},
    "no mask": {"objectives": ("mvc", CLASSIFY)},
    "denoise for mask": {"objectives": ("denoise", "mvc", CLASSIFY)},
    "with denoise": {"objectives": (MASK, "denoise", "mvc", CLASSIFY)},
    "with bottleneck": {"objectives": (MASK, "mvc", CLASSIFY, "bottleneck")},
    "with contrast": {"objectives": (MASK, "mvc", CLASSIFY, {"name": "contrast", "weight": 0.1})},
    "random gene vectors": {"objectives": FULL, "gene_vectors": "random"},
}
MODEL: dict[str, dict[str, Any]] = {
    "with positions": {"positions": True},
    "mse": {"decoder": "mse"},
    "nb": {"decoder": "nb"},
}


def variant(name: str, steps: int) -> Recipe:
    """Recipe of a variant."""
    recipe = read_recipe("grnlab-small")
    settings = {"max_minutes": None, "max_steps": steps, "val_every": steps, "checkpoint_minutes": None}
    training = replace(recipe.training, **{**settings, **TRAINING.get(name, {"objectives": FULL})})
    return replace(recipe, name=name, training=training, model={**recipe.model, **MODEL.get(name, {})})


@torch.no_grad()
def held_out_scores(model: Any, recipe: Recipe, data: Path, cache: Path) -> dict[str, float]:
    """Losses on the held-out cells of seed 0, whatever the seed of the run."""
    cells = recipe.cells(data, model.vocab, cache=cache)
    _, rows = cells.split(recipe.training.val_fraction, seed=0)
    mask = Mask(rate=0.3)
    others = [x for x in build_objectives(recipe.training.objectives) if type(x).__name__ in ("Mvc", "Classify")]
    sums: dict[str, float] = {}
    expected, true = [], []
    batches = FixedBatches(cells, rows, objectives=[mask], batch_size=32, n_tokens=recipe.training.n_tokens, seed=1)
    for batch in batches:
        encoded = model.encode(batch.seen)
        hidden = batch.seen.hidden_BT
        mean = model.decode(encoded, batch.target.values_BT.sum(-1)).mean_BT[hidden]
        expected.append(torch.log2(1 + mean.clamp(min=0)))
        true.append(torch.log2(1 + batch.target.values_BT[hidden]))
        losses = {"mask": mask.loss(model, encoded, seen=batch.seen, target=batch.target)}
        if others:
            whole = model.encode(batch.target)
            for x in others:
                losses[type(x).__name__.lower()] = x.loss(model, whole, seen=batch.target, target=batch.target)
        for key, loss in losses.items():
            sums[key] = sums.get(key, 0.0) + loss.item() * len(batch.rows) / len(rows)
    if model.config.decoder == "mse":  # squared errors of logarithms are no nats
        sums = {key: value for key, value in sums.items() if key == "classify"}
    r = np.corrcoef(torch.cat(expected).numpy(), torch.cat(true).numpy())[0, 1]
    return {**sums, "mask_r": float(r)}


def network_scores(model: Any, data: Path) -> dict[str, float]:
    """Mean scores of the symmetrised map over data sets, gold standards and cell types."""
    config = choose(["pbmc3k", "kang_control"], ["attention"], golds=["trrust", "dorothea_abc"])
    with tempfile.TemporaryDirectory() as folder:
        table = run_benchmark(Path(folder) / "out", model, config, data=data)
    table = table[table["group"] != "all cells"]
    means = table.groupby(["dataset", "gold"])[["auprc_ratio", "epr", "auroc", "per_tf_auroc"]].mean()
    return {**means.mean().to_dict(), "auprc_ratio_worst": float(means["auprc_ratio"].min())}


def main() -> None:
    """Train and score what is asked for; rows are added to the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trained variants")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", nargs="*", choices=[*TRAINING, *MODEL], default=[*TRAINING, *MODEL])
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        recipe = variant(name, options.steps)
        folder = options.out / name.replace(" ", "-")
        if not folder.exists():
            run_recipe(recipe, options.data, folder, progress=False)
        model = gl.load_model(folder)
        row = {"variant": name, "steps": options.steps, "minutes": model.provenance["minutes"]}
        row |= held_out_scores(model, recipe, options.data, options.out / "scans")
        row |= network_scores(model, options.data)
        rows = json.loads(options.json.read_text(encoding="utf-8"))["rows"] if options.json.exists() else []
        rows = [x for x in rows if x["variant"] != name] + [row]
        content = {"command": "python benchmarks/ablation.py --data DIR --out DIR --json FILE", "rows": rows}
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
