"""What Exceiver learns: ``python benchmarks/exceiver.py --data DIR --model CHECKPOINT [--quick] [--json FILE]``.

cost: CPU-s of a training step by the number of genes, with the fitted exponent, beside softmax self-attention.
prediction: explained variance and class accuracy on held-out cells of the training files and on data sets never seen.
ami: adjusted mutual information of k-means clusters with labels: raw expression, latents, an untrained model.
genes: are Leiden clusters of gene embeddings enriched in known interactions, against networks of the same degrees.
transfer: pretrained and new models trained on a new data set; loss and explained variance, Mann-Whitney over seeds.
regression: fine-tuned to the ln IC50 of the cell line of each cell.
networks: two-hop maps against gold standards, with and without the mixing of the latents.

One section at a time with ``--only``; with ``--out`` each section is written as soon as it is done. One thread.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from exceiver_shared import NEW, Bench, Row, explained, hidden_scores, latents, with_statistics
from exceiver_tasks import genes, networks, regression, transfer
from processes import made_up_vocab

import grnlab as gl
from grnlab.backbones import Exceiver, ScPrint, ScPrintConfig
from grnlab.data import CellCollection, CellTokens
from grnlab.evaluate.baselines import log_normalise
from grnlab.objectives import DiscreteNoise

PREDICTORS = ("predicted", "gene", "data_set", "cell")


def cost(bench: Bench) -> Iterator[Row]:
    """Seconds of a training step, fastest of some, and exponents fitted to all sizes from 2,000 genes on."""
    vocab = made_up_vocab(19_264)
    shape = bench.model.config
    sizes = (1_000, 2_000, 4_000, 8_000) if bench.quick else (1_000, 2_000, 4_000, 8_000, 19_264)
    torch.manual_seed(bench.seed)
    exceiver = Exceiver(vocab, replace(shape, classes={})).train()
    softmax = ScPrint(
        vocab,
        ScPrintConfig(n_layers=shape.n_layers, d_model=shape.d_model, n_heads=shape.n_heads, decoder="mse",
                      positions=False, dropout=0.0, drop_path=0.0),
    ).train()  # fmt: skip
    objective, n_cells = DiscreteNoise(), 4
    for name, model in (("exceiver", exceiver), ("softmax self-attention", softmax)):
        seconds = {}
        for n_genes in sizes:
            if name != "exceiver" and n_genes > 4_000:
                continue
            generator = torch.Generator().manual_seed(bench.seed)
            genes = torch.stack([torch.randperm(19_264, generator=generator)[:n_genes] for _ in range(n_cells)])
            values = torch.poisson(torch.full((n_cells, n_genes), 2.0), generator=generator) + 1
            target = CellTokens(genes, values, values.sum(1))
            seen = objective.corrupt(target, generator=generator)
            took = []
            for _ in range(3):
                started = time.process_time()
                encoded = model.encode(seen)
                if isinstance(model, Exceiver):
                    loss = objective.loss(model, encoded, seen=seen, target=target)
                else:
                    decoded = model.decode(encoded, values.sum(1)).log_mean_BT
                    loss = ((decoded - torch.log2(1 + values))[seen.hidden_BT] ** 2).mean()
                loss.backward()
                took.append(time.process_time() - started)
                model.zero_grad(set_to_none=True)
            seconds[n_genes] = min(took)
            yield {"model": name, "genes": n_genes, "cells": n_cells, "cpu_s_per_step": min(took)}
        large = [n for n in seconds if n >= 2_000] if len(seconds) > 3 else list(seconds)
        slope = np.polyfit(np.log(large), np.log([seconds[n] for n in large]), 1)[0]
        yield {"model": name, "exponent": float(slope), "fitted_to": large}


def prediction(bench: Bench) -> Iterator[Row]:
    """Explained variance of hidden scores: by the model, the level of the gene, that and the level of the cell."""
    cells, train, held = bench.training()
    cases = [("held-out cells of the training files", cells, held, train, False)]
    for name in NEW:
        _, found = bench.new(name)
        fitted, judged = found.split(0.3, seed=bench.seed)
        cases += [(name, found, judged, fitted, False), (f"{name}, its own statistics", found, judged, fitted, True)]
    for name, found, judged, fitted, own in cases:
        rows = np.random.default_rng(bench.seed).permutation(judged)[: 200 if bench.quick else 500]
        for label, model in (("pretrained", bench.model), ("untrained", bench.untrained)):
            used = with_statistics(model, found, fitted) if own else model
            hidden = hidden_scores(used, found, rows, fitted=fitted, seed=bench.seed)
            row = {"cells": name, "model": label, "n_cells": len(rows), "n_hidden": len(hidden.true)}
            row |= {f"ev_{by}": explained(hidden.true, getattr(hidden, by)) for by in PREDICTORS}
            yield row | hidden.classes


def ami(bench: Bench) -> Iterator[Row]:
    """K-means with as many clusters as labels, mean over seeds; cells without a label are left out."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    cells, _, held = bench.training()
    labels = {name: np.array(cells.label_values[name], dtype=object)[codes] for name, codes in known(cells).items()}
    labels["data set"] = np.array(cells.names, dtype=object)[cells.datasets]
    cases = [("held-out cells of the training files", cells, held, labels)]
    for name in NEW:
        adata, found = bench.new(name)
        columns = [c for c in ("cell_type", "batch") if len(set(adata.obs[c])) > 1]
        rows = np.sort(np.random.default_rng(bench.seed).permutation(len(found))[: 200 if bench.quick else 400])
        cases.append((name, found, rows, {c: adata.obs[c].astype(str).to_numpy(object) for c in columns}))
    for name, found, rows, of_cells in cases:
        views = representations(bench, found, rows, fit_own=name in NEW)
        for label, values in of_cells.items():
            usable = ~pd.isna(values[rows]) & (values[rows] != "unknown")
            chosen = values[rows][usable]
            row = {"cells": name, "label": label, "n_cells": int(usable.sum()), "n_labels": len(set(chosen))}
            for view, x in views.items():
                found_ami = [
                    adjusted_mutual_info_score(
                        chosen, KMeans(len(set(chosen)), n_init=3, random_state=seed).fit_predict(x[usable])
                    )
                    for seed in range(2 if bench.quick else 3)
                ]
                row[view] = float(np.mean(found_ami))
            yield row


