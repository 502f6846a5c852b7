"""Counts of cells that stay where they are, in a file or an AnnData, and are read some rows at a time."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab.data.counts import check_counts, check_layer, counts_of
from grnlab.data.files import READ_ERRORS, CountsFile, identity, row_blocks
from grnlab.data.probe import PROBE

_LARGEST_BY_COLUMNS = 2 << 30  # bytes of a matrix stored by columns, which has to be read whole


class CellSource:
    """Cells × genes, checked to be counts whenever they are read.

    Parameters
    ----------
    data
        An h5ad file, a zarr store, or an AnnData, also one opened with ``backed="r"``; a part of such a one is read
        into memory.
    layer
        Layer that holds the counts; ``X`` by default.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it cannot be read, has no such layer, or is too large and stored by columns.
    """

    def __init__(self, data: ad.AnnData | str | Path, *, layer: str | None = None) -> None:
        if not isinstance(data, ad.AnnData | str | Path):
            msg = f"adata is a {type(data).__name__}; expected an AnnData, or the path of an h5ad file or a zarr store."
            raise ValueError(msg)
        self.layer = layer
        if isinstance(data, ad.AnnData) and data.isbacked and data.is_view:
            data = data.to_memory()
        self._adata = data if isinstance(data, ad.AnnData) else None
        self.path = None if isinstance(data, ad.AnnData) else Path(data)
        self._file: CountsFile | None = None
        if self._adata is not None:
            if layer is None and self._adata.X is None:
                counts_of(self._adata)  # says what is missing
            if layer is not None and layer not in self._adata.layers:
                counts_of(self._adata, layer=layer)
            self.shape: tuple[int, int] = self._adata.shape
            self.var = ad.AnnData(var=self._adata.var)
            matrix = self._adata.X if layer is None else self._adata.layers[layer]
            self._n_values = int(matrix.nnz if hasattr(matrix, "nnz") else np.prod(self.shape))
            self.name = "AnnData"
        else:
            assert self.path is not None
            self._file = open_counts(self.path, layer)
            self.shape, self.name = self._file.shape, self.path.name
            self._n_values = self._file.n_values
            try:
                self.var = ad.AnnData(var=self._file.var())
            except READ_ERRORS as error:
                raise _unreadable(self.path, error) from error

        if 0 in self.shape:
            check_counts(sp.csr_matrix(self.shape, dtype=np.float32))

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.shape[0]

    @property
    def values_per_cell(self) -> float:
        """Stored values of a cell, on average."""
        return self._n_values / max(self.n_cells, 1)

    def identity(self) -> str:
        """Digest of the data: of a file see :func:`grnlab.data.files.identity`; of an AnnData its counts."""
        if self.path is not None:
            return identity(self.path)
        assert self._adata is not None
        if self._adata.isbacked:
            return identity(Path(str(self._adata.filename)))
        digest = hashlib.sha256()
        for _, block in self.blocks(0, self.n_cells):
            for part in (block.data, block.indices, block.indptr):
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def obs(self, column: str | None) -> pd.DataFrame:
        """Table of the cells with one column, where there is such a column; otherwise all their columns."""
        if self._adata is not None:
            return self._adata.obs
        assert self._file is not None
        assert self.path is not None
        try:
            found = self._file.obs([] if column is None else [column])
            return found if column is None or column in found else self._file.obs()
        except READ_ERRORS as error:
            raise _unreadable(self.path, error) from error

    def cell_name(self, cell: int) -> str:
        """Name of a cell."""
        if self._adata is not None:
            return str(self._adata.obs_names[cell])
        assert self._file is not None
        return str(self._file.obs().index[cell])

    def blocks(self, first: int, last: int) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Counts of the cells from `first` to before `last`, few enough at a time for little memory.

        Yields the number of the first cell and its block, float32 without zeros, columns sorted.

        Raises
        ------
        ValueError
            As :func:`grnlab.data.counts.counts_of`; or when rows cannot be read.
        """
        if first >= last:
            return
        for here in row_blocks(last - first, round((last - first) * self.values_per_cell)):
            start, stop = here.start + first, here.stop + first
            block = self._checked(start, stop)
            block.sort_indices()
            yield start, block

    def _checked(self, start: int, stop: int) -> sp.csr_matrix:
        name = "adata.X" if self.layer is None else f"adata.layers[{self.layer!r}]"
        if (start, stop) != (0, self.n_cells):
            name = f"{name}[{start}:{stop}]"
        raw = self._read(start, stop)
        if isinstance(raw, sp.csr_matrix):
            if not len(raw.indices) == len(raw.data) == raw.nnz:
                msg = f"{name} has {len(raw.indices)} column numbers of {raw.nnz} values; the file is damaged."
                raise ValueError(msg)
            if raw.nnz and (raw.indices.min() < 0 or raw.indices.max() >= self.shape[1]):
                msg = f"{name} has column numbers outside 0 to {self.shape[1] - 1}; the file is damaged."
                raise ValueError(msg)
            if raw.nnz == 0 and raw.data.dtype.kind in "iuf" and self._n_values:
                return sp.csr_matrix(raw.shape, dtype=np.float32)  # cells without counts, which are told by their name
        try:
            return check_counts(raw, name=name)
        except ValueError as error:
            hint = self._other_counts()
            if not hint:
                raise
            msg = f"{error} {hint}"
            raise ValueError(msg) from error

    def _read(self, start: int, stop: int) -> sp.csr_matrix:
        if self._file is not None:
            assert self.path is not None
            try:
                return self._file.rows(np.arange(start, stop))
            except READ_ERRORS as error:
                raise _unreadable(self.path, error) from error
        assert self._adata is not None
        rows = self._adata if (start, stop) == (0, self.n_cells) else self._adata[start:stop]
        matrix = rows.X if self.layer is None else rows.layers[self.layer]
        matrix = matrix.to_memory() if hasattr(matrix, "to_memory") else matrix
        return sp.csr_matrix(matrix) if sp.issparse(matrix) else sp.csr_matrix(np.asarray(matrix))

    def _other_counts(self) -> str:
        """Where the counts are, when they are not where they were looked for."""
        if self.layer is not None:
            return ""
        if self._file is not None:
            others = self._file.other_counts()
        else:
            assert self._adata is not None
            others = [f"layers/{key}" for key in self._adata.layers if _starts_with_counts(self._adata, key)]
        for slot in others:
            if slot.startswith("layers/"):
                key = slot.removeprefix("layers/")
                return f"Here adata.layers[{key!r}] does hold counts: pass layer={key!r} (--layer {key})."
        return "Here adata.raw does hold counts: pass adata.raw.to_adata()." if "raw/X" in others else ""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def open_counts(path: Path, layer: str | None = None) -> CountsFile:
    """Open the counts of an h5ad file or a zarr store, with errors that say what is wrong with it.

    Parameters
    ----------
    path
        The file.
    layer
        Layer that holds the counts; ``X`` by default.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it cannot be read, has no such layer, or is too large and stored by columns.
    """
    check_is_file(path)
    slot = "X" if layer is None else f"layers/{layer}"
    try:
        PROBE.check(path)
        file = CountsFile(path, slot, largest_by_columns=_LARGEST_BY_COLUMNS)
    except READ_ERRORS as error:
        others = _slots(path)
        if others is None:
            raise _unreadable(path, error) from error
        if slot in others:
            if "stored by columns" in str(error):
                msg = f"{path}: {error}"
                raise ValueError(msg) from error
            raise _unreadable(path, error) from error
        if layer is not None:
            check_layer(layer, [name.removeprefix("layers/") for name in others if name.startswith("layers/")])
        msg = "adata.X is empty (None); put the raw counts there, or name the layer that holds them (layer=...)."
        raise ValueError(msg) from error
    return file


