"""Rows of many files as one matrix over the vocabulary, read when they are asked for.

Own code, where a loader exists, for what those measured in ``benchmarks/loader.py`` lack: a batch that depends on its
seed and number alone (scDataset draws all rows of a run at its start and goes through them in order, so a resumed run
has to go through them again), and an alignment per file (AnnCollection joins files by the genes that all have). Cells
per CPU second, 37,735 cells in 23 compressed h5ad files, 64 cells × 1,024 genes, the peers on copies aligned before:

================================  ==============  ===================
reader                            batch by batch  16 batches at once
================================  ==============  ===================
this one                          2,500           3,600
anndata backed, file by file      330
AnnCollection                     650
scDataset over AnnCollection                      2,800
scDataset over this one                           5,200
================================  ==============  ===================

The last two rows had chunk caches of 8 MB an array, which hold most of so small a collection; with those this reader
alone made 4,000 and 6,100. Of h5ad without compression it makes 8,300 and 11,500, of zarr 900 and 2,900.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from grnlab.data.files import READ_ERRORS, CountsFile, identity, row_blocks
from grnlab.data.scan import to_tokens

_OPEN_FILES = 512  # half of what most systems allow


@dataclass(frozen=True)
class FileRows:
    """Rows of one file.

    Attributes
    ----------
    path, slot
        File and the matrix in it.
    identity
        Digest of the file when it was scanned.
    rows
        Row numbers in the file, increasing, int32.
    token_of_column
        Token of each column, -1 for none, int32.
    """

    path: Path
    slot: str
    identity: str
    rows: np.ndarray
    token_of_column: np.ndarray


class FileCounts:
    """Counts of cells over a vocabulary that stay in their files; ``counts[rows]`` reads rows into memory.

    Holds 4 bytes per cell, and 8 per cell and at most 2 MB of each opened file (row pointer, chunks). May be handed to
    other processes: each opens the files for itself.

    Parameters
    ----------
    files
        The files, in the order of their rows here.
    n_vocab
        Number of columns.

    Raises
    ------
    ValueError
        When rows cannot be read, or their file has changed since it was scanned.
    """

    def __init__(self, files: Sequence[FileRows], n_vocab: int) -> None:
        self.files = list(files)
        self.first = np.cumsum([0, *(len(file.rows) for file in self.files)])
        self.shape = (int(self.first[-1]), n_vocab)
        self._opened: OrderedDict[int, CountsFile] = OrderedDict()
        self._inherited = self._opened
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": OrderedDict(), "_inherited": OrderedDict()}

    def __getitem__(self, rows: np.ndarray | slice) -> sp.csr_matrix:
        """CSR of some rows, in the order given; float32, shape (n_rows, n_vocab)."""
        rows = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.shape[0]):
            msg = f"rows holds {rows.min()} to {rows.max()}; expected cell numbers in 0 to {self.shape[0] - 1}."
            raise ValueError(msg)
        wanted, place = np.unique(rows, return_inverse=True)
        parts = []
        for number in np.unique(np.searchsorted(self.first, wanted, side="right") - 1):
            first, last = np.searchsorted(wanted, self.first[number : number + 2])
            parts.append(self._read(int(number), wanted[first:last] - self.first[number]))
        if not parts:
            return sp.csr_matrix((0, self.shape[1]), dtype=np.float32)
        values, tokens, lengths = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        read = _canonical(values, tokens, np.append(0, np.cumsum(lengths)), self.shape[1])
        return read if len(rows) == len(wanted) and (place[1:] > place[:-1]).all() else read[place]

    def to_memory(self, lengths: np.ndarray) -> sp.csr_matrix:
        """All rows; `lengths` is the number of values in each."""
        pointer = np.append(0, np.cumsum(lengths, dtype=np.int64))
        values, tokens = np.empty(pointer[-1], dtype=np.float32), np.empty(pointer[-1], dtype=np.int32)
        for number, file in enumerate(self.files):
            of_file = pointer[self.first[number] : self.first[number + 1] + 1]
            for inside in row_blocks(len(file.rows), int(of_file[-1] - of_file[0])):
                block = self[np.arange(inside.start, inside.stop) + self.first[number]]
                here = slice(of_file[inside.start], of_file[inside.stop])
                values[here], tokens[here] = block.data, block.indices
            self._opened.pop(number).close()
        return sp.csr_matrix((values, tokens, pointer), shape=self.shape)

    def _read(self, number: int, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts, tokens and lengths of rows of one file; `inside` counts the kept rows of the file, increasing."""
        part = self.files[number]
        try:
            values, tokens, pointer = to_tokens(self._open(number).rows(part.rows[inside]), part.token_of_column)
            return values, tokens, np.diff(pointer)
        except READ_ERRORS as error:
            msg = f"{part.path}: {error}"
            raise ValueError(msg) from error

    def _open(self, number: int) -> CountsFile:
        if self._process != os.getpid():  # a forked process shares the handles of its parent: leave those alone
            self._inherited, self._opened, self._process = self._opened, OrderedDict(), os.getpid()
        if number not in self._opened:
            part = self.files[number]
            if identity(part.path) != part.identity:
                msg = "the file has changed since it was scanned; load the collection again."
                raise ValueError(msg)
            if len(self._opened) >= _OPEN_FILES:
                self._opened.popitem(last=False)[1].close()
            self._opened[number] = CountsFile(part.path, part.slot)
        self._opened.move_to_end(number)
        return self._opened[number]


def _canonical(values: np.ndarray, tokens: np.ndarray, pointer: np.ndarray, n_vocab: int) -> sp.csr_matrix:
    """CSR with increasing tokens in each row, none twice."""
    matrix = sp.csr_matrix((values, tokens, pointer), shape=(len(pointer) - 1, n_vocab))
    if not matrix.has_sorted_indices:
        matrix = matrix.tocsc().tocsr()  # a counting sort: five times faster than sorting each row
    matrix.sum_duplicates()
    return matrix
