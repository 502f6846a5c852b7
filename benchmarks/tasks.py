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
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import anndata as ad  # noqa: E402
import cell_task_data as cells_of  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import scipy.sparse as sp  # noqa: E402
import torch  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402

import grnlab as gl  # noqa: E402

HERE = Path(__file__).parent
SEED = 0
MODEL = "grnlab-small"


@dataclass(frozen=True)
class Context:
    """Settings of a run."""

    data: Path
    quick: bool
    peer: str | None
    scprint: str | None
    folder: Path

    @property
    def n_cells(self) -> int:
        """Cells of a data set."""
        return 150 if self.quick else 400

    @cached_property
    def models(self) -> dict[str, Any]:
        """The built-in model, and one of the same shape with new weights."""
        model = gl.load_model(MODEL)
        torch.manual_seed(SEED)
        fresh = type(model)(model.vocab, model.config, name="untrained").eval()
        return {MODEL: model, "untrained": fresh}

    def ask(self, task: str, **arrays: Any) -> dict[str, np.ndarray] | None:
        """Run a peer; None where there is none."""
        if self.peer is None:
            return None
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
            np.savez(source, **arrays)
            script = HERE / "peers" / "cell_tasks.py"
            run = subprocess.run([self.peer, script, task, source, target], capture_output=True, text=True, check=False)
            if run.returncode:
                print(f"{task} failed: {run.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                return None
            with np.load(target, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its CPU seconds."""
    started = time.process_time()
    found = function()
    return found, time.process_time() - started


# Denoising


def denoising(context: Context, name: str) -> dict[str, Any]:
    """Spearman correlation with the truth, per cell: on genes the truth expresses, and on all of the 5,000 genes."""
    pair = cells_of.noisy_pair(context.data, name, context.n_cells, seed=SEED)
    genes = np.sort(np.flatnonzero(cells_of_variable(pair.truth, 5_000)))
    judged = judged_cells(pair.rare, 60 if context.quick else 250)
    truth = sp.csr_matrix(pair.truth.X)[judged][:, genes].toarray()
    noisy = sp.csr_matrix(pair.noisy.X, dtype=np.float32)
    totals = np.asarray(noisy.sum(1)).ravel()
    rates = sp.csr_matrix(sp.diags(1 / totals) @ noisy)
    logged = cells_of.log_counts(pair.noisy)
    pca, pca_s = timed(lambda: cells_of.components(logged[:, genes]))
    rows: dict[str, tuple[np.ndarray, float]] = {
        "noisy input": (noisy[judged][:, genes].toarray(), 0.0),
        "mean of all cells": (np.tile(np.asarray(rates.mean(0)).ravel()[genes], (len(judged), 1)), 0.0),
    }
    for n in (10, 32):
        found, used = timed(lambda n=n: pooled(noisy, pca, n))
        rows[f"mean of {n} nearest cells (PCA)"] = (found[judged][:, genes], used + pca_s)
        found, used = timed(lambda n=n: knn_smoothing(noisy, n))
        rows[f"kNN-smoothing, k = {n}"] = (found[judged][:, genes], used)
    if found := context.ask("magic", counts=noisy[:, genes].toarray()):
        rows["MAGIC"] = (found["denoised"][judged], float(found["cpu_s"]))
    depth = totals * pair.factor
    for label, model in context.models.items():
        embedded = 0.0
        for neighbors, how in ((10, "10 nearest cells"), (0, "cell alone")):
            adata = ad.AnnData(noisy, var=pair.noisy.var[[]])
            out = context.folder / f"{label} {name} {neighbors}"
            if neighbors == 0:  # the embeddings are the same
                shutil.copytree(context.folder / f"{label} {name} 10" / "embed", out / "embed")
            denoise = partial(gl.tl.denoise, adata, model, target_depth=depth, neighbors=neighbors, out=out)
            _, used = timed(denoise)
            if neighbors:
                _, embedded = timed(partial(gl.tl.embed, ad.AnnData(noisy[:100], var=pair.noisy.var[[]]), model))
                embedded *= noisy.shape[0] / 100
            else:
                used += embedded
            rows[f"{label}, {how}"] = (adata.layers["denoised"][judged][:, genes], used)
            counts = adata.layers["denoised_counts"][judged][:, genes].toarray()
            rows[f"{label}, {how}: counts"] = (counts, used)
    sizes = f"{len(totals)} cells, {noisy.shape[1]} genes, median counts {np.median(totals):.0f}"
    return {
        "data": f"{name}: {sizes}; {pair.how}",
        "in_training": cells_of.UNSEEN,
        "judged": {"cells": int((~pair.rare[judged]).sum()), "rare": int(pair.rare[judged].sum()), "genes": len(genes)},
        "rows": {one: scores(found, truth, pair.rare[judged]) | {"cpu_s": used} for one, (found, used) in rows.items()},
    }


def cells_of_variable(adata: ad.AnnData, n: int) -> np.ndarray:
    """True at the most variable genes."""
    import scanpy as sc

    logged = cells_of.log_counts(adata)
    sc.pp.highly_variable_genes(logged, n_top_genes=min(n, logged.n_vars))
    return logged.var["highly_variable"].to_numpy()


def judged_cells(rare: np.ndarray, n: int) -> np.ndarray:
    """All rare cells and some others."""
    others = np.random.default_rng(SEED).permutation(np.flatnonzero(~rare))[:n]
    return np.sort(np.concatenate([np.flatnonzero(rare), others]))


def pooled(counts: sp.csr_matrix, space: np.ndarray, n: int) -> np.ndarray:
    """Summed counts of the nearest cells, the cell itself among them."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=n).fit(space).kneighbors(space, return_distance=False)
    rows = np.repeat(np.arange(len(space)), n)
    which = sp.csr_matrix((np.ones(rows.size), (rows, found.ravel())), (len(space), len(space)))
    return rates_of((which @ counts).toarray())


def rates_of(counts: np.ndarray) -> np.ndarray:
    """Shares of the counts of each cell."""
    return counts / np.maximum(counts.sum(1, keepdims=True), 1e-12)


def knn_smoothing(counts: sp.csr_matrix, k: int, *, n_components: int = 10) -> np.ndarray:
    """Algorithm of Wagner et al. 2018 (doi:10.1101/217737): neighbours are found again as cells get smoother."""
    from sklearn.decomposition import PCA

    dense = counts.toarray()
    smoothed = dense
    for step in range(1, int(np.ceil(np.log2(k + 1))) + 1):
        n = min(2**step - 1, k)
        median = np.median(smoothed.sum(1))
        scaled = smoothed / smoothed.sum(1, keepdims=True) * median
        freeman_tukey = np.sqrt(scaled) + np.sqrt(scaled + 1)
        space = PCA(n_components, random_state=0).fit_transform(freeman_tukey)
        distance = ((space[:, None] - space[None]) ** 2).sum(-1)
        nearest = np.argsort(distance, axis=1, kind="stable")[:, : n + 1]
        rows = np.repeat(np.arange(len(space)), n + 1)
        which = sp.csr_matrix((np.ones(rows.size), (rows, nearest.ravel())), (len(space), len(space)))
        smoothed = which @ dense
    return rates_of(smoothed)


def scores(found: np.ndarray, truth: np.ndarray, rare: np.ndarray) -> dict[str, Any]:
    """Mean over cells of Spearman's correlation, of ordinary and of rare cells; with standard errors."""
    from scipy.stats import spearmanr

    values = np.empty((len(truth), 2))
    for cell, (one, true) in enumerate(zip(found, truth, strict=True)):
        seen = true > 0
        values[cell] = [spearmanr(one[seen], true[seen])[0], spearmanr(one, true)[0]]
    values = np.nan_to_num(values)  # a profile without differences orders nothing
    result: dict[str, Any] = {}
    for group, where in (("others", ~rare), ("rare", rare)):
        if where.any():
            error = values[where].std(0) / np.sqrt(where.sum())
            for place, genes in enumerate(("expressed", "all")):
                result[f"{group}_{genes}"] = round(float(values[where, place].mean()), 4)
                result[f"{group}_{genes}_se"] = round(float(error[place]), 4)
    return result


# Annotation


def annotation(context: Context, name: str) -> dict[str, Any]:
    """Accuracy and macro-F1 on types of the reference; beside them, what is told to be outside."""
    query = cells_of.read(context.data, name)
    rare = query.obs["label"].isin(cells_of.RARE[name]).to_numpy()
    query = cells_of.sample(query, context.n_cells, always=rare, seed=SEED)
    true = query.obs["label"].map(cells_of.coarse).to_numpy(dtype=object)
    known = cells_of.reference(context.data, 25 if context.quick else 60, seed=SEED)
    taught = known.obs["label"].to_numpy(dtype=str)
    judged = np.isin(true.astype(str), np.unique(taught))
    rows: dict[str, dict[str, Any]] = {}
    shared = known.var_names.intersection(query.var_names)
    x_known = cells_of.log_counts(known[:, shared])
    x_query = cells_of.log_counts(query[:, shared])
    import scanpy as sc

    sc.pp.highly_variable_genes(x_known, n_top_genes=2_000)
    genes = x_known.var["highly_variable"].to_numpy()
    a, b = x_known.X[:, genes].toarray(), x_query.X[:, genes].toarray()
    for label, (said, used) in peers_of_annotation(a, b, taught).items():
        rows[label] = agreement(said[judged], true[judged]) | {"cpu_s": used}
    grouped = clusters(x_query)
    for label, model in context.models.items():
        adata = ad.AnnData(query.X, obs=pd.DataFrame({"cluster": grouped}, index=query.obs_names), var=query.var[[]])
        out = context.folder / f"annotate {name} {label}"
        _, used = timed(partial(gl.tl.annotate, adata, model, groupby="cluster", out=out))
        leaves = adata.obsm["grnlab_cell_type"].iloc[:, : len(model.config.classes["cell_type"])].idxmax(axis=1)
        row = agreement(leaves.to_numpy(dtype=object)[judged], true[judged]) | {"cpu_s": used}
        rows[f"{label}: most probable leaf"] = row
        for column, how in (("grnlab_cell_type", "label or outside"), ("grnlab_cell_type_voted", "voted in clusters")):
            said = adata.obs[column].to_numpy(dtype=object)
            row = agreement(said[judged], true[judged]) | {"cpu_s": used} | outside(said, true, judged)
            rows[f"{label}: {how}"] = row
        if label != MODEL:
            continue
        space = ad.AnnData(known.X, var=known.var[[]])
        _, taught_s = timed(partial(gl.tl.embed, space, model))
        nearest = KNeighborsClassifier(15).fit(space.obsm["X_grnlab_cell_type"], taught)
        found = nearest.predict(np.load(out / "cell_type_embedding.npy"))
        row = agreement(found[judged], true[judged]) | {"cpu_s": taught_s + used}
        rows[f"{label}: kNN (15) in its embedding"] = row
    kinds, sizes = np.unique(true[judged].astype(str), return_counts=True)
    return {
        "data": f"{name}: {query.n_obs} cells; judged {dict(zip(kinds.tolist(), sizes.tolist(), strict=True))}",
        "in_training": cells_of.UNSEEN,
        "reference": f"Zheng 2017, sorted blood cells, {known.n_obs} ({cells_of.TRAINED})",
        "rows": rows,
    }


def peers_of_annotation(a: np.ndarray, b: np.ndarray, taught: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Predictions for `b` of what learns from `a`, and CPU seconds."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tools = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
        "kNN (15, PCA)": make_pipeline(PCA(50, random_state=0), KNeighborsClassifier(15)),
        "gradient boosting (PCA)": make_pipeline(
            PCA(50, random_state=0), HistGradientBoostingClassifier(max_iter=100, random_state=0)
        ),
    }
    return {label: timed(lambda t=tool: t.fit(a, taught).predict(b)) for label, tool in tools.items()}


def clusters(logged: ad.AnnData) -> np.ndarray:
    """Leiden clusters of the principal components: what a user has before any model."""
    import scanpy as sc

    variable = logged.copy()
    sc.pp.highly_variable_genes(variable, n_top_genes=2_000)
    variable.obsm["X_pca"] = cells_of.components(variable[:, variable.var["highly_variable"]])
    sc.pp.neighbors(variable, n_neighbors=15)
    sc.tl.leiden(variable, resolution=2.0, flavor="igraph", n_iterations=2, random_state=0)
    return variable.obs["leiden"].astype(str).to_numpy()


def agreement(said: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Accuracy, and F1 averaged over the true labels."""
    from sklearn.metrics import accuracy_score, f1_score

    said, true = said.astype(str), true.astype(str)
    f1 = f1_score(true, said, labels=np.unique(true), average="macro", zero_division=0)
    return {"accuracy": round(float(accuracy_score(true, said)), 4), "macro_f1": round(float(f1), 4)}


def outside(said: np.ndarray, true: np.ndarray, judged: np.ndarray) -> dict[str, Any]:
    """Shares told to be outside: of cells of types without a label, and of those of known types."""
    far, none = said == "outside", pd.isna(true)
    return {
        "outside_of_unknown": round(float(far[none].mean()), 3) if none.any() else None,
        "outside_of_known": round(float(far[judged].mean()), 3),
        "n_unknown": int(none.sum()),
    }


# Embedding


def embedding(context: Context, name: str) -> dict[str, Any]:
    """scib-metrics: biology (NMI, ARI, silhouette, cLISI) and batches (silhouette, iLISI, kBET, graph)."""
    n_cells = 150 if context.quick else 360
    if name == "three chemistries":
        adata = cells_of.ten_x(context.data, n_cells // 3, seed=SEED)
        labels = labels_by_reference(context, adata)
        how, seen = "labels of a logistic regression on sorted cells, those it is 90 % sure of", cells_of.TRAINED
    else:
        n_cells = n_cells if "kang" in name else n_cells // 2  # a cell of Tian 2019 has ten times the genes
        adata = cells_of.sample(cells_of.read(context.data, name), n_cells, seed=SEED)
        labels = adata.obs["label"].to_numpy(dtype=object)
        how, seen = "labels of the authors", cells_of.UNSEEN if "kang" in name else cells_of.TRAINED
    kept = np.array([one is not None for one in labels])
    adata = adata[kept].copy()
    labels, batch = labels[kept].astype(str), adata.obs["batch"].to_numpy().astype(str)
    logged = cells_of.log_counts(adata, n_top=2_000)
    pca, used = timed(lambda: cells_of.components(logged))
    spaces: dict[str, tuple[np.ndarray, float, bool]] = {"PCA": (pca, used, False)}
    if found := context.ask("harmony", pca=pca.astype(float), batch=batch):
        spaces["Harmony"] = (found["embedding"], used + float(found["cpu_s"]), True)
    columns = adata.var_names.get_indexer(logged.var_names)
    counts = sp.csr_matrix(adata.X)[:, columns].toarray()
    if found := context.ask("scvi", counts=counts, batch=batch, epochs=5 if context.quick else 40):
        spaces["scVI"] = (found["embedding"], float(found["cpu_s"]), True)
    shown: int | str = 2_000 if name == "tian plates" else "all"
    for label, model in context.models.items():
        part = ad.AnnData(adata.X, var=adata.var[[]])
        _, used = timed(lambda a=part, m=model: gl.tl.embed(a, m, genes=shown))
        spaces[f"{label}: cell"] = (part.obsm["X_grnlab"], used, False)
        spaces[f"{label}: cell_type"] = (part.obsm["X_grnlab_cell_type"], used, False)
        spaces[f"{label}: cell_type logits"] = (part.obsm["X_grnlab_cell_type_logits"], used, False)
    found = context.ask("scib", labels=labels, batch=batch, **{f"X:{key}": value[0] for key, value in spaces.items()})
    rows = {}
    for key, (_, used, told) in spaces.items():
        row: dict[str, Any] = {"cpu_s": used, "uses_batches": told}
        if found is not None:
            values = {metric: float(found[f"X:{key}|{metric}"]) for metric in (*BIOLOGY, *BATCHES)}
            row |= {metric: round(value, 4) for metric, value in values.items()}
            row["biology"] = round(float(np.mean([values[metric] for metric in BIOLOGY])), 4)
            row["batches"] = round(float(np.mean([values[metric] for metric in BATCHES])), 4)
        rows[key] = row
    return {
        "data": f"{name}: {adata.n_obs} cells, {len(np.unique(batch))} batches, {len(np.unique(labels))} labels; {how}",
        "in_training": seen,
        "genes_shown": shown,
        "rows": rows,
    }


BIOLOGY = ("nmi", "ari", "silhouette_label", "clisi")
BATCHES = ("silhouette_batch", "ilisi", "kbet", "graph")


def labels_by_reference(context: Context, adata: ad.AnnData) -> np.ndarray:
    """Labels of a logistic regression that learned the sorted cells; None where it is not 90 % sure."""
    import scanpy as sc
    from sklearn.linear_model import LogisticRegression

    known = cells_of.reference(context.data, 25 if context.quick else 150, seed=SEED)
    shared = known.var_names.intersection(adata.var_names)
    x_known, x = cells_of.log_counts(known[:, shared]), cells_of.log_counts(adata[:, shared])
    sc.pp.highly_variable_genes(x_known, n_top_genes=2_000)
    genes = x_known.var["highly_variable"].to_numpy()
    tool = LogisticRegression(max_iter=300).fit(x_known.X[:, genes].toarray(), known.obs["label"].to_numpy(dtype=str))
    sure = tool.predict_proba(x.X[:, genes].toarray())
    labels = tool.classes_[sure.argmax(1)].astype(object)
    labels[sure.max(1) < 0.9] = None
    return labels


# Counterfactuals and markers


def counterfactual(context: Context, name: str) -> dict[str, Any]:
    """Does a T cell given the class embedding of another type move towards that type? Correlation of fold changes."""
    adata = cells_of.sample(cells_of.read(context.data, name), context.n_cells, seed=SEED)
    true = adata.obs["label"].map(cells_of.coarse).to_numpy(dtype=object)
    logged = cells_of.log_counts(adata).X
    rows = {}
    for label, model in context.models.items():
        for target in ("B cell", "monocyte", "NK cell"):
            part = ad.AnnData(adata.X[true == "T cell"], var=adata.var[[]])
            try:
                gl.tl.generate(part, model, swap={"cell_type": target}, donors=adata, target_depth=1e4)
            except ValueError as error:
                rows[f"{label}: T cell → {target}"] = {"said": str(error)[:80]}
                continue
            made = np.log1p(part.layers["generated"]).mean(0) - np.log1p(part.layers["generated_reference"]).mean(0)
            real = np.asarray(logged[true == target].mean(0) - logged[true == "T cell"].mean(0)).ravel()
            judged = part.var["generated"].to_numpy() & (np.asarray(logged.mean(0)).ravel() > 0.05)
            slope = float(made[judged] @ real[judged] / (real[judged] @ real[judged]))
            correlation = float(np.corrcoef(made[judged], real[judged])[0, 1])
            top = np.argsort(-real * judged)[:50]
            up = float((made[top] > 0).mean())
            row = {"correlation": round(correlation, 3), "slope": round(slope, 3), "top_50_up": round(up, 3)}
            rows[f"{label}: T cell → {target}"] = row
    return {"data": f"{name}: {int((true == 'T cell').sum())} T cells", "in_training": cells_of.UNSEEN, "rows": rows}


def markers(context: Context, name: str) -> dict[str, Any]:
    """Markers of a type from 10 cells, before and after denoising, judged by markers from all its other cells."""
    group, adata = "DC", cells_of.read(context.data, name)
    adata = cells_of.sample(adata, context.n_cells, always=(adata.obs["label"] == group).to_numpy(), seed=SEED)
    inside = np.random.default_rng(SEED).permutation(np.flatnonzero(adata.obs["label"] == group))
    few = np.ones(adata.n_obs, dtype=bool)
    few[inside[10:]] = False
    rest = few.copy()
    rest[inside[:10]], rest[inside[10:]] = False, True
    small, judge = adata[few].copy(), adata[rest].copy()
    judge.layers["denoised"] = judge.X
    true = gl.tl.differential(judge, "label", group)["auroc_before"]
    rows = {}
    for label, model in context.models.items():
        part = ad.AnnData(small.X, obs=small.obs[["label"]].copy(), var=small.var[[]])
        gl.tl.denoise(part, model)
        found = gl.tl.differential(part, "label", group)
        for when in ("before", "after"):
            best = found.loc[found["denoised"]].sort_values(f"rank_{when}", kind="stable").index[:50]
            expected = true.reindex(found.index[found["denoised"]])
            agree = expected.corr(found.loc[expected.index, f"auroc_{when}"], method="spearman")
            overlap = len(set(best) & set(expected.nlargest(50).index))
            key = "counts" if when == "before" else f"denoised by {label}"
            rows[key] = {"top_50_shared": overlap, "spearman_auroc": round(float(agree), 3)}
    data = f"{name}: {group}, 10 cells; judged by {len(inside) - 10} others"
    return {"data": data, "in_training": cells_of.UNSEEN, "rows": rows}


# Throughput


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
