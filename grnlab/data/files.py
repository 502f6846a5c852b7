"""Counts on disk: the matrix of an h5ad file or a zarr store, row by row, and the tables around it."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata._io.specs.registry import IORegistryError
from anndata.io import read_elem, sparse_dataset

from grnlab._optional import require
from grnlab.data.counts import check_counts, check_sparse

# What reading a damaged or foreign file may raise: h5py, zarr and anndata agree on nothing.
READ_ERRORS = (
    *(OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError, OverflowError),
    *(EOFError, MemoryError, IORegistryError, SystemError),
)
_BLOCK_VALUES = 1_000_000  # stored values in memory at once: with copies some 50 MB
_CHUNK_CACHE = 1 << 20  # bytes for each array of an opened file: holds the chunks that h5py makes, and no more
_BYTES_PER_STORED_VALUE = 12  # value and column number, and the copy that turns columns into rows
_HEAD_BYTES = 1 << 16
_SPECIES = {
    "human": "Homo sapiens",
    "ncbitaxon:9606": "Homo sapiens",
    "mouse": "Mus musculus",
    "ncbitaxon:10090": "Mus musculus",
}


def find_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Files of counts: those given, and every ``.h5ad`` and ``.zarr`` below the folders given, in the order of names.

    Raises
    ------
    ValueError
        When a path does not exist, a folder holds no such file, nothing is given, or a file is given twice.
    """
    found: list[Path] = []
    for path in [Path(paths)] if isinstance(paths, str | Path) else map(Path, paths):
        if not path.exists():
            msg = f"paths names {str(path)!r}, which does not exist."
            raise ValueError(msg)
        inside = [path] if path.is_file() or path.suffix == ".zarr" else sorted(_below(path))
        if not inside:
            msg = f"paths names the folder {str(path)!r}, in which there is no .h5ad file and no .zarr store."
            raise ValueError(msg)
        found += inside
    twice = pd.Series([str(path.resolve()) for path in found], dtype=object)
    if not found or twice.duplicated().any():
        msg = f"paths names {twice[twice.duplicated()].iloc[0]!r} twice." if found else "paths is empty; name files."
        raise ValueError(msg)
    return found


