"""Which cells and files are good enough to train on: named rules, each with the cells it took away."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from grnlab.data.files import CountsFile
from grnlab.data.scan import FileScan


@dataclass(frozen=True)
class QualityRules:
    """Rules for cells, then for files; each is off when it is None, False or empty.

    A rule about a column of ``obs`` says nothing about files without that column. A cell counts against the first rule
    it breaks, in the order below.

    Attributes
    ----------
    primary
        Cells with ``obs["is_primary_data"]`` false are left out: they are in another study as well.
    species
        Cells of an ``obs["organism"]`` that the vocabulary does not know are left out. Switch it off for genes that
        were translated to orthologs.
    exclude
        Column of ``obs`` → values whose cells are left out, for example ``{"assay": ["MERFISH"], "demuxlet": ["DBL"]}``
        for spatial assays and called doublets.
    min_genes
        Least number of genes of the vocabulary that a cell expresses.
    min_counts, max_counts
        Counts of a cell over all genes of its file.
    max_cells
        At most so many random cells of a file, always the same ones for the same `seed`.
    seed
        For that choice.
    min_mapped
        Least number of genes of a file that the vocabulary knows.
    min_cells
        Least number of cells left of a file.
    max_removed
        Largest share of the cells of a file that the rules above may take away, `max_cells` aside.

    Examples
    --------
    >>> QualityRules(exclude={"demuxlet": ["DBL"]}).columns
    ['is_primary_data', 'demuxlet']
    """

    primary: bool = True
    species: bool = True
    exclude: Mapping[str, Collection[str]] = field(default_factory=dict)
    min_genes: int | None = 200
    min_counts: float | None = None
    max_counts: float | None = None
    max_cells: int | None = None
    seed: int = 0
    min_mapped: int | None = None
    min_cells: int = 1
    max_removed: float | None = None

    @classmethod
    def scprint(cls) -> "QualityRules":
        """Rules of the scPRINT paper, methods (doi:10.1038/s41467-025-58699-1), but for its spatial assays.

        Primary cells with 200 genes; files with 100 cells, 10,000 genes, and at least 5 % of the cells left. Spatial
        assays have no one name: list those of your files in `exclude`.
        """
        return cls(min_cells=100, min_mapped=10_000, max_removed=0.95)

    @property
    def columns(self) -> list[str]:
        """Columns of ``obs`` that the rules look at."""
        return [*(["is_primary_data"] if self.primary else []), *self.exclude]

    def judge(self, file: CountsFile, scan: FileScan, known_species: Collection[str]) -> "Verdict":
        """Apply the rules to a file."""
        good = np.ones(len(scan.totals), dtype=bool)
        removed = {}
        for rule, bad in self._broken(file, scan, known_species).items():
            removed[rule] = int((good & bad).sum())
            good &= ~bad
        rows, reason = np.flatnonzero(good), None
        if (n_mapped := len(scan.available)) < (self.min_mapped or 0):
            reason = f"min_mapped: {n_mapped:,} genes are known to the vocabulary, fewer than {self.min_mapped:,}"
        elif len(rows) < max(self.min_cells, 1):
            reason = f"min_cells: {_tell(removed, len(rows))}, fewer than {max(self.min_cells, 1):,}"
        elif self.max_removed is not None and len(rows) < (1 - self.max_removed) * len(good):
            reason = f"max_removed: {_tell(removed, len(rows))}, less than {1 - self.max_removed:.0%}"
        if self.max_cells is not None and len(rows) > self.max_cells:
            removed["max_cells"] = len(rows) - self.max_cells
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, self.max_cells, replace=False))
        return Verdict(rows.astype(np.int32), removed, reason)

    def _broken(self, file: CountsFile, scan: FileScan, known_species: Collection[str]) -> dict[str, np.ndarray]:
        """Rule → whether each cell breaks it."""
        obs = file.obs(self.columns)
        broken = {}
        if "is_primary_data" in obs and self.primary:
            broken["primary"] = _is_one_of(obs["is_primary_data"], ["False"])
        if self.species and (organism := file.organism()) is not None:
            broken["species"] = ~(organism.isin(list(known_species)) | organism.isna())
        for column, values in self.exclude.items():
            if column in obs:
                broken[f"exclude {column}"] = _is_one_of(obs[column], values)
        if self.min_genes is not None:
            broken["min_genes"] = scan.n_genes < self.min_genes
        if self.min_counts is not None:
            broken["min_counts"] = scan.totals < self.min_counts
        if self.max_counts is not None:
            broken["max_counts"] = scan.totals > self.max_counts
        return broken


@dataclass(frozen=True)
class Verdict:
    """What the rules left of a file.

    Attributes
    ----------
    rows
        Cells that passed, increasing, int32.
    removed
        Rule → cells it took away.
    reason
        Why the whole file is left out, beginning with the name of the rule; None where it is used.
    """

    rows: np.ndarray
    removed: dict[str, int]
    reason: str | None


def _is_one_of(column: pd.Series, values: Collection[str]) -> np.ndarray:
    if isinstance(values, str):
        values = [values]
    return column.astype(str).isin([str(value) for value in values]).to_numpy()


def _tell(removed: Mapping[str, int], n_left: int) -> str:
    taken = ", ".join(f"{count:,} by {rule}" for rule, count in removed.items() if count)
    return f"{n_left:,} of {n_left + sum(removed.values()):,} cells are left ({taken or 'none'} taken away)"
