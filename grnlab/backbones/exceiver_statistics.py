"""Mean and spread of each gene over the cells of a data set: the scale on which Exceiver reads expression.

Shape suffixes: G genes of the vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from grnlab.data.collection import CellCollection

_CELLS_AT_ONCE = 8_192
_LEAST_SPREAD = 0.02  # of log1p(counts per 10,000): below it a gene was hardly ever seen, and any count is far out


@dataclass(frozen=True)
class GeneStatistics:
    """Statistics of ``log1p(counts per 10,000)`` of each gene.

    Attributes
    ----------
    mean_G, sd_G
        Mean and standard deviation over all cells, zeros included; 0 and 1 for a gene that was never seen.
    expressed_G
        Mean over the cells that express it, in standard deviations from `mean_G`; 0 where there is none.
    n_cells
        Cells they were taken from.
    """

    mean_G: np.ndarray
    sd_G: np.ndarray
    expressed_G: np.ndarray
    n_cells: int


def gene_statistics(cells: CellCollection, rows: np.ndarray, *, limit: float = 10.0) -> GeneStatistics:
    """Statistics of some cells of a collection; a gene counts in the cells of the data sets that measured it.

    Parameters
    ----------
    cells
        Cells.
    rows
        Cell numbers.
    limit
        Standard scores are cut off there, either way, before `expressed_G` is averaged.

    Raises
    ------
    ValueError
        When there are fewer than two cells, or one has no counts at all.

    Examples
    --------
    >>> counts = sp.csr_matrix(np.array([[1.0, 0], [1, 2]], dtype=np.float32))
    >>> gene_statistics(CellCollection.from_counts(counts), np.arange(2)).mean_G.round(2)
    array([8.66, 4.4 ], dtype=float32)
    """
    if len(rows) < 2:
        msg = f"statistics of genes need two cells or more; got {len(rows)}."
        raise ValueError(msg)
    if (cells.totals[rows] <= 0).any():
        msg = f"{int((cells.totals[rows] <= 0).sum())} cells have no counts; remove them."
        raise ValueError(msg)
    n_genes = cells.counts.shape[1]
    total_G, square_G, seen_G, measured_G = (np.zeros(n_genes) for _ in range(4))
    for dataset, n in zip(*np.unique(cells.datasets[rows], return_counts=True), strict=True):
        measured_G[cells.available[dataset]] += n
    for logged in _logged(cells, rows):
        total_G += np.asarray(logged.sum(axis=0)).ravel()
        square_G += np.asarray(logged.multiply(logged).sum(axis=0)).ravel()
        seen_G += np.bincount(logged.indices, minlength=n_genes)
    n_G = np.maximum(measured_G, 1)
    mean_G = total_G / n_G
    sd_G = np.sqrt(np.maximum(square_G / n_G - mean_G**2, 0))
    sd_G = np.where(seen_G > 0, np.maximum(sd_G, _LEAST_SPREAD), 1.0)
    expressed_G = np.zeros(n_genes)
    for logged in _logged(cells, rows):
        scores = (logged.data - mean_G[logged.indices]) / sd_G[logged.indices]
        expressed_G += np.bincount(logged.indices, weights=scores.clip(-limit, limit), minlength=n_genes)
    expressed_G /= np.maximum(seen_G, 1)
    return GeneStatistics(mean_G.astype(np.float32), sd_G.astype(np.float32), expressed_G.astype(np.float32), len(rows))


def _logged(cells: CellCollection, rows: np.ndarray) -> Iterator[sp.csr_matrix]:
    """``log1p(counts per 10,000)``, some cells at a time."""
    for start in range(0, len(rows), _CELLS_AT_ONCE):
        part = rows[start : start + _CELLS_AT_ONCE]
        logged = sp.csr_matrix(sp.diags(1e4 / cells.totals[part]) @ cells.counts[part])
        logged.data = np.log1p(logged.data)
        yield logged
