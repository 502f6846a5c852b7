"""What adaptation brings: ``python benchmarks/adapt.py planted|dream4|sergio|pbmc3k [--data DIR] [--json FILE]``.

planted, dream4, sergio: a new model trained on the cells alone (:func:`grnlab.tl.adapt` without a model), read by
attention and by the Jacobian, beside Pearson, ridge partial correlation and random forests (GENIE3). Universe: all
ordered pairs of genes; planted: regulators × other genes. SERGIO's noise-free levels are drawn once as Poisson counts.
pbmc3k: the built-in model as it is and adapted, by TRRUST and DoRothEA, as in ``real_networks.py``.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import real_networks
import scipy.sparse as sp

import grnlab as gl
from grnlab.datasets import planted
from grnlab.evaluate import BASELINES, score_edges
from grnlab.evaluate.baselines import genie3, log_normalise

Case = tuple[str, ad.AnnData, np.ndarray, set[tuple[str, str]], list[str]]  # name, cells, expression, edges, regulators


def planted_cases(seeds: int) -> Iterator[Case]:
    """Planted networks of two settings."""
    for setting, options in {"one state": {"n_states": 1}, "confounded": {"n_states": 4, "state_shift": 2.0}}.items():
        for seed in range(seeds):
            data = planted(seed=seed, **options)
            edges = set(zip(data.edges["source"], data.edges["target"], strict=True))
            yield f"{setting} {seed}", data.adata, log_normalise(data.adata.X.toarray()), edges, data.tfs


def dream4_cases(data: Path) -> Iterator[Case]:
    """DREAM4, 100 genes, multifactorial."""
    for path in sorted((data / "dream4").glob("size100_multifactorial_?.csv")):
        table = pd.read_csv(path)
        gold = pd.read_csv(path.with_name(f"{path.stem}_goldstandard.tsv"), sep="\t", header=None)
        edges = set(gold.loc[gold[2] == 1, [0, 1]].itertuples(index=False, name=None))
        levels = ad.AnnData(table.to_numpy(float), var=pd.DataFrame(index=list(table.columns)))
        yield path.stem, gl.pp.pseudo_counts(levels), levels.X, edges, list(table.columns)


def sergio_cases(data: Path) -> Iterator[Case]:
    """SERGIO, 100 genes, spliced counts."""
    for path in sorted((data / "sergio").glob("DS?/simulated_noNoise_S_0.csv.gz")):
        levels = pd.read_csv(path, index_col=0).T.to_numpy()
        names = [f"S{number}" for number in range(levels.shape[1])]
        gold = pd.read_csv(path.with_name("gt_GRN.csv"), header=None)
        edges = {(f"S{int(source)}", f"S{int(target)}") for source, target in zip(gold[0], gold[1], strict=True)}
        counts = np.random.default_rng(0).poisson(levels).astype(np.float32)
        cells = ad.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=names))
        yield path.parent.name, cells, log_normalise(counts), edges, names


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
                None, adata, genes="all", max_steps=max(n_steps, 1), lr=None if n_steps else 0.0, progress=False
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
    real_networks.DATASETS = {"pbmc3k": "scrna/pbmc3k.h5ad"}
    model, cells = gl.load_model("grnlab-small"), gl.io.read(data / "scrna/pbmc3k.h5ad")
    variants = [("built-in", model, 0.0)]
    for n_steps in filter(None, steps):
        for lr in rates:
            start = time.process_time()
            adapted = gl.tl.adapt(model, cells, max_steps=n_steps, lr=lr, progress=False)
            variants.append((f"{n_steps} steps, lr {lr:g}", adapted, time.process_time() - start))
    for label, one, seconds in variants:
        for row in real_networks.score_model(one, data, n_genes=2_000, baselines=False)[0]:
            level = "pooled" if row["group"] == "all cells" else "types"
            yield row | {
                "case": f"{row['gold']}, {level}",
                "method": f"{row['method']}: {label}",
                "cpu_seconds": seconds,
            }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("planted", "dream4", "sergio", "pbmc3k"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 1_000, 3_000])
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.what != "planted" and options.data is None:
        parser.error(f"{options.what} needs --data")
    if options.what == "pbmc3k":
        rows = list(real(options.data, options.steps, options.lr))
    else:
        cases = {"planted": planted_cases, "dream4": dream4_cases, "sergio": sergio_cases}[options.what]
        rows = list(simulated(cases(options.seeds if options.what == "planted" else options.data), options.steps))
    table = pd.DataFrame(rows)
    table["case"] = table["case"].str.replace(r"[ _]\d$", "", regex=True)
    columns = [
        name for name in ("auprc", "auprc_ratio", "epr", "auroc", "per_tf_auroc", "cpu_seconds") if name in table
    ]
    print(table.groupby(["case", "method"], sort=False)[columns].mean().round(3).to_string())
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
