"""Cells of many files aligned to one vocabulary, to train on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from grnlab.data.store import FileCounts
from grnlab.data.tokens import CellTokens, sample_context

logger = logging.getLogger(__name__)


@dataclass
class CellCollection:
    """Counts of cells over a whole vocabulary, with the data set each cell came from.

    Attributes
    ----------
    counts
        CSR, shape (n_cells, n_vocab), float32; or the same on disk: ``counts[rows]`` is CSR either way.
    datasets
        Data set number of each cell, shape (n_cells,).
    names
        Name of each data set.
    available
        Tokens measured in each data set.
    totals
        Total counts of each cell over all genes of its file, also those outside the vocabulary, shape (n_cells,).
    labels
        Class name → code of each cell, -1 where unknown.
    label_values
        Class name → classes in the order of their codes, where columns of the files named them.
    report
        One row for each file that was asked for: whether it is used, why not, and what became of its cells.
    """

    counts: sp.csr_matrix | FileCounts
    datasets: np.ndarray
    names: list[str]
    available: list[np.ndarray]
    totals: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    label_values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    report: pd.DataFrame | None = None

    @classmethod
    def from_counts(
        cls,
        counts: sp.csr_matrix,
        *,
        name: str = "cells",
        tokens: np.ndarray | None = None,
        totals: np.ndarray | None = None,
    ) -> "CellCollection":
        """Cells of one data set whose columns are the vocabulary already.

        Parameters
        ----------
        counts
            CSR, shape (n_cells, n_vocab).
        name
            Name of the data set.
        tokens
            Genes that were measured; all by default.
        totals
            Total counts of each cell; those of `counts` by default.
        """
        return cls(
            counts=counts,
            datasets=np.zeros(counts.shape[0], dtype=np.int64),
            names=[name],
            available=[np.arange(counts.shape[1]) if tokens is None else tokens],
            totals=np.asarray(counts.sum(axis=1)).ravel() if totals is None else totals,
        )

    @classmethod
    def from_columns(
        cls,
        counts: sp.csr_matrix,
        columns: np.ndarray,
        tokens: np.ndarray,
        *,
        n_vocab: int,
        name: str = "cells",
        totals: np.ndarray | None = None,
    ) -> "CellCollection":
        """Cells of one data set, some of whose columns are genes of the vocabulary.

        Parameters
        ----------
        counts
            CSR, shape (n_cells, n_columns).
        columns, tokens
            Columns, and the gene each stands for, as in :class:`grnlab.genes.Alignment`.
        n_vocab
            Genes of the vocabulary.
        name, totals
            As in :meth:`from_counts`.
        """
        part = counts[:, columns].tocoo()
        spread = sp.csr_matrix((part.data, (part.row, tokens[part.col])), shape=(counts.shape[0], n_vocab))
        return cls.from_counts(spread, name=name, tokens=tokens, totals=totals)

    def __len__(self) -> int:
        return self.counts.shape[0]

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """Cell numbers of some data sets, increasing.

        Raises
        ------
        ValueError
            When there is no data set of a name.
        """
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            msg = f"there is no data set {unknown}; there are {self.names}."
            raise ValueError(msg)
        return np.flatnonzero(np.isin(self.datasets, [self.names.index(name) for name in names]))

    def split(self, fraction: float, *, seed: int, held_out: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Cell numbers for training and for validation, both increasing.

        Parameters
        ----------
        fraction
            Share of the cells for validation, drawn at random; at least one cell.
        seed
            For the draw.
        held_out
            Data sets that are in neither part; :meth:`rows_of` gives their cells.

        Raises
        ------
        ValueError
            When there is no data set of a name, or no cell is left to train on.
        """
        rows = np.delete(np.arange(len(self)), self.rows_of(held_out))
        n_validation = max(1, round(fraction * len(rows)))
        if n_validation >= len(rows):
            msg = f"fraction={fraction} of {len(rows)} cells leaves none to train on; lower it, or hold out less."
            raise ValueError(msg)
        order = rows[np.random.default_rng(seed).permutation(len(rows))]
        return np.sort(order[n_validation:]), np.sort(order[:n_validation])

    def sampling_weights(self, labels: str | Sequence[str] = ("dataset",)) -> np.ndarray:
        """Weight 50 / (count + 50) of each cell, `count` being the cells that share its combination of labels.

        So a cell of the rarest combination is drawn at most about 50 times less than one of the commonest would be by
        weights 1 / count (scPRINT, doi:10.1038/s41467-025-58699-1). Unknown is a value of its own.

        Parameters
        ----------
        labels
            Names of labels; ``"dataset"`` is the data set. One name alone stands for ``("dataset", name)``.

        Returns
        -------
        float64, shape (n_cells,).

        Raises
        ------
        ValueError
            When there is no label of a name. A collection without any label is weighed by data set, with a warning.
        """
        names = list(dict.fromkeys(["dataset", labels] if isinstance(labels, str) else labels))
        if not self.labels and set(names) - {"dataset"}:
            logger.warning("the collection has no labels: its cells are weighed by data set, not by %s", names)
            names = ["dataset"]
        unknown = sorted(set(names) - {"dataset", *self.labels})
        if unknown:
            msg = f"labels names {unknown}; there are {['dataset', *self.labels]}."
            raise ValueError(msg)
        group = np.zeros(len(self), dtype=np.int64)
        for name in names:
            codes = self.datasets if name == "dataset" else self.labels[name]
            values, inverse = np.unique(codes, return_inverse=True)
            group = np.unique(group * len(values) + inverse, return_inverse=True)[1]  # numbers stay below n_cells
        return (50.0 / (np.bincount(group) + 50.0))[group]

    def batch(self, rows: np.ndarray, n_tokens: int, *, generator: np.random.Generator) -> CellTokens:
        """Draw the contexts of cells, padded to `n_tokens` where a data set has fewer genes."""
        return self.batches([rows], n_tokens, generators=[generator])[0]

    def batches(
        self, rows: Sequence[np.ndarray], n_tokens: int, *, generators: Sequence[np.random.Generator]
    ) -> list[CellTokens]:
        """Several batches at once: each as :meth:`batch` gives it, but a cell on disk is read only once, in its order.

        Parameters
        ----------
        rows
            Cell numbers of each batch.
        n_tokens
            Length of the contexts.
        generators
            Source of randomness of each batch.

        Raises
        ------
        ValueError
            When cells on disk cannot be read (the message names the file).
        """
        counts, places = self.counts, list(rows)
        if isinstance(counts, FileCounts):
            wanted, place = np.unique(np.concatenate(rows), return_inverse=True)
            counts, places = counts[wanted], np.split(place, np.cumsum([len(part) for part in rows])[:-1])
        return [
            self._contexts(counts, place, part, n_tokens, generator)
            for place, part, generator in zip(places, rows, generators, strict=True)
        ]

    def _contexts(
        self, counts: sp.csr_matrix, place: np.ndarray, rows: np.ndarray, n_tokens: int, generator: np.random.Generator
    ) -> CellTokens:
        """Batch of the cells `rows`, whose counts stand in the rows `place` of `counts`."""
        genes = np.zeros((len(rows), n_tokens), dtype=np.int64)
        values = np.zeros((len(rows), n_tokens), dtype=np.float32)
        pad = np.ones((len(rows), n_tokens), dtype=bool)
        for dataset in np.unique(self.datasets[rows]):
            here = np.flatnonzero(self.datasets[rows] == dataset)
            tokens, seen = sample_context(counts, place[here], self.available[dataset], n_tokens, generator=generator)
            genes[here, : tokens.shape[1]] = tokens
            values[here, : tokens.shape[1]] = seen
            pad[here, : tokens.shape[1]] = False
        return CellTokens(
            genes_BT=torch.from_numpy(genes),
            values_BT=torch.from_numpy(values),
            totals_B=torch.from_numpy(self.totals[rows].astype(np.float32)),
            pad_BT=torch.from_numpy(pad) if pad.any() else None,
            labels={name: torch.from_numpy(codes[rows].astype(np.int64)) for name, codes in self.labels.items()},
        )
