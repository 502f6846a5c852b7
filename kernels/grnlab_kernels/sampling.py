"""Contexts of training cells drawn from a CSR matrix of counts, compiled by numba.

Shape suffixes: B cells of a batch, T gene tokens of a cell.
"""

import numpy as np


def sample_csr(  # noqa: PLR0917 - a CSR matrix is three arrays
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    rows: np.ndarray,
    available: np.ndarray,
    n_tokens: int,
    *,
    seed: int,
    unexpressed: float = 0.25,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw random expressed genes of each cell, filled up with random unexpressed ones.

    Of T tokens, ``T − round(unexpressed · T)`` at most are expressed genes (more when there are too few unexpressed
    ones), each equally likely, without replacement; the rest are genes of `available` that the cell does not express,
    each equally likely. The draw of a cell depends on `seed`, its place in the batch and its counts alone.

    Costs O(expressed + T) per cell, O(available + largest gene number) per call and in memory. The loop does not hold
    the interpreter's lock: calls may run in several threads.

    Parameters
    ----------
    indptr, indices, data
        CSR matrix of counts, columns are genes; int32 or int64 indices, any real data. A stored zero is unexpressed.
    rows
        Cells to draw, integer, shape (B,); a cell may come several times.
    available
        Genes measured in these cells, integer, distinct: every expressed gene must be among them.
    n_tokens
        Length T of the context; shorter when fewer genes are available.
    seed
        In [0, 2⁶⁴).
    unexpressed
        Least share of the context kept for unexpressed genes, in [0, 1].

    Returns
    -------
    Genes, int64, and counts, float32, both (B, T): expressed genes first. A gene occurs at most once in a cell.

    Raises
    ------
    TypeError, ValueError
        When an array or number is not as above; the message names it.

    Examples
    --------
    >>> counts = np.array([3.0, 1.0, 2.0], dtype=np.float32)  # one cell that expresses genes 0, 2 and 5 of 6
    >>> tokens, values = sample_csr([0, 3], [0, 2, 5], counts, [0], np.arange(6), 4, seed=0, unexpressed=0.25)
    >>> sorted(tokens[0, :3].tolist()), sorted(values[0].tolist())
    ([0, 2, 5], [0.0, 1.0, 2.0, 3.0])
    """
    indptr, indices = _integers("indptr", indptr), _integers("indices", indices)
    rows, available = _integers("rows", rows).astype(np.int64), _integers("available", available).astype(np.int64)
    data = np.ascontiguousarray(data)
    _check(indptr, indices, data, rows, available)
    if n_tokens < 1:
        msg = f"n_tokens={n_tokens} must be at least 1."
        raise ValueError(msg)
    if not 0 <= unexpressed <= 1:
        msg = f"unexpressed={unexpressed} must be a share in [0, 1]."
        raise ValueError(msg)
    if not 0 <= seed < 1 << 64:
        msg = f"seed={seed} must be a whole number in [0, 2**64)."
        raise ValueError(msg)
    from grnlab_kernels.sampling_loop import draw_cells

    n_tokens = min(int(n_tokens), len(available))
    tokens_BT = np.empty((len(rows), n_tokens), dtype=np.int64)
    counts_BT = np.empty((len(rows), n_tokens), dtype=np.float32)
    most_expressed = n_tokens - round(unexpressed * n_tokens)
    fault = draw_cells(indptr, indices, data, rows, available, most_expressed, np.uint64(seed), tokens_BT, counts_BT)
    _raise(*fault)
    return tokens_BT, counts_BT


def _integers(name: str, values: np.ndarray) -> np.ndarray:
    """Contiguous int32 or int64."""
    array = np.ascontiguousarray(values)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        msg = f"{name} has shape {array.shape} and dtype {array.dtype}; expected integers, one axis."
        raise TypeError(msg)
    return array if array.dtype in (np.int32, np.int64) else array.astype(np.int64)


def _check(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, rows: np.ndarray, available: np.ndarray) -> None:
    """What the loop relies on and does not see for itself."""
    if data.dtype.kind not in "fiu" or data.shape != indices.shape:
        msg = f"data has shape {data.shape} and dtype {data.dtype}; expected {len(indices)} numbers, one an index."
        raise TypeError(msg)
    if len(indptr) < 1:
        msg = "indptr is empty; expected one entry more than there are cells."
        raise ValueError(msg)
    if len(rows) and not (rows.min() >= 0 and rows.max() < len(indptr) - 1):
        msg = f"rows holds {rows.min()} to {rows.max()}; expected cells in 0 to {len(indptr) - 2}."
        raise ValueError(msg)
    if len(available) == 0 or available.min() < 0 or available.max() >= np.iinfo(np.int32).max:
        found = f"{available.min()} to {available.max()}" if len(available) else "nothing"
        msg = f"available holds {found}; expected at least one gene number, none negative or above 2**31 - 2."
        raise ValueError(msg)


def _raise(fault: int, row: int, gene: int) -> None:
    """Say what the loop found wrong."""
    from grnlab_kernels import sampling_loop as loop

    if fault == loop.OK:
        return
    reason = {
        loop.BAD_POINTERS: f"indptr of row {row} does not point into indices; is this the indptr of these arrays?",
        loop.REPEATED_AVAILABLE: f"available holds gene {gene} twice; pass np.unique(available).",
        loop.NOT_AVAILABLE: f"row {row} expresses gene {gene}, which is not in available; add it, or drop its counts.",
        loop.REPEATED_GENE: f"row {row} stores gene {gene} twice; call sum_duplicates() on the matrix first.",
    }
    raise ValueError(reason[fault])
