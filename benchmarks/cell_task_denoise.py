"""Denoising beside its peers, and the markers it finds: parts of :mod:`tasks`."""

import shutil
from functools import partial
from typing import Any

import anndata as ad
import cell_task_data as cells_of
import numpy as np
import scipy.sparse as sp
from cell_task_shared import SEED, Context, timed

import grnlab as gl


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


def knn_smoothing(counts: sp.csr_matrix, k: int) -> np.ndarray:
    """Algorithm of Wagner et al. 2018 (doi:10.1101/217737): neighbours are found again as cells get smoother."""
    from sklearn.decomposition import PCA

    dense = counts.toarray()
    smoothed = dense
    for step in range(1, int(np.ceil(np.log2(k + 1))) + 1):
        n = min(2**step - 1, k)
        median = np.median(smoothed.sum(1))
        scaled = smoothed / smoothed.sum(1, keepdims=True) * median
        freeman_tukey = np.sqrt(scaled) + np.sqrt(scaled + 1)
        space = PCA(10, random_state=0).fit_transform(freeman_tukey)
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
