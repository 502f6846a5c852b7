"""Read-outs of a model beside correlation: ``python benchmarks/readouts.py --json FILE``.

By default on planted networks (:func:`grnlab.datasets.planted`), with one state and with four that confound
correlation: a small model is trained on each (as in ``tests/test_planted.py``), every read-out scores every regulator ×
other gene, and AUPRC is printed beside Pearson, ridge partial correlation and mean expression. Minutes on one core.

``--data DIR`` instead: two cell types of ``DIR/scrna/pbmc3k.h5ad`` with the built-in model, against ``networks/``
(TRRUST, DoRothEA A-C): AUPRC over the base rate, early precision ratio, mean AUROC per regulator, wall and CPU seconds.
Universe: the regulators of the gold standard × its targets, those expressed in 2 % of the cells of the type.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import grnlab as gl
from grnlab.attention import READOUTS, PairScores, ReadOutConfig
from grnlab.backbones import ScPrint, ScPrintConfig
from grnlab.data import CellCollection
from grnlab.datasets import PlantedNetwork, planted
from grnlab.evaluate import BASELINES, candidate_universe, score_edges, score_regulators, score_universe
from grnlab.evaluate.baselines import log_normalise
from grnlab.training import PretrainConfig, pretrain

SETTINGS = {"one state": {"n_states": 1}, "confounded": {"n_states": 4, "state_shift": 2.0}}
MODEL = ScPrintConfig(n_layers=2, d_model=48, n_heads=4, decoder="mse", positions=False, dropout=0.0, drop_path=0.0)
SHOWN = ("pearson", "ridge_partial_correlation", "mean_expression")
CELL_TYPES = ("Naive CD4 T", "CD14+ Mono")
SYMMETRIC = ("attention", "attention_apc", "attention_cells", "cosine")
REAL_METHODS: dict[str, dict[str, object]] = {  # what takes long on 1,000 genes is thinned
    "attention": {},
    "attention_directed": {},
    "attention_apc": {},
    "attention_cells": {},
    "value_norm": {},
    "cosine": {},
    "attention_gradient": {"n_masks": 4},
    "jacobian": {},
    "perturbation": {"quantiles": (1.0,)},
    "integrated_gradients": {"n_steps": 4},
}


def variants(scores: PairScores) -> Iterator[tuple[str, PairScores]]:
    """The scores as they are, and symmetrised and corrected where that is something else."""
    yield scores.method, scores
    if scores.method not in SYMMETRIC:
        yield f"{scores.method}, symmetrised", scores.symmetrised()
        yield f"{scores.method}, symmetrised + APC", scores.symmetrised().apc()
        turned = {name: values.T for name, values in scores.groups.items()}
        yield f"{scores.method}, reversed", PairScores(**{**vars(scores), "groups": turned})
    if scores.method in ("attention_cells", "cosine"):
        yield f"{scores.method} + APC", scores.apc()


def trained(data: PlantedNetwork, seed: int) -> ScPrint:
    """A small model of the planted cells."""
    cells = CellCollection.from_counts(sp.csr_matrix(data.adata.X), name="simulated")
    run = PretrainConfig(
        objectives=("mask",),
        n_tokens=data.adata.n_vars,
        batch_size=64,
        lr=3e-3,
        warmup=50,
        max_steps=1_200,
        val_every=1_200,
        seed=seed,
    )
    return pretrain(data.vocab, cells, model=MODEL, config=run, progress=False)


def planted_scores(n_seeds: int, max_cells: int) -> list[dict[str, object]]:
    """AUPRC per setting, seed and read-out."""
    rows: list[dict[str, object]] = []
    for setting, options in SETTINGS.items():
        for seed in range(n_seeds):
            data = planted(seed=seed, **options)
            model = trained(data, seed).eval()
            true = set(zip(data.edges["source"], data.edges["target"], strict=True))
            truth = np.array([[(tf, gene) in true for gene in data.others] for tf in data.tfs])
            names = list(data.adata.var_names)
            expression = log_normalise(data.adata.X.toarray())
            pairs = [names.index(tf) for tf in data.tfs], [names.index(gene) for gene in data.others]

            scores_of = {name: (BASELINES[name](expression, *pairs), 0.0) for name in SHOWN}
            for method in READOUTS:
                start = time.process_time()
                found = gl.tl.read_out(
                    data.adata, model, method, genes="all", regulators="all", context="shared", max_cells=max_cells
                )
                seconds = time.process_time() - start
                for name, scores in variants(found):
                    scores_of[name] = scored(scores, "all", data.tfs, data.others), seconds
            for name, (score, seconds) in scores_of.items():
                auprc = score_edges(truth, score).auprc
                rows.append({"setting": setting, "seed": seed, "readout": name, "auprc": auprc, "seconds": seconds})
    table = pd.DataFrame(rows).pivot_table(index="readout", columns="setting", values=["auprc", "seconds"], sort=False)
    print(table.round(3).to_string())
    return rows


def scored(scores: PairScores, group: str, regulators: list[str], targets: list[str]) -> np.ndarray:
    """Strength of listed pairs; one that was never observed is below every other."""
    strength = scores.strength(group)
    row, column = (
        pd.Index(scores.genes.index[rows]).get_indexer(names)
        for rows, names in ((scores.regulators, regulators), (scores.targets, targets))
    )
    return np.nan_to_num(strength, nan=np.nanmin(strength) - 1)[np.ix_(row, column)]


def real_scores(folder: Path, *, n_genes: int, max_cells: int) -> Iterator[list[dict[str, object]]]:
    """Scores per cell type, gold standard and read-out: all so far, after each read-out."""
    model = gl.load_model("grnlab-small")
    adata = gl.io.read(folder / "scrna/pbmc3k.h5ad")
    adata = adata[adata.obs["cell_type"].isin(CELL_TYPES)].copy()
    networks, confident = folder / "networks", {"confidence": ["A", "B", "C"]}
    golds = [
        gl.io.read_gold(networks / "trrust_v2_human.csv.gz", name="TRRUST").align(model.vocab),
        gl.io.read_gold(networks / "dorothea_human.csv.gz", name="DoRothEA A-C", keep=confident).align(model.vocab),
    ]
    rows: list[dict[str, object]] = []

    def add(name: str, group: str, kept: list[str], score: object, cost: dict[str, float]) -> None:
        for gold in golds:
            universe = candidate_universe(gold, kept)
            named = [kept[gene] for gene in universe.regulators], [kept[gene] for gene in universe.targets]
            values = score(universe, named)  # type: ignore[operator]
            found = score_universe(universe, values)
            row = {"group": group, "gold": gold.name, "readout": name}
            row |= {key: getattr(found, key) for key in ("auprc_ratio", "epr", "auroc")}
            row["per_tf_auroc"] = score_regulators(universe, values)["auroc"].mean()
            rows.append(row | {"candidates": found.n_candidates, "true": found.n_true} | cost)

    found = gl.tl.read_out(adata, model, "cosine", groupby="cell_type", genes=n_genes, max_cells=max_cells)
    for group in found.groups:
        cells = adata[adata.obs["cell_type"].astype(str) == group]
        enough = found.expression[group]["fraction_expressed"] >= 0.02
        kept = list(found.genes.index[enough])
        expression = log_normalise(cells.X.toarray())[
            :, cells.var_names.get_indexer(found.genes["name_in_data"][enough.to_numpy()])
        ]
        for name in SHOWN:
            of = BASELINES[name]
            add(name, group, kept, lambda u, _, of=of, x=expression: of(x, u.regulators, u.targets), {})
    for method, settings in REAL_METHODS.items():
        wall, cpu = time.perf_counter(), time.process_time()
        found = gl.tl.read_out(
            adata,
            model,
            method,
            groupby="cell_type",
            genes=n_genes,
            regulators="all",
            max_cells=max_cells,
            config=ReadOutConfig(**settings),
        )
        cost = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        for name, scores in variants(found):
            for group in scores.groups:
                enough = scores.expression[group]["fraction_expressed"] >= 0.02
                kept = list(scores.genes.index[enough])
                add(name, group, kept, lambda _, named, s=scores, g=group: scored(s, g, *named), cost)
        yield rows
        print(method, settings, {key: round(value, 1) for key, value in cost.items()}, flush=True)
    table = pd.DataFrame(rows).groupby(["gold", "readout"])
    print(table[["auprc_ratio", "epr", "auroc", "per_tf_auroc", "wall_s"]].mean().round(3).to_string())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--genes", type=int, default=1_000)
    parser.add_argument("--max-cells", type=int)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs: Iterable[list[dict[str, object]]]
    if options.data is None:
        runs = [planted_scores(options.seeds, options.max_cells or 200)]
    else:
        runs = real_scores(options.data, n_genes=options.genes, max_cells=options.max_cells or 50)
    for rows in runs:
        if options.json is not None:
            options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
