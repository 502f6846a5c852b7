"""What adaptation brings: ``python benchmarks/adapt.py planted|simulated|pbmc3k [--data DIR] [--json FILE]``.

planted: a new model trained on the cells alone (:func:`grnlab.tl.adapt` without a model), read by attention and by the
Jacobian, beside Pearson, ridge partial correlation and random forests (GENIE3), on all regulators × other genes.
simulated: the same on DREAM4 and SERGIO, with the cases, candidates and baselines of ``grnlab benchmark``; the seconds
of every read-out include those of the training.
pbmc3k: the built-in model as it is and adapted, by TRRUST and DoRothEA, with the cases of ``grnlab benchmark``.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import grnlab as gl
from grnlab.benchmark import choose, run_benchmark
from grnlab.datasets import planted
from grnlab.evaluate import BASELINES, score_edges
from grnlab.evaluate.baselines import genie3, log_normalise

Case = tuple[str, ad.AnnData, np.ndarray, set[tuple[str, str]], list[str]]  # name, cells, expression, edges, regulators
SIMULATED = (*(f"dream4_{number}" for number in range(1, 5)), "sergio_ds4", "sergio_ds5")
OF_A_MODEL = ("attention", "attention_apc", "jacobian_symmetrised", "embedding_cosine")
BESIDE = ("untrained", "random", "spearman", "pearson", "ridge_partial_correlation", "grnboost2", "variance_expression")


def planted_cases(seeds: int) -> Iterator[Case]:
    """Planted networks of two settings."""
    for setting, options in {"one state": {"n_states": 1}, "confounded": {"n_states": 4, "state_shift": 2.0}}.items():
        for seed in range(seeds):
            data = planted(seed=seed, **options)
            edges = set(zip(data.edges["source"], data.edges["target"], strict=True))
            yield f"{setting} {seed}", data.adata, log_normalise(data.adata.X.toarray()), edges, data.tfs


def benchmarked(data: Path, steps: list[int], cases: list[str]) -> Iterator[dict[str, object]]:
    """DREAM4 (100 genes, multifactorial) and SERGIO as ``grnlab benchmark`` judges them, for each number of steps."""
    for number, n_steps in enumerate(filter(None, steps)):
        config = choose(cases, OF_A_MODEL if number else (*OF_A_MODEL, *BESIDE), adapt_steps=n_steps)
        with tempfile.TemporaryDirectory() as folder:
            table = run_benchmark(Path(folder) / "out", gl.load_model("grnlab-small"), config, data=data)
        for row in table[table["error"] == ""].to_dict("records"):
            label = f"{row['method']}, {n_steps} steps" if row["kind"] == "model" else row["method"]
            kept = {name: row[name] for name in ("base_rate", "auprc", "auprc_ratio", "epr", "auroc")}
            yield {"case": row["dataset"], "method": label, **kept, "cpu_seconds": row["cpu_s"]}


def simulated(cases: Iterator[Case], steps: list[int]) -> Iterator[dict[str, object]]:
    """Score a new model and the baselines on each case."""
    for name, adata, expression, edges, regulators in cases:
        names = list(adata.var_names)
        rows = np.array([names.index(gene) for gene in regulators])
        columns = np.arange(len(names)) if len(rows) == len(names) else np.setdiff1d(np.arange(len(names)), rows)
        truth = np.array([[(names[r], names[t]) in edges for t in columns] for r in rows])
        inside = rows[:, None] != columns
        scores, seconds = {}, {}
        for method in ("pearson", "ridge_partial_correlation", "genie3"):
            start = time.process_time()
            scores[method] = (BASELINES | {"genie3": genie3})[method](expression, rows, columns)
            seconds[method] = time.process_time() - start
        for n_steps in steps:
            start = time.process_time()
            model = gl.tl.adapt(
                adata, genes="all", max_steps=max(n_steps, 1), lr=None if n_steps else 0.0, progress=False
            )
            trained = time.process_time() - start
            for method in ("attention", "jacobian"):
                start = time.process_time()
                found = gl.tl.read_out(adata, model, method, genes="all", regulators="all")
                found = found.symmetrised() if method == "jacobian" else found  # attention is
                place = found.genes.index[found.targets].get_indexer(names)
                label = f"{method}, {n_steps} steps"
                scores[label] = np.nan_to_num(found.strength("all"), nan=-1e9)[np.ix_(place[rows], place[columns])]
                seconds[label] = trained + time.process_time() - start
        for method, score in scores.items():
            of = score_edges(truth[inside], score[inside])
            row = {"case": name, "method": method, "auprc": of.auprc, "auprc_ratio": of.auprc_ratio, "epr": of.epr}
            yield row | {"auroc": of.auroc, "cpu_seconds": seconds[method]}
        print(name, flush=True)


def real(data: Path, steps: list[int], rates: list[float]) -> Iterator[dict[str, object]]:
    """Score the built-in model and its adapted copies on pbmc3k."""
    config = choose(["pbmc3k"], OF_A_MODEL[:2], golds=["trrust", "dorothea_abc"])
    model, cells = gl.load_model("grnlab-small"), gl.io.read(data / "scrna/pbmc3k.h5ad")
    variants = [("built-in", model, 0.0)]
    for n_steps in filter(None, steps):
        for lr in rates:
            start = time.process_time()
            adapted = gl.tl.adapt(cells, model, max_steps=n_steps, lr=lr, progress=False)
            variants.append((f"{n_steps} steps, lr {lr:g}", adapted, time.process_time() - start))
    for label, one, seconds in variants:
        with tempfile.TemporaryDirectory() as folder:
            table = run_benchmark(Path(folder) / "out", one, config, data=data)
        for row in table.to_dict("records"):
            level = "pooled" if row["group"] == "all cells" else "types"
            kept = {name: row[name] for name in ("base_rate", "auprc", "auprc_ratio", "epr", "auroc", "per_tf_auroc")}
            yield kept | {
                "case": f"{row['gold']}, {level}",
                "method": f"{row['method']}: {label}",
                "cpu_seconds": seconds,
            }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("planted", "simulated", "pbmc3k"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 1_000, 3_000])
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=SIMULATED, default=SIMULATED, metavar="NAME")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.what != "planted" and options.data is None:
        parser.error(f"{options.what} needs --data")
    if options.what == "pbmc3k":
        rows = list(real(options.data, options.steps, options.lr))
    elif options.what == "simulated":
        rows = list(benchmarked(options.data, options.steps, options.cases))
    else:
        rows = list(simulated(planted_cases(options.seeds), options.steps))
    table = pd.DataFrame(rows)
    table["case"] = table["case"].str.replace(r"[ _](ds)?\d$", "", regex=True)
    columns = [
        name for name in ("auprc", "auprc_ratio", "epr", "auroc", "per_tf_auroc", "cpu_seconds") if name in table
    ]
    print(table.groupby(["case", "method"], sort=False)[columns].mean().round(3).to_string())
    if options.json is not None:
        settings = {name: value for name, value in vars(options).items() if name not in ("data", "json")}
        content = {"settings": settings, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
