"""Run a function of batches over all cells: with progress, and resumable where a folder is given."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from grnlab._files import atomic_file
from grnlab._progress import progress
from grnlab._reading import DAMAGED_ARRAYS, check_plain_file, read_json
from grnlab.backbones.base import Backbone
from grnlab.data.tokens import CellTokens, like_lengths
from grnlab.tasks._cells import AlignedCells

_STATE = "run.json"
Batch = tuple[np.ndarray, CellTokens]


class Results:
    """Arrays with a row per cell; with a folder, in files there, of which finished blocks outlive the process.

    Parameters
    ----------
    n_cells
        Number of rows.
    out
        Folder; None keeps all in memory.
    identity
        What makes a run the same: cells, model, settings.

    Raises
    ------
    FileExistsError
        When the folder holds another run, or anything else.
    ValueError
        When its files are damaged.
    """

    def __init__(self, n_cells: int, *, out: str | Path | None, identity: Mapping[str, Any]) -> None:
        self._n_cells = n_cells
        self._out = None if out is None else Path(out)
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        self._done: set[int] = set()
        self.arrays: dict[str, np.ndarray] = {}
        if self._out is not None:
            self._open(self._out)

    def _open(self, out: Path) -> None:
        """Go on with the very same run, or begin in a new folder."""
        state = out / _STATE
        if state.is_file():
            try:
                self._go_on(out, read_json(state))
            except FileExistsError:
                raise
            except (OSError, ValueError, KeyError, TypeError, AttributeError, *DAMAGED_ARRAYS) as error:
                msg = f"out={str(out)!r} holds a run that cannot be read ({error}); delete the folder."
                raise ValueError(msg) from error
            return
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            msg = f"out={str(out)!r} exists and holds something else; choose a new folder."
            raise FileExistsError(msg)
        out.mkdir(parents=True, exist_ok=True)
        self._save()

    def _go_on(self, out: Path, content: Mapping[str, Any]) -> None:
        if content["identity"] != self._identity:
            msg = f"out={str(out)!r} holds a run on other cells, or of another model or settings; choose another."
            raise FileExistsError(msg)
        self._done = set(map(int, content["done"]))
        for name in content["arrays"]:
            file = out / f"{name}.npy"
            if file.parent != out:
                msg = f"its array {name!r} lies elsewhere"
                raise ValueError(msg)
            check_plain_file(file)
            np.load(file, mmap_mode="r")  # which refuses a file that is too short; the next would lengthen it
            array = np.lib.format.open_memmap(file, mode="r+")
            if len(array) != self._n_cells:
                msg = f"{name}.npy has {len(array)} rows, not {self._n_cells}"
                raise ValueError(msg)
            self.arrays[name] = array

    def __contains__(self, block: int) -> bool:
        return block in self._done

    def write(self, name: str, rows: np.ndarray, values: np.ndarray) -> None:
        """Set rows of an array, which is made when first written to."""
        if name not in self.arrays:
            shape = (self._n_cells, *values.shape[1:])
            if self._out is None:
                self.arrays[name] = np.empty(shape, dtype=values.dtype)
            else:
                file = self._out / f"{name}.npy"
                self.arrays[name] = np.lib.format.open_memmap(file, mode="w+", dtype=values.dtype, shape=shape)
        self.arrays[name][rows] = values

    def finish(self, block: int) -> None:
        """All rows of a block are written."""
        self._done.add(block)
        for array in self.arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        self._save()

    def finished(self) -> dict[str, np.ndarray]:
        """All arrays; those in files as maps that a change does not write back to."""
        if self._out is None:
            return self.arrays
        return {name: np.load(self._out / f"{name}.npy", mmap_mode="c") for name in self.arrays}

    def _save(self) -> None:
        if self._out is None:
            return
        state = {"identity": self._identity, "done": sorted(self._done), "arrays": sorted(self.arrays)}
        with atomic_file(self._out / _STATE, overwrite=True) as temporary:
            temporary.write_text(json.dumps(state), encoding="utf-8")


def batches(
    model: Backbone, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str = "expressed"
) -> Iterator[Batch]:
    """Cells as the model reads them: row numbers, and tokens on its device. Cells of like length go together.

    Parameters
    ----------
    model
        Backbone in evaluation mode.
    counts, tokens, totals, context
        As in :func:`grnlab.data.tokens.tokenize`.
    """
    if context not in ("expressed", "shared"):
        msg = f"context={context!r} is unknown; choose 'expressed' or 'shared'."
        raise ValueError(msg)
    device, least = getattr(model, "device", torch.device("cpu")), getattr(model, "tokens_per_cell", 1)
    lengths = np.diff(counts.indptr) if context == "expressed" else np.full(counts.shape[0], len(tokens))
    for rows in like_lengths(lengths, least=least):
        yield rows, model.tokenize(counts[rows], tokens, totals[rows], context=context).to(device)


def run_cells(
    cells: AlignedCells,
    function: Callable[[sp.csr_matrix, slice], Iterator[tuple[np.ndarray, Mapping[str, Any]]]],
    *,
    desc: str,
    settings: Mapping[str, Any],
    out: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """Arrays with a row per cell, block by block.

    Parameters
    ----------
    cells
        Counts.
    function
        Takes the counts of a block and its rows; gives row numbers within the block, and name → rows of each array.
    desc
        What the progress bar says.
    settings
        Whatever else decides the result; a folder with other settings is not gone on with.
    out
        Folder to keep finished blocks in; the same call goes on where a killed one stopped.
    """
    identity = {"task": desc, "cells": cells.identity, "settings": dict(settings)}
    identity |= {key: cells.provenance[key] for key in ("model", "weights_sha256", "vocab_sha256")}
    results = Results(len(cells), out=out, identity=identity)
    with progress(total=len(cells), desc=desc, unit="cell") as bar:
        for number, rows in enumerate(cells.blocks()):
            if number not in results:
                with torch.inference_mode():
                    for within, values in function(cells.read(rows), rows):
                        for name, value in values.items():
                            results.write(name, rows.start + within, value)
                        bar.update(len(within))
                results.finish(number)
            else:
                bar.update(rows.stop - rows.start)
    return results.finished()
