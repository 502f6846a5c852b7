"""Peers of the tasks on cells, in an environment of their own: MAGIC, Harmony, scVI, and the metrics of scib.

``python benchmarks/peers/cell_tasks.py TASK IN.npz OUT.npz`` reads arrays, writes arrays; CPU seconds of the method
itself, after the imports, are among them. Needs magic-impute, harmonypy, scvi-tools, scib-metrics and scanpy.
"""

import sys
import time
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np

warnings.filterwarnings("ignore")


def magic(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Diffuse square roots of counts scaled per cell, as its tutorial does."""
    import magic

    counts = given["counts"].astype(float)
    scaled = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4)
    started = time.process_time()
    found = np.asarray(magic.MAGIC(random_state=0, n_jobs=1, verbose=0).fit_transform(scaled))
    return {"denoised": found**2, "cpu_s": time.process_time() - started, "version": version("magic-impute")}


def harmony(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Correct the principal components."""
    import harmonypy
    import pandas as pd

    batches = pd.DataFrame({"batch": given["batch"].astype(str)})
    started = time.process_time()
    found = harmonypy.run_harmony(given["pca"], batches, ["batch"], random_state=0)
    corrected = np.asarray(found.Z_corr)
    corrected = corrected if len(corrected) == len(batches) else corrected.T
    return {"embedding": corrected, "cpu_s": time.process_time() - started, "version": version("harmonypy")}


def scvi(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Train scVI with the batches, default sizes."""
    import anndata as ad
    import scvi as tools
    import torch

    torch.set_num_threads(1)
    tools.settings.seed = 0
    adata = ad.AnnData(given["counts"].astype(np.float32))
    adata.obs["batch"] = given["batch"].astype(str)
    started = time.process_time()
    tools.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = tools.model.SCVI(adata)
    model.train(max_epochs=int(given["epochs"]), accelerator="cpu", enable_progress_bar=False, logger=False)
    found = model.get_latent_representation()
    return {"embedding": found, "cpu_s": time.process_time() - started, "version": version("scvi-tools")}


def scib(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Metrics of every embedding: the parts of scib-metrics that need no uncorrected reference."""
    import scib_metrics as sm
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    labels, batch = (np.unique(given[name].astype(str), return_inverse=True)[1] for name in ("labels", "batch"))
    found: dict[str, Any] = {"version": version("scib-metrics")}
    width = max(space.shape[1] for name, space in given.items() if name.startswith("X:"))
    for name, space in given.items():
        if not name.startswith("X:"):
            continue
        x = np.zeros((len(space), width), dtype=np.float32)  # zeros change no distance; one shape is compiled once
        x[:, : space.shape[1]] = space
        distances, indices = NearestNeighbors(n_neighbors=90).fit(x).kneighbors(x)
        near = NeighborsResults(indices=indices, distances=distances)
        few = near.subset_neighbors(n=15)
        clusters = sm.nmi_ari_cluster_labels_kmeans(x, labels)
        scores = {
            "nmi": clusters["nmi"],
            "ari": clusters["ari"],
            "silhouette_label": sm.silhouette_label(x, labels),
            "clisi": sm.clisi_knn(near, labels),
            "silhouette_batch": sm.silhouette_batch(x, labels, batch),
            "ilisi": sm.ilisi_knn(near, batch),
            "kbet": sm.kbet_per_label(near.subset_neighbors(n=50), batch, labels),
            "graph": sm.graph_connectivity(few, labels),
        }
        found |= {f"{name}|{metric}": float(value) for metric, value in scores.items()}
    return found


if __name__ == "__main__":
    task, source, target = sys.argv[1:]
    with np.load(source, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    tasks = {"magic": magic, "harmony": harmony, "scvi": scvi, "scib": scib}
    np.savez(target, **tasks[task](arrays))