def read_anndata(path: Path) -> ad.AnnData:
    """Read a whole h5ad file, with errors that say what is wrong with it.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it cannot be read.
    """
    check_is_file(path)
    try:
        PROBE.check(path)
        return ad.read_h5ad(path)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error


def check_is_file(path: Path) -> None:
    """Refuse what is no file of counts before it is opened.

    Raises
    ------
    FileNotFoundError, ValueError
        When it does not exist, is a folder that is no zarr store, or is empty.
    """
    if not path.exists():
        msg = f"{path} does not exist."
        raise FileNotFoundError(msg)
    if path.is_dir():
        if path.suffix == ".zarr":
            return
        raise ValueError(what_folder(path))
    if path.stat().st_size == 0:
        msg = f"{path} is an empty file (0 bytes); write or download it again."
        raise ValueError(msg)


def what_folder(path: Path) -> str:
    """Say what a folder is and how its cells are read."""
    if path.suffix == ".zarr":
        return f"{path} is a zarr store: give its path to grnlab.tl.attention, or read it with anndata.read_zarr."
    if any(path.glob("matrix.mtx*")):
        return (
            f"{path} is a folder of Cell Ranger: read it with scanpy.read_10x_mtx and go on with that AnnData, or "
            "write it first (adata.write_h5ad)."
        )
    return f"{path} is a folder; name an .h5ad file."


def _slots(path: Path) -> list[str] | None:
    """Matrices of a file; None when it cannot be read at all."""
    from grnlab.data.files import matrices

    try:
        return matrices(path)
    except READ_ERRORS:
        return None


def _unreadable(path: Path, error: Exception) -> ValueError:
    size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
    kind = "zarr" if path.is_dir() else "h5ad"
    mend = f"The file is truncated or of another format; download or write it again (adata.write_{kind})."
    if path.suffix not in {".h5ad", ".zarr"}:
        reader = "read_10x_h5" if path.suffix == ".h5" else "read"
        mend += f" Other formats are read with scanpy (here perhaps scanpy.{reader}); go on with that AnnData."
    return ValueError(f"{path}{size} cannot be read as {kind}: {error}. {mend}")


def _starts_with_counts(adata: ad.AnnData, layer: str) -> bool:
    try:
        check_counts(adata[: min(100, adata.n_obs)].layers[layer])
    except ValueError:
        return False
    return True
