"""Class codes of cells from the tables of their files."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd

from grnlab.data.files import CountsFile

logger = logging.getLogger(__name__)

# Spellings of "nobody knows" in public data; only where no list of classes says otherwise.
_UNKNOWN = frozenset({"", "unknown", "unassigned", "unlabelled", "unlabeled", "na", "n/a", "nan", "none"})


@dataclass(frozen=True)
class Label:
    """A class of cells that a column of ``obs`` names.

    Attributes
    ----------
    column
        Column of ``obs``.
    classes
        The classes, in the order of their codes; None collects them from the files, sorted.
    names
        Spelling in the files → class, as a mapping or a function that may return None. A spelling that a mapping does
        not hold stands for itself.
    required
        Whether a file without the column is an error; otherwise all its cells are unknown.

    Examples
    --------
    >>> label = Label("cell_type", classes=["B cell", "T cell"], names={"CD19+ B": "B cell"})
    >>> codes, spellings = label.read(pd.DataFrame({"cell_type": ["CD19+ B", "T cell", "unknown"]}))
    >>> encode([(codes, spellings)], label.classes)[0].tolist()
    [0, 1, -1]
    """

    column: str
    classes: Sequence[str] | None = None
    names: Mapping[str, str] | Callable[[str], str | None] | None = None
    required: bool = True

    def read(self, obs: pd.DataFrame) -> "FileLabel":
        """Code of each cell into a list of spellings, -1 where empty, int32; and the class each spelling stands for.

        Raises
        ------
        ValueError
            When the column is required and missing.
        """
        if self.column not in obs:
            if self.required:
                msg = (
                    f"obs has no column {self.column!r}. Name another, or let its cells be unknown: "
                    f"Label({self.column!r}, required=False)."
                )
                raise ValueError(msg)
            return np.full(len(obs), -1, dtype=np.int32), []
        codes, spellings = pd.factorize(obs[self.column])
        return codes.astype(np.int32), [self._meaning(str(spelling)) for spelling in spellings]

    def _meaning(self, spelling: str) -> str | None:
        if callable(self.names):
            return self.names(spelling)
        return (self.names or {}).get(spelling, spelling)


Labels = Mapping[str, str | Label] | Callable[[ad.AnnData], Mapping[str, np.ndarray]]
# Codes of the cells of a file, and the class each code stands for; None where the codes are final.
FileLabel = tuple[np.ndarray, list[str | None] | None]


def read_labels(file: CountsFile, label: Labels, rows: np.ndarray) -> dict[str, FileLabel]:
    """Labels of some cells of a file.

    Raises
    ------
    ValueError
        When a required column is missing, or a function gives another number of codes than there are cells.
    """
    if not callable(label):
        columns = _by_column(label)
        obs = file.obs([one.column for one in columns.values()]).iloc[rows]
        return {name: one.read(obs) for name, one in columns.items()}
    found: dict[str, FileLabel] = {}
    for name, codes in label(file.annotated()).items():
        if len(codes) != file.shape[0]:
            msg = f"label gave {len(codes):,} codes of {name!r} for {file.shape[0]:,} cells; one per cell is needed."
            raise ValueError(msg)
        found[name] = np.asarray(codes)[rows].astype(np.int32), None
    return found


def join_labels(
    files: Sequence[Mapping[str, FileLabel]], n_cells: Sequence[int], label: Labels
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Codes of all cells by label, -1 where unknown, int32; and the classes of each label that columns name."""
    if not callable(label):
        codes, classes = {}, {}
        for name, one in _by_column(label).items():
            codes[name], classes[name] = encode([of_file[name] for of_file in files], one.classes, name=name)
        return codes, classes
    names = dict.fromkeys(name for of_file in files for name in of_file)
    return {
        name: np.concatenate(
            [
                of_file[name][0] if name in of_file else np.full(n, -1, dtype=np.int32)
                for of_file, n in zip(files, n_cells, strict=True)
            ]
        )
        for name in names
    }, {}


def _by_column(label: Mapping[str, str | Label]) -> dict[str, Label]:
    return {name: Label(one) if isinstance(one, str) else one for name, one in label.items()}


def encode(
    files: Sequence[FileLabel], classes: Sequence[str] | None, *, name: str = "label"
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes of all cells of all files, -1 where unknown, int32; and the classes they count.

    Parameters
    ----------
    files
        What :meth:`Label.read` gives for each.
    classes
        The classes, or None to collect them.
    name
        Name of the label, for the log.
    """
    counted: Counter[str] = Counter()  # cells by class named
    for codes, spellings in files:
        for meaning, count in zip(spellings or [], np.bincount(codes + 1)[1:], strict=False):
            if meaning is not None:
                counted[meaning] += int(count)
    if classes is None:
        classes = sorted(meaning for meaning, n in counted.items() if n and meaning.lower() not in _UNKNOWN)
    number = {meaning: code for code, meaning in enumerate(classes)}
    tables = [[*(-1 if m is None else number.get(m, -1) for m in spellings or []), -1] for _, spellings in files]
    encoded = [np.array(table, dtype=np.int32)[codes] for table, (codes, _) in zip(tables, files, strict=True)]
    strange = {m: n for m, n in counted.most_common() if n and m not in number and m.lower() not in _UNKNOWN}
    if strange:
        common = ", ".join(f"{meaning!r} ({n:,})" for meaning, n in list(strange.items())[:5])
        total = sum(strange.values())
        logger.warning("%s: %d cells are of no known class and count as unknown: %s", name, total, common)
    return np.concatenate(encoded), tuple(classes)
