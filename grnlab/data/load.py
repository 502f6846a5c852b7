"""From files to a collection: scan, judge, label, and either read the cells or leave them on disk."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grnlab._files import atomic_file
from grnlab.data.collection import CellCollection
from grnlab.data.files import READ_ERRORS, CountsFile, find_files
from grnlab.data.labels import FileLabel, Labels, join_labels, read_labels
from grnlab.data.quality import QualityRules
from grnlab.data.scan import FileScan, scan
from grnlab.data.store import FileCounts, FileRows
from grnlab.genes import GeneVocab

logger = logging.getLogger(__name__)

_BYTES_PER_VALUE = 8  # float32 count and int32 token


@dataclass(frozen=True)
class _Part:
    """A file that is used."""

    path: Path
    scan: FileScan
    rows: np.ndarray
    labels: dict[str, FileLabel]


def load_collection(
    paths: str | Path | Sequence[str | Path],
    vocab: GeneVocab,
    *,
    label: Labels | None = None,
    rules: QualityRules | None = None,
    slot: str = "X",
    on_error: str = "raise",
    cache: str | Path | None = None,
    report: str | Path | None = None,
    memory_bytes: int = 2 << 30,
) -> CellCollection:
    """Collect the cells of h5ad files and zarr stores of counts, aligned by gene name.

    Every file is looked through once (see `cache`). Counts that fit into `memory_bytes` are then read into memory;
    otherwise they stay on disk and rows are read when a batch asks for them, at 12 bytes of memory per cell, 4 more
    per label and 8 per cell of each file for its row pointer. Batches are the same either way.

    Random rows of a large h5ad file written without compression are read some ten times faster than of a compressed
    one or a zarr store, where each row costs the unpacking of a chunk; :meth:`CellCollection.batches` helps with both.

    Parameters
    ----------
    paths
        Files, stores, and folders that are searched for them.
    vocab
        Vocabulary of the model.
    label
        Label → column of ``obs``, or a :class:`Label` with more to say; or a function that gives the codes of the cells
        of a file (-1 where unknown) from its tables: an AnnData without matrix.
    rules
        Which cells and files are good enough; by default primary cells that express 200 genes.
    slot
        The matrix of counts in each file: ``"X"``, ``"raw/X"`` or ``"layers/NAME"``.
    on_error
        ``"raise"``: a file that cannot be used ends the loading. ``"skip"``: it is left out with a warning.
    cache
        Folder in which the scans of the files are kept; a changed file or another vocabulary is scanned again.
    report
        Tab-separated file to write, one line a file, also when loading fails for want of cells; it is replaced.
    memory_bytes
        Largest size of counts in memory, 8 bytes for each that is not zero.

    Returns
    -------
    The collection; its ``report`` has one row a file, used or not, with the reason.

    Raises
    ------
    ValueError
        When a file cannot be read, does not hold counts, has no known gene, genes of another species or repeated
        gene names, or lacks a required column, unless ``on_error="skip"``; when no cell is left. The message names
        the file.

    Examples
    --------
    ``load_collection("atlas/", vocab, label={"cell_type": "cell_type"}, on_error="skip", cache="scans/")``
    """
    if on_error not in ("raise", "skip"):
        msg = f"on_error={on_error!r} is unknown; choose 'raise' or 'skip'."
        raise ValueError(msg)
    rules, label, files = rules or QualityRules(), label or {}, find_files(paths)
    parts, lines = [], []
    for path in files:
        line: dict[str, Any] = {"path": str(path), "status": "used", "reason": ""}
        lines.append(line)
        try:
            part = _inspect(path, vocab, label, rules, slot=slot, cache=cache, line=line)
        except READ_ERRORS as error:
            if on_error == "raise":
                msg = f"{path}: {error}"
                raise ValueError(msg) from error
            line |= {"status": "failed", "reason": " ".join(str(error).split())}
            logger.warning("%s: left out: %s", path, line["reason"])
            continue
        if part is not None:
            parts.append(part)
    table = pd.DataFrame(lines)
    if report is not None:
        with atomic_file(report, overwrite=True) as temporary:
            table.to_csv(temporary, sep="\t", index=False)
    if not parts:
        reasons = "; ".join(f"{line['path']}: {line['reason']}" for line in lines[:3])
        msg = f"No cell is left of {len(files)} files. The first: {reasons}. Change the rules, or the files."
        raise ValueError(msg)
    return _collect(parts, vocab, label, slot=slot, report=table, memory_bytes=memory_bytes)


def _inspect(
    path: Path,
    vocab: GeneVocab,
    label: Labels,
    rules: QualityRules,
    *,
    slot: str,
    cache: str | Path | None,
    line: dict[str, Any],
) -> _Part | None:
    """Scan and judge a file, and read its labels; None when the rules leave it out. Fills in its line of the report."""
    scanned = scan(path, vocab, slot=slot, cache=None if cache is None else Path(cache))
    with CountsFile(path, slot) as file:
        verdict = rules.judge(file, scanned, vocab.species)
        line |= {
            "species": scanned.species,
            "n_cells": len(scanned.totals),
            "n_kept": 0 if verdict.reason else len(verdict.rows),
            "n_genes": len(scanned.token_of_column),
            "n_mapped": len(scanned.available),
            "genes": scanned.genes,
        } | {f"removed by {rule}": count for rule, count in verdict.removed.items()}
        if verdict.reason is not None:
            line |= {"status": "left out", "reason": verdict.reason}
            logger.warning("%s: left out by %s", path, verdict.reason)
            return None
        logger.info("%s: %s; %d of %d cells", path.stem, scanned.genes, len(verdict.rows), len(scanned.totals))
        return _Part(path, scanned, verdict.rows, read_labels(file, label, verdict.rows))


def _collect(
    parts: Sequence[_Part], vocab: GeneVocab, label: Labels, *, slot: str, report: pd.DataFrame, memory_bytes: int
) -> CellCollection:
    sizes = [len(part.rows) for part in parts]
    lengths = np.concatenate([part.scan.n_genes[part.rows] for part in parts])
    files = [FileRows(part.path, slot, part.scan.identity, part.rows, part.scan.token_of_column) for part in parts]
    counts = FileCounts(files, len(vocab))
    n_bytes = _BYTES_PER_VALUE * int(lengths.sum(dtype=np.int64))
    on_disk = n_bytes > memory_bytes
    columns = [str(part.path) for part in parts if not part.scan.by_rows]
    if on_disk and columns:
        msg = (
            f"{columns[0]}: {slot} is stored by columns (CSC), of which rows cannot be read, and the {n_bytes:,} bytes "
            f"of all counts are more than memory_bytes={memory_bytes:,}. Write the file again with "
            "adata.X = adata.X.tocsr(), or raise memory_bytes."
        )
        raise ValueError(msg)
    logger.info("%d cells of %d files, %s", len(lengths), len(parts), "on disk" if on_disk else "in memory")
    codes, classes = join_labels([part.labels for part in parts], sizes, label)
    return CellCollection(
        counts=counts if on_disk else counts.to_memory(lengths),
        datasets=np.repeat(np.arange(len(parts), dtype=np.int32), sizes),
        names=_names([part.path for part in parts]),
        available=[part.scan.available for part in parts],
        totals=np.concatenate([part.scan.totals[part.rows] for part in parts]),
        labels=codes,
        label_values=classes,
        report=report,
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Stem of each file, with as many folders as tell files of one stem apart."""
    names = [path.stem for path in paths]
    for depth in range(1, max(len(path.parts) for path in paths)):
        shared = {name for name in names if names.count(name) > 1}
        names = [
            "/".join([*path.parts[-1 - depth : -1], path.stem]) if name in shared else name
            for path, name in zip(paths, names, strict=True)
        ]
    return names
