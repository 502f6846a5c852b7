"""Cell types told by a CellLM, fine-tuned or frozen, beside what is simpler and beside the same model untrained.

``python benchmarks/celllm.py --data DIR --model DIR [--quick] [--sets NAME ...] [--json FILE] [--out FILE]`` prints a
Markdown table. Each data set is cut to at most 500 cells, drawn by type, and 80 % of them are learned from, in five
draws; few-shot methods see 5 % of these, two cells of a type at least. Every method sees the same cells and the same
1,000 genes. Counts are ln(1 + counts per 10,000). Models: fine-tuned by :func:`grnlab.tl.fine_tune` (classes balanced,
ten epochs) or, few-shot, also frozen under a linear head; "untrained" has new weights, one draw per seed. Baselines:
logistic regression (scikit-learn, C = 1; also with balanced classes, and on standardised genes), kNN (15) and gradient
boosting (100 trees) on 50 principal components, and stochastic gradient descent on standardised genes clipped at 10, as
CellTypist does.
"""

import argparse
import datetime as dt
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

import grnlab as gl
from grnlab.benchmark.task import untrained_like
from grnlab.data.counts import counts_of
from grnlab.tasks import FineTuneConfig, classification_scores, few_shot

Row = dict[str, Any]
SETS = {
    "zheng2017_facs": ("scrna/zheng2017_facs_pbmc.h5ad", {}),
    "pbmc3k": ("scrna/pbmc3k.h5ad", {}),
    "kang_control": ("scrna/kang2018_ifnb_pbmc.h5ad", {"batch": "CTRL"}),
    "tian_celseq2": ("scrna/tian2019_5cl_celseq2.h5ad", {"demuxlet": "SNG"}),
    "baron_human": ("scrna/baron2016_human_sub175.h5ad", {}),
    "zheng68k_reduced": ("scrna/zheng68k_reduced_700.h5ad", {}),
}
N_GENES, N_CELLS, SHARE, FEW = 1_000, 500, 0.8, 0.05


def cells_of(path: Path, keep: dict[str, str]) -> ad.AnnData:
    """Labelled cells of a file, types of ten cells or more, at most 500 drawn by type, and the genes to show."""
    adata = ad.read_h5ad(path)
    for column, value in keep.items():
        adata = adata[adata.obs[column] == value]
    kind = adata.obs["cell_type"].astype(str)
    counted = kind.value_counts()
    rows = np.flatnonzero(kind.isin(counted.index[counted >= 10]).to_numpy())
    if len(rows) > N_CELLS:
        rows = rows[few_shot(kind.to_numpy()[rows], N_CELLS / len(rows), seed=0)]
    found = ad.AnnData(counts_of(adata[rows].copy()), var=pd.DataFrame(index=adata.var_names))
    found.obs["cell_type"] = kind.to_numpy()[rows]
    return found


def split(labels: np.ndarray, share: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells to learn from and to be judged by; the latter are the same whatever share of the former is used."""
    train = few_shot(labels, SHARE, seed=seed)
    test = np.setdiff1d(np.arange(len(labels)), train)
    return (train if share == 1 else train[few_shot(labels[train], share, seed=seed)]), test


def baselines(seed: int) -> dict[str, Callable[[], Any]]:
    """Name → pipeline on log counts."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    def pca(n_cells: int) -> Any:
        return PCA(min(50, n_cells - 1), random_state=seed, svd_solver="randomized")

    def clip() -> Any:
        return FunctionTransformer(_clip)

    return {
        "logistic regression": lambda n: LogisticRegression(max_iter=300),
        "logistic regression, balanced": lambda n: LogisticRegression(max_iter=300, class_weight="balanced"),
        "logistic regression, standardised": lambda n: make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=300)
        ),
        "SGD, as CellTypist": lambda n: make_pipeline(
            StandardScaler(), clip(), SGDClassifier(loss="log_loss", random_state=seed)
        ),
        "kNN": lambda n: make_pipeline(pca(n), KNeighborsClassifier(min(15, n))),
        "gradient boosting": lambda n: make_pipeline(
            pca(n), HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=seed)
        ),
    }


def _clip(x: np.ndarray) -> np.ndarray:
    return x.clip(max=10)


