"""Embeddings of cells, one of the cell and one for each class of the model, as scanpy uses them.

Shape suffixes: B cells, M model dimension.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from grnlab.backbones.base import Backbone, Encoded
from grnlab.tasks._cells import open_cells
from grnlab.tasks._slots import check_slots, sign_slots
from grnlab.tasks._stream import batches, run_cells


def embed(
    adata: ad.AnnData,
    model: Backbone,
    *,
    layer: str | None = None,
    context: str = "expressed",
    genes: int | str | Collection[str] = "all",
    classes: bool = True,
    key: str = "X_grnlab",
    out: str | Path | None = None,
) -> None:
    """Write the embeddings of cells into ``adata.obsm``, for ``scanpy.pp.neighbors(adata, use_rep=key)``.

    Works for every backbone, published ones too.

    Parameters
    ----------
    adata
        Counts, in memory or opened with ``backed="r"``; they are read block by block and not touched.
    model
        A backbone, see :func:`grnlab.load_model`.
    layer
        Layer that holds the counts; ``X`` by default.
    context
        ``"expressed"``: a cell is shown the genes it expresses. ``"shared"``: all genes, zeros included.
    genes
        Genes to show: ``"all"`` the model knows, a number, or names, see :func:`grnlab.tl.attention`.
    classes
        Also write the embedding of each class of the model, ``<key>_<class>``, and its logits,
        ``<key>_<class>_logits``, where it has such.
    key
        Slot of the embedding of the cell; it must be free, or written by this verb.
    out
        Folder for finished blocks: the same call goes on where a killed one stopped, and the slots are then maps of
        files there.

    Raises
    ------
    ValueError
        When `adata` holds no counts, its genes are unknown, a cell has no counts of known genes, or a slot is taken.
    FileExistsError
        When `out` holds something else.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:20].copy()
    >>> gl.tl.embed(adata, gl.load_model("grnlab-small"))
    >>> adata.obsm["X_grnlab"].shape, adata.obsm["X_grnlab_cell_type_logits"].shape
    ((20, 128), (20, 18))
    """
    check_slots(adata, key, task="embed", obsm=_slots(model, key=key, classes=classes))
    cells = open_cells(adata, model, layer=layer, genes=genes)

    def of_block(counts: sp.csr_matrix, rows: slice) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for within, tokens in batches(model, counts, cells.tokens, cells.totals[rows], context=context):
            found = _embeddings(model, model.encode(tokens), key=key, classes=classes)
            yield within, {name: values.float().cpu().numpy() for name, values in found.items()}

    settings = {"context": context, "key": key, "classes": classes}
    found = run_cells(cells, of_block, desc="embed", settings=settings, out=out)
    adata.obsm.update(found)
    sign_slots(adata, key, cells.provenance | {"task": "embed"} | settings, obsm=list(found))


def cell_embeddings(
    model: Backbone, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str = "expressed"
) -> np.ndarray:
    """Embedding of each cell, float32 of shape (n_cells, M).

    Parameters
    ----------
    model
        Backbone in evaluation mode.
    counts
        Shape (n_cells, n_genes), columns in the order of `tokens`.
    tokens
        Tokens of the genes.
    totals
        Total counts of each cell over all genes of its data set.
    context
        As in :func:`embed`.

    Raises
    ------
    ValueError
        When a cell has no counts.
    """
    if (np.diff(counts.indptr) == 0).any():
        msg = f"counts has {int((np.diff(counts.indptr) == 0).sum())} cells without a count; leave them out."
        raise ValueError(msg)
    embeddings = np.empty((counts.shape[0], 0), dtype=np.float32)
    with torch.inference_mode():
        for rows, batch in batches(model, counts, tokens, totals, context=context):
            cell_BM = model.encode(batch).cell_BM.float().cpu().numpy()
            if embeddings.shape[1] == 0:
                embeddings = np.empty((counts.shape[0], cell_BM.shape[1]), dtype=np.float32)
            embeddings[rows] = cell_BM
    return embeddings


def _slots(model: Any, *, key: str, classes: bool) -> list[str]:
    names = list(getattr(getattr(model, "config", None), "classes", ())) if classes else []
    return [key, *(f"{key}_{name}{end}" for name in names for end in ("", "_logits"))]


def _embeddings(model: Any, encoded: Encoded, *, key: str, classes: bool) -> dict[str, Tensor]:
    found = {key: encoded.cell_BM}
    if classes:
        found |= {f"{key}_{name}": class_BM for name, class_BM in encoded.classes_BM.items()}
        if hasattr(model, "classify"):
            found |= {f"{key}_{name}_logits": logits for name, logits in model.classify(encoded).items()}
    return found