def _below(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        stores = [name for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if name not in stores]  # a store is one file to us
        yield from (Path(parent, name) for name in [*stores, *(name for name in files if name.endswith(".h5ad"))])


def identity(path: Path) -> str:
    """Digest of size, time of change and first bytes of a file; of a zarr store, those of each file in it."""
    digest = hashlib.sha256()
    inside = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    for part in inside:
        stat = part.stat()
        digest.update(f"{part.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    if path.is_file():
        with path.open("rb") as file:
            digest.update(file.read(_HEAD_BYTES))
    return digest.hexdigest()


def row_blocks(n_rows: int, n_values: int) -> Iterator[slice]:
    """Rows in pieces that need little memory, by the mean number of values of a row."""
    step = max(1, int(_BLOCK_VALUES * n_rows / max(n_values, 1)))
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


class CountsFile:
    """A matrix of counts in a file, opened for reading; a context manager.

    Parameters
    ----------
    path
        An h5ad file or a zarr store.
    slot
        The matrix: ``"X"``, ``"raw/X"`` or ``"layers/NAME"``.
    largest_by_columns
        Bytes above which a matrix stored by columns (CSC), which has to be read whole, is refused.

    Raises
    ------
    OSError, ValueError
        When the file cannot be opened, has no such matrix, or one too large and stored by columns.
    """

    def __init__(self, path: str | Path, slot: str = "X", *, largest_by_columns: int | None = None) -> None:
        self.path, self.slot = Path(path), slot
        self._root = _open(self.path)
        try:
            if slot not in self._root:
                msg = f"slot={slot!r} is not in the file; there are {self.slots()}."
                raise ValueError(msg)
            self._matrix, self.by_rows = _matrix(
                self._root[slot], slot, largest_by_columns, n_rows=_length(self._root["obs"])
            )
            self.shape: tuple[int, int] = tuple(map(int, self._matrix.shape))  # type: ignore[assignment]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; rows cannot be read any more."""
        if isinstance(self._root, h5py.File):
            self._root.close()

    def slots(self) -> list[str]:
        """Names of the matrices in the file."""
        return _slots(self._root)

    @property
    def n_values(self) -> int:
        """Stored values of the matrix."""
        return int(self._matrix.nnz)

    def var(self) -> pd.DataFrame:
        """Table of the genes."""
        table = read_elem(self._root["raw/var" if self.slot.startswith("raw/") else "var"])
        if len(table) != self.shape[1]:
            msg = f"{self.slot} has {self.shape[1]:,} columns, but there are {len(table):,} gene names."
            raise ValueError(msg)
        return table

    def gene_names(self) -> list[str]:
        """Names of the columns."""
        names = _index(self._root["raw/var" if self.slot.startswith("raw/") else "var"])
        if len(names) != self.shape[1]:
            msg = f"{self.slot} has {self.shape[1]:,} columns, but there are {len(names):,} gene names."
            raise ValueError(msg)
        return [str(name) for name in names]

    def obs(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Table of the cells, or those of some columns that exist."""
        element = self._root["obs"]
        if columns is None or not hasattr(element, "keys"):
            table = read_elem(element)
        else:
            table = pd.DataFrame(
                {name: read_elem(element[name]) for name in dict.fromkeys(columns) if name in element},
                index=pd.RangeIndex(element[element.attrs["_index"]].shape[0]),
            )
        if len(table) != self.shape[0]:
            msg = f"{self.slot} has {self.shape[0]:,} rows, but obs has {len(table):,}."
            raise ValueError(msg)
        return table

    def annotated(self) -> ad.AnnData:
        """The tables of the file without the matrix."""
        return ad.AnnData(obs=self.obs(), var=read_elem(self._root["var"]))

    def organism(self) -> pd.Categorical | None:
        """Species of every cell, None where the file does not say."""
        table = self.obs(["organism", "organism_ontology_term_id"])
        if table.shape[1]:
            said = pd.Categorical(table.iloc[:, 0])
        elif "uns" in self._root and "organism" in self._root["uns"]:
            said = pd.Categorical([str(read_elem(self._root["uns/organism"]))] * self.shape[0])
        else:
            return None
        names = pd.Index([_SPECIES.get(str(name).lower(), str(name)) for name in said.categories])
        codes, categories = names.factorize()
        return pd.Categorical.from_codes(np.append(codes, -1)[said.codes], categories)

    def rows(self, rows: np.ndarray) -> sp.csr_matrix:
        """Rows by number (increasing, without repetition), as they are stored.

        Rows that lie close together are read in one go, others one by one.
        """
        if len(rows) == 0:
            return sp.csr_matrix((0, self.shape[1]), dtype=np.float32)
        first, last = int(rows[0]), int(rows[-1]) + 1
        if last - first <= 2 * len(rows):
            block = sp.csr_matrix(self._matrix[first:last])
            return block if len(rows) == last - first else block[rows - first]
        return sp.csr_matrix(self._matrix[rows])

    def blocks(self) -> Iterator[tuple[slice, sp.csr_matrix]]:
        """The whole matrix from top to bottom, some rows at a time."""
        for here in row_blocks(self.shape[0], self._matrix.nnz):
            yield here, sp.csr_matrix(self._matrix[here])

    def other_counts(self) -> list[str]:
        """Other matrices of the file whose first rows hold counts."""
        return [slot for slot in self.slots() if slot != self.slot and _starts_with_counts(self.path, slot)]


class _SparseRows:
    """Rows of a CSR matrix in a file.

    anndata's own reader gives the same, but looks up the version of scipy at each call, for 5 ms; a batch makes a call
    per file.
    """

    def __init__(self, group: Any, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._values, self._columns, self._pointer = group["data"], group["indices"], group["indptr"][...]
        self.nnz = self._values.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> sp.csr_matrix:
        if isinstance(rows, slice):
            ends = self._pointer[rows.start : rows.stop + 1]
            stretch = slice(int(ends[0]), int(ends[-1]))
            found = self._values[stretch], self._columns[stretch], ends - ends[0]
        else:
            starts, stops = self._pointer[rows].astype(np.int64), self._pointer[rows + 1].astype(np.int64)
            pointer = np.append(0, np.cumsum(stops - starts))
            read = _read_stretches if isinstance(self._values, h5py.Dataset) else _read_places
            found = read(self._values, starts, stops), read(self._columns, starts, stops), pointer
        return sp.csr_matrix(found, shape=(len(found[2]) - 1, self.shape[1]))


class _DenseRows:
    """Rows of a dense matrix in a file."""

    def __init__(self, array: Any) -> None:
        self.shape, self._array = array.shape, array
        self.nnz = int(np.prod(array.shape))

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            return self._array[rows]
        if isinstance(self._array, h5py.Dataset):  # whose own lists of rows are slower
            return np.stack([self._array[row] for row in rows.tolist()])
        return self._array.oindex[rows]


def matrices(path: str | Path) -> list[str]:
    """Names of the matrices in an h5ad file or a zarr store.

    Raises
    ------
    OSError, ValueError
        When it cannot be opened.
    """
    root = _open(Path(path))
    try:
        if "var" not in root or "obs" not in root:
            msg = "it has no table of cells (obs) or genes (var)"
            raise ValueError(msg)
        return _slots(root)
    finally:
        if isinstance(root, h5py.File):
            root.close()


def _slots(root: Any) -> list[str]:
    layers = [f"layers/{name}" for name in root["layers"]] if "layers" in root else []
    return [slot for slot in ("X", "raw/X") if slot in root] + layers


def _matrix(element: Any, slot: str, largest_by_columns: int | None, *, n_rows: int) -> tuple[Any, bool]:
    """What gives rows of a stored matrix, and whether it reads no more than those."""
    if not hasattr(element, "keys"):
        return _DenseRows(element), True
    dataset = sparse_dataset(element)
    if dataset.format == "csc":
        n_bytes = _BYTES_PER_STORED_VALUE * int(element["data"].shape[0])
        if largest_by_columns is not None and n_bytes > largest_by_columns:
            msg = (
                f"{slot} is stored by columns (CSC), of which rows cannot be read, and takes {n_bytes:,} bytes in "
                "memory. Write the file again with adata.X = adata.X.tocsr()."
            )
            raise ValueError(msg)
        if dataset.shape[0] != n_rows:  # which the conversion to rows takes memory for
            msg = f"{slot} has {dataset.shape[0]:,} rows, but obs has {n_rows:,}."
            raise ValueError(msg)
        columns = dataset.to_memory()
        check_sparse(columns, slot)
        return sp.csr_matrix(columns), False
    return _SparseRows(element, dataset.shape), True


def _read_stretches(array: Any, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """One read per stretch: quickest for HDF5."""
    return np.concatenate([array[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)])


def _read_places(array: Any, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """One read for all: quickest for zarr, which takes milliseconds for each."""
    lengths = stops - starts
    shift = np.repeat(starts - np.append(0, np.cumsum(lengths)[:-1]), lengths)
    return array[np.arange(len(shift)) + shift] if len(shift) else np.zeros(0, dtype=array.dtype)


def _open(path: Path) -> Any:
    if path.is_dir():
        return require("zarr", install="zarr", purpose="to read zarr stores").open_group(path, mode="r")
    return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)


def _length(element: Any) -> int:
    """Rows of a stored table."""
    return int((element[element.attrs["_index"]] if hasattr(element, "keys") else element).shape[0])


def _index(element: Any) -> np.ndarray:
    """Row names of a stored table."""
    if hasattr(element, "keys"):
        return np.asarray(read_elem(element[element.attrs["_index"]]))
    return np.asarray(read_elem(element).index)


def _starts_with_counts(path: Path, slot: str) -> bool:
    try:
        with CountsFile(path, slot) as file:
            check_counts(file.rows(np.arange(min(100, file.shape[0]))))
    except READ_ERRORS:
        return False
    return True
