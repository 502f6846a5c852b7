"""Choose the genes a model is shown."""

from collections.abc import Callable, Collection, Iterator

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab.data.files import row_blocks

_TF_FRACTION = 0.05
_N_BINS = 20  # of mean expression, as in scanpy

Blocks = Callable[[], Iterator[sp.csr_matrix]]
"""Gives the counts from the first cell to the last, some rows at a time, as often as it is called."""


def select_genes(
    counts: sp.csr_matrix, names: np.ndarray, is_tf: np.ndarray, genes: int | str | Collection[str]
) -> np.ndarray:
    """Columns to keep, increasing.

    Parameters
    ----------
    counts
        Shape (n_cells, n_genes).
    names
        Name of each gene.
    is_tf
        Whether each gene is a transcription factor.
    genes
        A number: transcription factors seen in at least 5 % of the cells, the most frequent first, for at most half
        of it; the rest by variability (scanpy's ``"seurat"`` dispersion). Genes never seen are not taken. ``"all"``:
        every gene seen. Names: these.

    Raises
    ------
    ValueError
        When a name is unknown, or fewer than two genes are left.
    """

    def blocks() -> Iterator[sp.csr_matrix]:
        return (counts[rows] for rows in row_blocks(counts.shape[0], counts.nnz))

    cells_with = np.asarray((counts > 0).sum(axis=0)).ravel()
    return select_streamed(blocks, cells_with, names, is_tf, genes, n_cells=counts.shape[0])


def select_streamed(
    blocks: Blocks,
    cells_with: np.ndarray,
    names: np.ndarray,
    is_tf: np.ndarray,
    genes: int | str | Collection[str],
    *,
    n_cells: int,
    add: Callable[[np.ndarray], np.ndarray] = lambda sums: sums,
) -> np.ndarray:
    """As :func:`select_genes`, from counts that are read some rows at a time.

    Parameters
    ----------
    blocks
        Gives the counts, or the share of them that this process reads.
    cells_with
        Cells that express each gene, of all cells.
    names, is_tf, genes
        As in :func:`select_genes`.
    n_cells
        All cells.
    add
        Adds up sums over the processes that read a share each.

    Raises
    ------
    ValueError
        As there.
    """
    seen = np.flatnonzero(cells_with > 0)
    if isinstance(genes, str):
        if genes != "all":
            msg = f"genes={genes!r} is unknown; give a number, 'all', or a list of names."
            raise ValueError(msg)
        chosen = seen
    elif isinstance(genes, int | float | np.number):
        if int(genes) != genes:
            msg = f"genes={genes!r} is not a whole number; give a number of genes, 'all', or a list of names."
            raise ValueError(msg)
        if genes < 2:
            msg = f"genes={genes} is too few; a network needs at least two."
            raise ValueError(msg)
        chosen = seen
        if len(seen) > genes:
            factors = np.flatnonzero(is_tf & (cells_with >= _TF_FRACTION * n_cells))
            # columns come in token order, so a stable sort makes ties independent of the order in the file
            factors = factors[np.argsort(-cells_with[factors], kind="stable")][: int(genes) // 2]
            rest = np.setdiff1d(seen, factors)
            variability = _variability(blocks, rest, n_cells, add)
            chosen = np.append(factors, rest[np.argsort(-variability, kind="stable")][: int(genes) - len(factors)])
    else:
        chosen = _named(names, genes)
    if len(chosen) < 2:
        msg = f"genes leaves {len(chosen)} genes; a network needs at least two."
        raise ValueError(msg)
    return np.sort(chosen)


def _named(names: np.ndarray, genes: Collection[str]) -> np.ndarray:
    import difflib

    place = {str(name): column for column, name in enumerate(names)}
    unknown = [str(name) for name in genes if str(name) not in place]
    if unknown:
        near = difflib.get_close_matches(unknown[0], place, n=3)
        msg = (
            f"genes holds {len(unknown)} names that are not among the mapped genes of adata: {unknown[:3]} "
            f"(nearest to the first: {near})."
        )
        raise ValueError(msg)
    return np.array(sorted({place[str(name)] for name in genes}), dtype=np.int64)


def _variability(
    blocks: Blocks, columns: np.ndarray, n_cells: int, add: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Normalised dispersion of genes as scanpy's flavor ``"seurat"`` has it, which needs all cells in memory."""
    import scanpy as sc

    sums = np.zeros((2, len(columns)))
    for block in blocks():
        cells = ad.AnnData(block[:, columns].copy())
        sc.pp.normalize_total(cells, target_sum=1e4)
        values = cells.X
        values.data = np.expm1(np.log1p(values.data)).astype(np.float64)  # rounded as scanpy rounds them
        sums[0] += np.asarray(values.sum(axis=0)).ravel()
        values.data **= 2
        sums[1] += np.asarray(values.sum(axis=0)).ravel()
    sums = add(sums)
    mean = sums[0] / n_cells
    variance = np.maximum(sums[1] / n_cells - mean**2, 0) * n_cells / max(n_cells - 1, 1)
    mean[mean == 0] = 1e-12
    dispersion = variance / mean
    dispersion[dispersion == 0] = np.nan
    table = pd.DataFrame({"mean": np.log1p(mean), "dispersion": np.log(dispersion)})
    of_bin = table.groupby(pd.cut(table["mean"], bins=_N_BINS), observed=True)["dispersion"]
    centre, spread = of_bin.transform("mean"), of_bin.transform("std")
    alone = spread.isna()  # the only gene of its bin: 1
    scaled = (table["dispersion"] - centre.mask(alone, 0.0)) / spread.mask(alone, centre)
    return scaled.fillna(-np.inf).to_numpy()