def known(cells: CellCollection) -> dict[str, np.ndarray]:
    """Codes of labels; -1 stays -1, which is the last label: those cells are marked unknown by the caller."""
    for name, values in cells.label_values.items():
        if values and values[-1] != "unknown":
            cells.label_values[name] = (*values, "unknown")
    return cells.labels


def representations(bench: Bench, cells: CellCollection, rows: np.ndarray, *, fit_own: bool) -> dict[str, np.ndarray]:
    """Principal components of expression, and latents: their mean, and principal components of all."""
    from sklearn.decomposition import PCA

    def reduced(x: np.ndarray) -> np.ndarray:
        return PCA(min(50, len(x) - 1), random_state=bench.seed).fit_transform(x)

    counts = cells.counts[rows]
    expressed = np.flatnonzero(np.asarray((counts > 0).sum(axis=0)).ravel() >= 5)
    views = {"raw, 50 components": reduced(log_normalise(counts[:, expressed].toarray()))}
    models = {"pretrained": bench.model, "untrained": bench.untrained}
    if fit_own:
        own = np.arange(len(cells))
        models["pretrained, its own statistics"] = with_statistics(bench.model, cells, own)
    for name, model in models.items():
        mean, whole = latents(model, cells, rows)
        views |= {f"{name}, mean of latents": mean, f"{name}, 50 components of latents": reduced(whole)}
    return views


SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    section.__name__: section for section in (cost, prediction, ami, genes, transfer, regression, networks)
}


def table(rows: list[Row]) -> str:
    """Markdown table of the rows of a section."""
    frame = pd.DataFrame(rows)
    cells = frame.map(lambda x: "" if pd.isna(np.asarray(x)).all() else f"{x:.3g}" if isinstance(x, float) else str(x))
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|---" * frame.shape[1] + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells.to_numpy())])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data, see the recipe")
    parser.add_argument("--model", required=True, help="checkpoint trained by the recipe exceiver-small")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="fewer cells, seeds, draws and steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write a file for each section as it is done")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bench = Bench(options.model, options.data, quick=options.quick, seed=options.seed)
    results: dict[str, Any] = {
        "model": bench.model.name, "weights": bench.model.weights_hash, "config": bench.model.config.to_dict(),
        "seed": options.seed, "quick": options.quick, "grnlab": gl.__version__, "torch": torch.__version__,
        "training": {key: bench.model.provenance.get(key) for key in ("steps", "cells_seen", "minutes", "loss_curve")},
    }  # fmt: skip
    for name in options.only:
        started = time.process_time()
        rows = list(SECTIONS[name](bench))
        results[name] = {"rows": rows, "cpu_s": round(time.process_time() - started, 1)}
        print(f"## {name} ({results[name]['cpu_s']} CPU-s)\n\n{table(rows)}\n", flush=True)
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"{name}.json").write_text(json.dumps(results[name], indent=1) + "\n", encoding="utf-8")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
