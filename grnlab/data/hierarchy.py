"""Labels at any level of an ontology: which are leaves, and which leaves a coarse label stands for."""

import difflib
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pandas as pd

from grnlab._reading import opened

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hierarchy:
    """Terms of an ontology and the broader terms each is a kind of.

    Attributes
    ----------
    parents
        Term → its direct parents; a term may have several, and a root has none.
    names
        Other spelling → term: names and alternative identifiers of an OBO file.

    Raises
    ------
    ValueError
        When a parent is no term, or terms are their own ancestors.

    Examples
    --------
    >>> cells = Hierarchy({"cell": (), "T cell": ("cell",), "B cell": ("cell",), "CD4 T cell": ("T cell",)})
    >>> cells.split(["cell", "B cell", "CD4 T cell"])
    (('B cell', 'CD4 T cell'), {'cell': ('B cell', 'CD4 T cell')})
    """

    parents: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for term, parents in self.parents.items():
            if absent := [parent for parent in parents if parent not in self.parents]:
                msg = f"term {term!r} has the parent {absent[0]!r}, which is no term; add it, or leave the parent out."
                raise ValueError(msg)
        try:
            TopologicalSorter(self.parents).prepare()
        except CycleError as error:
            msg = f"the hierarchy has a cycle, so no term of it is a leaf: {' → '.join(map(repr, error.args[1]))}."
            raise ValueError(msg) from error

    @cached_property
    def _ancestors(self) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for term in TopologicalSorter(self.parents).static_order():  # parents first
            above = self.parents[term]
            found[term] = frozenset(above).union(*(found[parent] for parent in above))
        return found

    def term(self, label: str) -> str:
        """Term of a label.

        Raises
        ------
        ValueError
            When the label is neither a term nor a name of one.
        """
        if label in self.parents:
            return label
        if label in self.names:
            return self.names[label]
        close = difflib.get_close_matches(label, [*self.parents, *self.names], n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "leave it out, cells may lack a label."
        msg = f"label {label!r} is not in the hierarchy of {len(self.parents):,} terms; {hint}"
        raise ValueError(msg)

    def split(self, labels: Iterable[str]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        """Tell the leaves among labels from the coarse ones.

        A leaf is a label that no other label is a kind of: the most precise that occur, as in scPRINT.

        Parameters
        ----------
        labels
            Labels that occur, at any level.

        Returns
        -------
        The leaves, sorted, and coarse label → its leaves; what ``classes`` and ``groups`` of a
        :class:`~grnlab.backbones.ScPrintConfig` hold for one class. Codes of cells count the labels of the config:
        ``Label(column, classes=config.labels(name))`` in :mod:`grnlab.data`.

        Raises
        ------
        ValueError
            When a label is not in the hierarchy, or two labels are the same term.
        """
        label_of: dict[str, str] = {}
        for label in sorted(set(map(str, labels))):
            term = self.term(label)
            if term in label_of:
                msg = f"labels {label_of[term]!r} and {label!r} are the same term; spell it one way."
                raise ValueError(msg)
            label_of[term] = label
        coarse = frozenset().union(*(self._ancestors[term] for term in label_of)) & label_of.keys()
        groups: dict[str, list[str]] = {label_of[term]: [] for term in label_of if term in coarse}
        leaves = [term for term in label_of if term not in coarse]
        for leaf in leaves:
            for term in self._ancestors[leaf] & coarse:
                groups[label_of[term]].append(label_of[leaf])
        return tuple(sorted(label_of[leaf] for leaf in leaves)), {
            label: tuple(sorted(members)) for label, members in sorted(groups.items())
        }


def read_hierarchy(path: str | Path) -> Hierarchy:
    """Read an ontology from an OBO file, or from a table with the columns ``child`` and ``parent``.

    Of an OBO file (``.obo``, ``.obo.gz``; for example the Cell Ontology, MONDO) the terms that are not obsolete are
    read, with ``is_a``, names and ``alt_id``; a name that two terms share names neither. A table is comma-separated,
    or tab-separated when its name says ``.tsv`` or ``.txt``; a parent that is no child is a root, and so is a child
    without a parent.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file holds no terms, a parent is unknown, or terms are their own ancestors.
    """
    path = Path(path)
    read = _read_obo if ".obo" in path.suffixes else _read_table
    try:
        hierarchy = read(path)
        if not hierarchy.parents:
            msg = "holds no terms; give an OBO file, or a table with the columns 'child' and 'parent'."
            raise ValueError(msg)
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error
    logger.info("%s: %d terms", path, len(hierarchy.parents))
    return hierarchy


def _read_obo(path: Path) -> Hierarchy:
    terms: list[dict[str, list[str]]] = []
    current: dict[str, list[str]] | None = None
    with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8") as lines:
        for line in map(str.strip, lines):
            if line.startswith("["):
                current = {} if line == "[Term]" else None
                terms += [] if current is None else [current]
            elif current is not None:
                tag, _, value = line.partition(":")
                current.setdefault(tag, []).append(value.split(" ! ")[0].split(" {")[0].strip())
    terms = [term for term in terms if "id" in term and term.get("is_obsolete") != ["true"]]
    parents = {term["id"][0]: tuple(term.get("is_a", ())) for term in terms}
    spellings = [(name, term["id"][0]) for term in terms for name in term.get("name", []) + term.get("alt_id", [])]
    names: dict[str, str] = {}
    shared = {name for name, term in spellings if names.setdefault(name, term) != term}
    return Hierarchy(parents, {name: term for name, term in names.items() if name not in shared | parents.keys()})


def _read_table(path: Path) -> Hierarchy:
    sep = "\t" if {".tsv", ".txt"} & set(path.suffixes) else ","
    with opened(path) as file:
        table = pd.read_csv(file, sep=sep, dtype=str, keep_default_na=False)
    if not {"child", "parent"} <= set(table.columns):
        msg = f"has the columns {list(table.columns)}; 'child' and 'parent' are needed."
        raise ValueError(msg)
    parents: dict[str, list[str]] = {}
    for child, parent in zip(table["child"].str.strip(), table["parent"].str.strip(), strict=True):
        above = parents.setdefault(child, [])
        if parent:
            above.append(parent)
            parents.setdefault(parent, [])
    return Hierarchy({term: tuple(dict.fromkeys(above)) for term, above in parents.items()})