def scores_of(adata: ad.AnnData, models: dict[str, Any], *, name: str, seed: int, share: float) -> Iterator[Row]:
    """A row per method."""
    from grnlab.attention.prepare import prepare_cells

    kind = adata.obs["cell_type"].to_numpy().astype(str)
    classes, truth = np.unique(kind, return_inverse=True)
    train, test = split(kind, share, seed=seed)
    first = next(iter(models.values()))
    # the genes are chosen among the cells that are learned from
    chosen = prepare_cells(
        adata[train].copy(), first, groupby=None, genes=N_GENES, layer=None, min_cells=1, skip_small=False
    ).genes
    counts = adata[:, chosen["name_in_data"]].X
    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    logged = np.log1p(counts.toarray() / totals[:, None] * 1e4)
    common = {"data": name, "seed": seed, "share": share, "n_train": len(train), "n_test": len(test)}
    for method, make in baselines(seed).items():
        started = time.process_time()
        fitted = make(len(train)).fit(logged[train], truth[train])
        probabilities = np.eye(len(classes))[fitted.predict(logged[test])]
        yield common | {"method": method} | _scores(truth[test], probabilities, classes, started)
    genes = list(chosen.index)
    for label, model in models.items():
        for freeze in (False, True) if share < 1 else (False,):
            config = FineTuneConfig(
                seed=seed, val_fraction=0.0, lr=1e-2, backbone_lr=3e-3, max_epochs=40 if freeze else 10
            )
            started = time.process_time()
            # without its cache: weights that change would stay what they were when it was first used
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                tuned = gl.tl.fine_tune(
                    adata[train].copy(), model, target="cell_type", freeze=freeze, genes=genes, config=config,
                    progress=False,
                )  # fmt: skip
                found = tuned.predict(adata[test].copy()).reindex(columns=classes).to_numpy()
            how = "frozen" if freeze else "fine-tuned"
            yield common | {"method": f"{label}, {how}"} | _scores(truth[test], found, classes, started)


def _scores(truth: np.ndarray, probabilities: np.ndarray, classes: np.ndarray, started: float) -> Row:
    found = classification_scores(truth, probabilities, list(classes))
    kept = {key: round(found[key], 4) for key in ("macro_f1", "weighted_f1", "accuracy")}
    return kept | {"cpu_s": round(time.process_time() - started, 2)}


def table(rows: Sequence[Row]) -> str:
    """Markdown: mean and standard deviation over the seeds, the best of each data set in bold."""
    frame = pd.DataFrame(rows)
    lines = []
    for (name, share), part in frame.groupby(["data", "share"], sort=False):
        size = f"{part['n_train'].iloc[0]} cells learned from, {part['n_test'].iloc[0]} judged by"
        lines += [
            f"**{name}**, {'all' if share == 1 else f'{share:.0%}'}: {size}, {part['seed'].nunique()} seed(s)",
            "",
        ]
        lines += ["| method | macro F1 | weighted F1 | accuracy | CPU-s |", "|---|---|---|---|---|"]
        means = part.groupby("method", sort=False)[["macro_f1", "weighted_f1", "accuracy", "cpu_s"]].mean()
        spread = part.groupby("method", sort=False)[["macro_f1", "weighted_f1", "accuracy"]].std()
        for method, row in means.iterrows():
            one = spread.loc[method].isna().all()  # a single draw has no spread
            values = [f"{row[key]:.3f}" + ("" if one else f" ± {spread.loc[method, key]:.3f}") for key in spread]
            if row["macro_f1"] == means["macro_f1"].max():
                values[0] = f"**{values[0]}**"
            lines.append(f"| {method} | " + " | ".join([*values, f"{row['cpu_s']:.1f}"]) + " |")
        lines.append("")
    return "\n".join(lines)


def above_regression(rows: Sequence[Row]) -> list[str]:
    """Data sets on which the fine-tuned model has a higher mean macro F1 than each logistic regression."""
    frame = pd.DataFrame(rows)
    found = []
    for name, part in frame[frame["share"] == 1].groupby("data"):
        mean = part.groupby("method")["macro_f1"].mean()
        regression = mean[[method for method in mean.index if method.startswith("logistic")]].max()
        tuned = [method for method in mean.index if method.startswith("celllm") and method.endswith("fine-tuned")]
        if tuned and mean[tuned].max() > regression:
            found.append(str(name))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all data sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="checkpoint of a CellLM")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one data set, one seed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write after each draw; rows there are not run again")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there too")
    options = parser.parse_args(arguments)

    warnings.filterwarnings("ignore")  # of convergence and of Lightning's loaders
    trained = gl.load_model(options.model)
    said = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "grnlab": gl.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "model": trained.name,
        "weights_sha256": trained.weights_hash,
        "steps": trained.provenance.get("steps"),
        "cells_seen": trained.provenance.get("cells_seen"),
        "n_genes": N_GENES,
        "precision": "bfloat16 mixed",
    }
    rows: list[Row] = []
    if options.json is not None and options.json.is_file():
        rows = json.loads(options.json.read_text(encoding="utf-8"))["rows"]
    done = {(row["data"], row["seed"], row["share"]) for row in rows}
    sets, seeds = (options.sets[:1], 1) if options.quick else (options.sets, options.seeds)
    for seed in range(seeds):
        new = untrained_like(trained, seed)
        for name in sets:
            file, keep = SETS[name]
            adata = cells_of(options.data / file, keep)
            for share in (1.0, FEW):
                if (name, seed, share) in done:
                    continue
                models = {"celllm": trained, "untrained": new}
                rows += scores_of(adata, models, name=name, seed=seed, share=share)
                print(f"{name}, seed {seed}, share {share}", flush=True)
                if options.json is not None:
                    content = {"conditions": said, "rows": rows, "above_regression": above_regression(rows)}
                    options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    above = ", ".join(above_regression(rows)) or "none"
    text = table(rows) + f"\nFine-tuned above logistic regression (macro F1, all cells): {above}"
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
