"""The cells a task reads: blocks of counts, checked, in the order of the model's vocabulary; never all at once."""

import hashlib
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp

from grnlab._provenance import versions, weights_identity
from grnlab.attention.prepare import check_backbone
from grnlab.backbones.base import Backbone
from grnlab.data.counts import check_adata, check_counts, check_layer, counts_of
from grnlab.data.names import align_genes
from grnlab.data.select import select_genes

logger = logging.getLogger(__name__)
CELLS_PER_BLOCK = 2_048


@dataclass(frozen=True)
class AlignedCells:
    """Counts of an AnnData, in memory or in its file, block by block.

    Attributes
    ----------
    matrix
        Where rows are read: a CSR or dense matrix, or that of a file opened with ``backed="r"``.
    name
        What errors call the matrix.
    columns, tokens
        Columns the model knows, and their tokens, increasing.
    totals
        Total counts of each cell over all genes of the data.
    identity
        Hash of the counts, of the genes they belong to, and of the totals; the order of the columns is not in it.
    layout
        Hash of the places of the columns and of the counts in all others, for results in the order of the data.
    provenance
        Model, weights, alignment.
    """

    matrix: Any
    name: str
    columns: np.ndarray
    tokens: np.ndarray
    totals: np.ndarray
    identity: str
    layout: str
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.totals)

    def read(self, rows: slice | np.ndarray) -> sp.csr_matrix:
        """Counts of some cells (increasing, where they are numbers), columns in the order of `tokens`."""
        counts = self.read_all_genes(rows)[:, self.columns]
        counts.sort_indices()
        return sp.csr_matrix(counts)

    def read_all_genes(self, rows: slice | np.ndarray) -> sp.csr_matrix:
        """Counts of some cells, columns as in the data."""
        return check_counts(self.matrix[rows], name=self.name)

    def blocks(self) -> Iterator[slice]:
        """Rows of each block."""
        return _blocks(len(self))


def open_cells(
    adata: ad.AnnData, model: Backbone, *, layer: str | None = None, genes: int | str | Collection[str] = "all"
) -> AlignedCells:
    """Check every cell before anything is computed, and find the genes the model knows.

    Parameters
    ----------
    adata
        Counts, in memory or opened with ``backed="r"``.
    model
        A backbone.
    layer
        Layer that holds the counts; ``X`` by default.
    genes
        Genes to show, as in :func:`grnlab.tl.attention`; a number needs all cells in memory at once.

    Raises
    ------
    ValueError
        When `adata` holds no counts, or a cell has none, or none of genes the model knows; or the genes are unknown.
    """
    check_adata(adata)
    check_backbone(model)
    found = align_genes(adata, model.vocab)
    logger.info("%s", found.report)
    matrix, name = _matrix(adata, layer)
    columns, tokens = found.columns, found.tokens
    if not (isinstance(genes, str) and genes == "all"):
        if getattr(model, "whole_cells", False):
            msg = f"genes={genes!r:.60}: {model.name!r} reads whole cells and must be shown every gene; leave it out."
            raise ValueError(msg)
        aligned = sp.csr_matrix(check_counts(matrix[:], name=name)[:, columns])
        chosen = select_genes(aligned, model.vocab.symbols[tokens], model.vocab.is_tf[tokens], genes)
        columns, tokens = columns[chosen], tokens[chosen]
    totals, digest, layout = _scan(adata, matrix, name, columns=columns, layer=layer)
    digest.update(np.ascontiguousarray(tokens).tobytes())
    provenance = {
        "model": model.name,
        "weights_sha256": weights_identity(model),
        "vocab_sha256": model.vocab.hash,
        "alignment": str(found.report),
        "n_genes_shown": len(tokens),
        "versions": versions(),
    }
    return AlignedCells(matrix, name, columns, tokens, totals, digest.hexdigest(), layout.hexdigest(), provenance)


def _matrix(adata: ad.AnnData, layer: str | None) -> tuple[Any, str]:
    if adata.n_obs == 0:
        msg = "adata has no cells."
        raise ValueError(msg)
    if layer is not None:
        check_layer(layer, adata.layers)
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None or (sp.issparse(matrix) and matrix.format != "csr"):
        matrix = counts_of(adata, layer=layer)  # rows of other formats are slow to cut out
    return matrix, "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def _scan(
    adata: ad.AnnData, matrix: Any, name: str, *, columns: np.ndarray, layer: str | None
) -> tuple[np.ndarray, Any, Any]:
    """Totals of the cells, and hashes of what they hold of `columns` and elsewhere; every cell is checked."""
    totals, known, digest = np.zeros(adata.n_obs), np.zeros(adata.n_obs), hashlib.sha256()
    others = np.setdiff1d(np.arange(adata.n_vars), columns)
    layout = hashlib.sha256(np.append(columns, adata.n_vars).astype("<i8").tobytes())
    for rows in _blocks(adata.n_obs):
        part = matrix[rows]
        try:
            counts = check_counts(part, name=name) if part.sum() != 0 else sp.csr_matrix(part.shape, dtype=np.float32)
        except ValueError:
            if not adata.isbacked:
                counts_of(adata, layer=layer)  # its error also knows which other slot holds counts
            raise
        totals[rows] = np.asarray(counts.sum(axis=1)).ravel()
        shown = sp.csr_matrix(counts[:, columns])
        known[rows] = np.diff(shown.indptr)
        _update(digest, shown)
        digest.update(totals[rows].astype("<f8").tobytes())
        if len(others):
            _update(layout, sp.csr_matrix(counts[:, others]))
    if (totals == 0).any():
        msg = (
            f"{int((totals == 0).sum())} cells have no counts, the first is {adata.obs_names[totals == 0][0]!r}; "
            "remove them with scanpy.pp.filter_cells(adata, min_counts=1)."
        )
        raise ValueError(msg)
    if (known == 0).any():
        msg = (
            f"{int((known == 0).sum())} cells have counts of genes the model does not know or is not shown only, the "
            f"first is {adata.obs_names[known == 0][0]!r}; leave these cells out, or show more genes."
        )
        raise ValueError(msg)
    return totals.astype(np.float32), digest, layout


def _update(digest: Any, counts: sp.csr_matrix) -> None:
    counts.sort_indices()
    for array in (counts.indptr.astype("<i8"), counts.indices.astype("<i8"), counts.data.astype("<f4")):
        digest.update(array.tobytes())


def _blocks(n_cells: int) -> Iterator[slice]:
    return (slice(start, min(start + CELLS_PER_BLOCK, n_cells)) for start in range(0, n_cells, CELLS_PER_BLOCK))
