"""MAGIC and scVI on shallow counts, in an environment of their own: ``depth_peers.py NAME FOLDER EPOCHS SEED``.

Reads FOLDER/cells.h5ad, writes FOLDER/out.npz: ``values`` (log1p of counts per 10,000), ``latent``, ``cpu_s``.
"""

import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np


def magic(adata: ad.AnnData, epochs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As its tutorial: counts per 10,000, square root, defaults of MAGIC; squared again."""
    import magic as package

    counts = adata.X.toarray()
    scaled = np.sqrt(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    smoothed = package.MAGIC(random_state=seed, verbose=0).fit_transform(scaled, genes="all_genes")
    values = np.log1p(np.square(np.maximum(np.asarray(smoothed), 0)))
    return values, values[:, :1]


def scvi(adata: ad.AnnData, epochs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Defaults of scVI but the number of epochs."""
    import scvi as package
    import torch

    torch.set_num_threads(1)
    package.settings.seed = seed
    package.model.SCVI.setup_anndata(adata)
    model = package.model.SCVI(adata)
    model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, logger=False)
    scaled = model.get_normalized_expression(library_size=1e4, return_numpy=True)
    return np.log1p(scaled), model.get_latent_representation()


if __name__ == "__main__":
    name, folder, epochs, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    cells = ad.read_h5ad(folder / "cells.h5ad")
    started = time.process_time()
    found, latent = {"magic": magic, "scvi": scvi}[name](cells, epochs, seed)
    np.savez(folder / "out.npz", values=found, latent=latent, cpu_s=time.process_time() - started)
