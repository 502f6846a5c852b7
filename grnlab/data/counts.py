"""Counts must be counts: checks with a mend, and counts recovered from log-normalised values."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

_CLOSE_TO_INTEGER = 1e-3
_WORST_RESIDUE = 0.25  # a quarter of a count: half way to an ambiguous rounding
_NOTHING_THERE = "{} is empty (None); put the raw counts there, or name the layer that holds them (layer=...)."
_LARGEST_COUNT = 4e9  # just below -1 as an unsigned number of 32 bits
_LARGEST_LOG = 50  # log1p of 5e21: no scaled count is as large, and expm1 is still finite


def check_counts(X: object, *, name: str = "adata.X") -> sp.csr_matrix:
    """Return `X` as a CSR matrix of float32 counts, or say what is wrong with it and how to mend it.

    Parameters
    ----------
    X
        Dense or sparse matrix, shape (n_cells, n_genes).
    name
        How the error messages call the matrix.

    Raises
    ------
    ValueError
        When the matrix is empty, holds NaN, infinite, negative or impossibly large values, or values that are not whole
        numbers.

    Examples
    --------
    >>> check_counts(np.array([[0, 2], [1, 0]])).dtype
    dtype('float32')
    """
    if X is None:
        raise ValueError(_NOTHING_THERE.format(name))
    matrix = _as_csr(X, name)
    if 0 in matrix.shape or matrix.nnz == 0:
        msg = (
            f"{name} has shape {matrix.shape} and {matrix.nnz} non-zero values; there must be cells, genes and counts."
        )
        raise ValueError(msg)
    values = matrix.data
    if values.dtype.kind not in "iuf":
        msg = (
            f"{name} has dtype {values.dtype}; counts must be whole numbers, and whether a gene was seen (True, False) "
            "does not say how often. Load the raw counts."
        )
        raise ValueError(msg)
    if not np.isfinite(values).all():
        where = np.flatnonzero(~np.isfinite(values))[0]
        cell = int(np.searchsorted(matrix.indptr, where, side="right") - 1)
        msg = (
            f"{name} holds {int((~np.isfinite(values)).sum()):,} NaN or infinite values (the first in cell {cell}, "
            f"gene {int(matrix.indices[where])}); counts must be finite. Load the raw counts again, or set the "
            "missing entries to 0 if they mean 'not seen'."
        )
        raise ValueError(msg)
    if values.max() > _LARGEST_COUNT:
        msg = (
            f"{name} holds values up to {float(values.max()):.4g}, which nobody has counted (a negative number stored "
            "without its sign?). Load the raw counts."
        )
        raise ValueError(msg)
    if values.min() < 0:
        msg = (
            f"{name} holds negative values (down to {values.min():.4g}), so it is scaled or regressed data; raw counts "
            "are needed. They are often kept in adata.layers['counts'] (pass layer='counts') or adata.raw."
        )
        raise ValueError(msg)
    if (np.abs(values - np.rint(values)) > _CLOSE_TO_INTEGER).any():
        msg = (
            f"{name} holds values that are not whole numbers (for example "
            f"{float(values[np.abs(values - np.rint(values)) > _CLOSE_TO_INTEGER][0]):.4g}, largest "
            f"{float(values.max()):.4g}), so it is normalised; raw counts are needed. They are often kept in "
            "adata.layers['counts'] (pass layer='counts') or adata.raw. If the data are log1p of counts scaled per "
            "cell, gl.pp.recover_counts(adata) gives the counts back."
        )
        raise ValueError(msg)
    # eliminate_zeros works in place: the indices of the caller's matrix must not be touched
    shares = not (values == 0).any()
    indices, indptr = (matrix.indices, matrix.indptr) if shares else (matrix.indices.copy(), matrix.indptr.copy())
    counts = sp.csr_matrix((np.rint(values).astype(np.float32), indices, indptr), shape=matrix.shape)
    if not shares:
        counts.eliminate_zeros()
    return counts


def check_sparse(X: Any, name: str) -> None:
    """Refuse a sparse matrix whose pointers or indices lead outside: scipy crashes on them, or runs for ever.

    Raises
    ------
    ValueError
        When it is such a matrix; anything that is not sparse passes.
    """
    if hasattr(X, "check_format"):
        try:
            X.check_format(full_check=True)
        except (ValueError, TypeError) as error:
            msg = f"{name} is damaged: {error}. Restore the original file."
            raise ValueError(msg) from error


def check_adata(adata: Any) -> None:
    """Refuse what is no AnnData, such as the path of one.

    Raises
    ------
    ValueError
        When it is none.
    """
    if not isinstance(adata, ad.AnnData):
        mend = "read it with grnlab.io.read, or open it with anndata.read_h5ad(path, backed='r')"
        mend = mend if isinstance(adata, str | Path) else "see the order of the arguments"
        msg = f"adata is a {type(adata).__name__}; expected an AnnData: {mend}."
        raise ValueError(msg)


def matrix_of(adata: ad.AnnData, layer: str | None) -> Any:
    """``X`` of an AnnData, or a layer, as it is.

    Raises
    ------
    ValueError
        When ``X`` is empty, or there is no such layer.
    """
    if layer is None:
        if adata.X is None:
            raise ValueError(_NOTHING_THERE.format("adata.X"))
        return adata.X
    check_layer(layer, adata.layers)
    return adata.layers[layer]


def check_layer(layer: str, layers: Iterable[str]) -> None:
    """Refuse a layer that does not exist, with the names of those that do.

    Raises
    ------
    ValueError
        When it is not among `layers`.
    """
    if layer not in (known := sorted(layers)):
        near = difflib.get_close_matches(layer, known, n=1)
        mend = f"there are {known}" if known else "there are none, so leave it out to use adata.X"
        msg = f"layer={layer!r} is not in adata.layers; {mend}{f' (did you mean {near[0]!r}?)' if near else ''}."
        raise ValueError(msg)


def totals_of(counts: sp.csr_matrix, names: pd.Index) -> np.ndarray:
    """Total counts of each cell; `names` are theirs.

    Raises
    ------
    ValueError
        When a cell has none.
    """
    totals = np.asarray(counts.sum(axis=1)).ravel()
    if (empty := totals == 0).any():
        msg = (
            f"{int(empty.sum())} cells have no counts, the first is {names[empty][0]!r}; remove them with "
            "scanpy.pp.filter_cells(adata, min_counts=1)."
        )
        raise ValueError(msg)
    return totals


def counts_of(adata: ad.AnnData, *, layer: str | None = None) -> sp.csr_matrix:
    """Checked counts of an AnnData, from ``X`` or a layer.

    Raises
    ------
    ValueError
        As :func:`check_counts`; or when `adata` is no AnnData, or `layer` does not exist. If ``X`` fails but another
        slot holds counts, the message names the slot.
    """
    check_adata(adata)
    if layer is not None:
        return check_counts(matrix_of(adata, layer), name=f"adata.layers[{layer!r}]")
    try:
        return check_counts(adata.X)
    except ValueError as error:
        for key in adata.layers:
            if _holds_counts(adata.layers[key]):
                msg = f"{error} Here adata.layers[{key!r}] does hold counts: pass layer={key!r} (--layer {key})."
                raise ValueError(msg) from error
        if adata.raw is not None and _holds_counts(adata.raw.X):
            msg = f"{error} Here adata.raw does hold counts: pass adata.raw.to_adata()."
            raise ValueError(msg) from error
        raise


def recover_counts(adata: ad.AnnData, *, use_raw: bool = False) -> ad.AnnData:
    """Give back the counts behind values of the form log(1 + count · s), with a scale s per cell.

    The smallest non-zero value of a cell is taken for one count; the scale is then refined on all its values. Data
    stored with few decimals are rounded, and the largest distance from a whole number is checked and recorded.

    Parameters
    ----------
    adata
        Log-normalised data (natural logarithm, as ``scanpy.pp.log1p`` makes it).
    use_raw
        Take ``adata.raw`` in place of ``adata.X``.

    Returns
    -------
    A new AnnData with integer counts in ``X`` (float32 CSR), the same ``obs``, and the largest residue, in counts, in
    ``uns["recovered_counts"]["largest_residue"]``.

    Raises
    ------
    ValueError
        When a value lies more than a quarter of a count from a whole number, so the data were not made in this way;
        or `use_raw` is set and there is no ``adata.raw``.

    Examples
    --------
    >>> counts = np.array([[1.0, 3, 0], [2, 0, 1]])
    >>> logged = ad.AnnData(np.log1p(counts / counts.sum(1, keepdims=True) * 1e4))
    >>> recover_counts(logged).X.toarray().astype(int).tolist()
    [[1, 3, 0], [2, 0, 1]]
    """
    if use_raw and adata.raw is None:
        msg = "use_raw=True, but adata.raw is None; leave it out to take adata.X."
        raise ValueError(msg)
    source = adata.raw.to_adata() if use_raw else adata
    matrix = _as_csr(source.X, "adata.X").astype(np.float64, copy=True)
    matrix.eliminate_zeros()
    if matrix.nnz == 0 or not matrix.data.min() > 0 or not matrix.data.max() < _LARGEST_LOG:
        seen = f"from {matrix.data.min():.4g} to {matrix.data.max():.4g}" if matrix.nnz else "none but 0"
        msg = (
            f"adata holds values that log1p of scaled counts cannot have ({seen}; expected are positive ones below "
            f"{_LARGEST_LOG}). Use the raw counts of the study; if adata.X is scaled, adata.raw may hold the values "
            "before scaling (use_raw=True)."
        )
        raise ValueError(msg)
    matrix.data = np.expm1(matrix.data)
    worst, worst_cell = 0.0, 0
    for cell in range(matrix.shape[0]):
        row = matrix.data[matrix.indptr[cell] : matrix.indptr[cell + 1]]
        if len(row) == 0:
            continue
        counts = np.rint(row / row.min())
        scale = (row @ row) / (counts @ row)  # least squares: less hurt by rounding than the smallest value alone
        residue = float(np.abs(row / scale - counts).max())
        if residue > worst:
            worst, worst_cell = residue, cell
        row[:] = counts
    if worst > _WORST_RESIDUE:
        msg = (
            f"Cell {worst_cell} is {worst:.2f} of a count away from whole numbers, so adata is not log1p of counts "
            "scaled per cell (batch-corrected, scaled, or with another base?). Use the raw counts of the study."
        )
        raise ValueError(msg)
    result = ad.AnnData(matrix.astype(np.float32), obs=source.obs.copy(), var=source.var.copy())
    result.uns["recovered_counts"] = {"largest_residue": worst}
    return result


def sum_duplicate_genes(adata: ad.AnnData) -> ad.AnnData:
    """Add up the columns that share a gene name; the first place of each name is kept.

    Raises
    ------
    ValueError
        When ``X`` is empty.

    Examples
    --------
    >>> import pandas as pd
    >>> twice = ad.AnnData(np.array([[1.0, 2, 3]]), var=pd.DataFrame(index=["A", "B", "A"]))
    >>> sum_duplicate_genes(twice).X.toarray().tolist()
    [[4.0, 2.0]]
    """
    codes, names = pd.factorize(adata.var_names.astype(str))
    fold = sp.csr_matrix((np.ones(len(codes), dtype=np.float32), (np.arange(len(codes)), codes)))
    var = adata.var[~adata.var_names.duplicated()].copy()
    var.index = names
    return ad.AnnData(sp.csr_matrix(sp.csr_matrix(matrix_of(adata, None)) @ fold), obs=adata.obs.copy(), var=var)


def _as_csr(X: object, name: str) -> sp.csr_matrix:
    """CSR without repeated entries and with sorted indices; shares the memory of `X` where `X` is so already."""
    if hasattr(X, "to_memory"):  # sparse matrix of a file opened with backed="r"
        X = X.to_memory()
    elif not sp.issparse(X):
        X = np.asarray(X)  # a data set of a backed file, a data frame
    check_sparse(X, name)
    try:
        matrix = sp.csr_matrix(X)
    except (ValueError, TypeError) as error:
        kind = getattr(X, "dtype", type(X).__name__)
        msg = f"{name} has dtype {kind}; counts must be a matrix of whole numbers, cells × genes. Load the raw counts."
        raise ValueError(msg) from error
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def _holds_counts(X: object) -> bool:
    try:
        check_counts(X)
    except ValueError:
        return False
    return True
