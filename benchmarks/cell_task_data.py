"""Cells of the benchmark of tasks: which files, which labels, how noise is made; see :mod:`tasks`."""

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

from grnlab.training.recipes.cell_types import coarse_cell_type

TRAINED, UNSEEN = "trained on", "never trained on"
LOST = 0.6 * 0.55  # r · f of scPRINT's noise
LABELS = {  # spellings the coarse names of the recipe do not cover; None: a type the model has no label for
    "B": "B cell",
    "B Activated": "B cell",
    "CD14+ Mono": "monocyte",
    "FCGR3A+ Mono": "monocyte",
    "CD14 Mono": "monocyte",
    "CD16 Mono": "monocyte",
    "T activated": "T cell",
    "Platelet": None,
    "Mk": None,
    "Eryth": None,
}
RARE = {"pbmc3k": ("DC", "Platelet"), "kang control": ("pDC", "Mk", "Eryth")}


@dataclass(frozen=True)
class Noisy:
    """Counts before and after reads were lost."""

    truth: ad.AnnData
    noisy: ad.AnnData
    factor: float  # of the totals, to come back to the truth's
    rare: np.ndarray
    how: str


def coarse(label: str) -> str | None:
    """Label of the model for a label of a data set."""
    return LABELS[label] if label in LABELS else coarse_cell_type(label)


def read(data: Path, name: str) -> ad.AnnData:
    """Cells of a data set by the name the tables use."""
    files = {
        "pbmc3k": "scrna/pbmc3k",
        "kang control": "scrna/kang2018_ifnb_pbmc",
        "kang donors": "scrna/kang2018_ctrl_5donors_2511g",
        "tian plates": "scrna/tian2019_5cl_celseq2",
    }
    adata = ad.read_h5ad(data / f"{files[name]}.h5ad")
    if name == "kang control":
        adata = adata[adata.obs["condition"] == "CTRL"].copy()
    if name == "tian plates":
        adata = adata[adata.obs["demuxlet"].astype(str).str.upper().str.startswith("SNG")].copy()
    adata.obs["label"] = adata.obs["cell_type"].astype(str)
    return adata


def sample(adata: ad.AnnData, n_cells: int, *, always: np.ndarray | None = None, seed: int = 0) -> ad.AnnData:
    """Random cells, with some that are always taken."""
    rng = np.random.default_rng(seed)
    first = np.flatnonzero(always) if always is not None else np.empty(0, dtype=int)
    rest = rng.permutation(np.setdiff1d(np.arange(adata.n_obs), first))[: max(0, n_cells - len(first))]
    return adata[np.sort(np.concatenate([first, rest]))].copy()


def lose(counts: sp.csr_matrix, *, seed: int = 0) -> sp.csr_matrix:
    """The noise of scPRINT's pretraining: max((x - Poisson(x·r·f)) · [u ≥ r·f], 0)."""
    rng, counts = np.random.default_rng(seed), sp.csr_matrix(counts, dtype=np.float32, copy=True)
    lost, kept = rng.poisson(counts.data * LOST), rng.random(counts.nnz) >= LOST
    counts.data = np.maximum((counts.data - lost) * kept, 0).astype(np.float32)
    counts.eliminate_zeros()
    return counts


def noisy_pair(data: Path, name: str, n_cells: int, *, seed: int = 0) -> Noisy:
    """Truth and noisy copy of a data set; manno of ``read_depth`` is such a pair already.

    Baron's pair is not used: some of its cells are among the training cells of the built-in model.
    """
    if name == "manno":
        truth = ad.read_h5ad(data / f"read_depth/{name}_saver_ref.h5ad")
        noisy = ad.read_h5ad(data / f"read_depth/{name}_saver_downsampled.h5ad")
        keep = np.flatnonzero(np.asarray(noisy.X.sum(1)).ravel() > 0)
        keep = np.sort(np.random.default_rng(seed).permutation(keep)[:n_cells])
        truth, noisy = truth[keep].copy(), noisy[keep].copy()
        factor, nobody = float(truth.X.sum() / noisy.X.sum()), np.zeros(len(keep), dtype=bool)
        return Noisy(truth, noisy, factor, nobody, "down-sampled by SAVER")
    adata = read(data, name)
    truth = sample(adata, n_cells, always=adata.obs["label"].isin(RARE[name]).to_numpy(), seed=seed)
    rare = truth.obs["label"].isin(RARE[name]).to_numpy()
    noisy = ad.AnnData(lose(truth.X, seed=seed), obs=truth.obs.copy(), var=truth.var.copy())
    return Noisy(truth, noisy, 1 / (1 - LOST) ** 2, rare, "scPRINT's noise, r = 0.6, f = 0.55")


def ten_x(data: Path, n_each: int, *, seed: int = 0) -> ad.AnnData:
    """Three chemistries of 10x, the genes they share."""
    parts = {}
    for name in ("pbmc_1k_v2", "pbmc_1k_v3", "pbmc_5p_1k"):
        part = sample(ad.read_h5ad(data / f"scrna/{name}.h5ad"), n_each, seed=seed)
        part.obs["batch"] = name
        part.var_names_make_unique()
        parts[name] = ad.AnnData(part.X, obs=part.obs[["batch"]], var=part.var[[]])
    joined = ad.concat(parts, join="inner", index_unique="-")
    joined.X = sp.csr_matrix(joined.X)
    return joined


def reference(data: Path, n_each: int, *, seed: int = 0) -> ad.AnnData:
    """Sorted blood cells of Zheng 2017, coarse labels: both files are in the training of the model."""
    rng, parts = np.random.default_rng(seed), []
    for name in ("zheng2017_facs_pbmc", "zheng2017_sorted_ref"):
        part = ad.read_h5ad(data / f"scrna/{name}.h5ad")
        part.obs["label"] = part.obs["cell_type"].astype(str).map(coarse)
        part = part[part.obs["label"].notna()].copy()
        labels = part.obs["label"].to_numpy()
        rows = np.concatenate([rng.permutation(np.flatnonzero(labels == one))[:n_each] for one in np.unique(labels)])
        parts.append(ad.AnnData(part.X[np.sort(rows)], obs=part.obs.iloc[np.sort(rows)][["label"]], var=part.var[[]]))
    joined = ad.concat(parts, join="inner", index_unique="-", keys=["facs", "sorted"])
    joined.X = sp.csr_matrix(joined.X)
    return joined


def log_counts(adata: ad.AnnData, *, n_top: int | None = None) -> ad.AnnData:
    """Counts scaled per cell and logged, of the most variable genes where `n_top` is given."""
    import scanpy as sc

    logged = ad.AnnData(sp.csr_matrix(adata.X, dtype=np.float32), obs=adata.obs.copy(), var=adata.var[[]])
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    if n_top is not None:
        sc.pp.highly_variable_genes(logged, n_top_genes=min(n_top, logged.n_vars))
        logged = logged[:, logged.var["highly_variable"]].copy()
    return logged


def components(logged: ad.AnnData) -> np.ndarray:
    """Fifty principal components."""
    from sklearn.decomposition import PCA

    return PCA(min(50, min(logged.shape) - 1), random_state=0).fit_transform(logged.X.toarray()).astype(np.float32)
