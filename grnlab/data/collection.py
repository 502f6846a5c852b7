"""Cells of many files aligned to one vocabulary, to train on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch

from grnlab.data.counts import counts_of
from grnlab.data.tokens import CellTokens, sample_context
from grnlab.genes import GeneVocab, align

logger = logging.getLogger(__name__)


@dataclass
class CellCollection:
    """Counts of cells over a whole vocabulary, with the data set each cell came from.

    Attributes
    ----------
    counts
        CSR, shape (n_cells, n_vocab), float32.
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
    """

    counts: sp.csr_matrix
    datasets: np.ndarray
    names: list[str]
    available: list[np.ndarray]
    totals: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.counts.shape[0]

    def split(self, fraction: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Cell numbers for training and for validation, the latter a random `fraction`."""
        order = np.random.default_rng(seed).permutation(len(self))
        n_held_out = max(1, round(fraction * len(self)))
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])

    def sampling_weights(self, label: str) -> np.ndarray:
        """Weight 50 / (count + 50) of each cell, `count` being the cells that share its data set and label."""
        codes = self.labels.get(label, np.full(len(self), -1))
        _, inverse, count = np.unique(np.stack([self.datasets, codes]), axis=1, return_inverse=True, return_counts=True)
        return (50.0 / (count + 50.0))[inverse.ravel()]

    def batch(self, rows: np.ndarray, n_tokens: int, *, generator: np.random.Generator) -> CellTokens:
        """Draw the contexts of cells, padded to `n_tokens` where a data set has fewer genes."""
        genes = np.zeros((len(rows), n_tokens), dtype=np.int64)
        values = np.zeros((len(rows), n_tokens), dtype=np.float32)
        pad = np.ones((len(rows), n_tokens), dtype=bool)
        for dataset in np.unique(self.datasets[rows]):
            here = np.flatnonzero(self.datasets[rows] == dataset)
            tokens, counts = sample_context(
                self.counts, rows[here], self.available[dataset], n_tokens, generator=generator
            )
            genes[here, : tokens.shape[1]] = tokens
            values[here, : tokens.shape[1]] = counts
            pad[here, : tokens.shape[1]] = False
        return CellTokens(
            genes_BT=torch.from_numpy(genes),
            values_BT=torch.from_numpy(values),
            totals_B=torch.from_numpy(self.totals[rows].astype(np.float32)),
            pad_BT=torch.from_numpy(pad) if pad.any() else None,
            labels={name: torch.from_numpy(codes[rows].astype(np.int64)) for name, codes in self.labels.items()},
        )


def load_collection(
    paths: Sequence[str | Path],
    vocab: GeneVocab,
    *,
    min_genes: int = 200,
    label: Callable[[ad.AnnData], Mapping[str, np.ndarray]] | None = None,
    max_cells: int | None = None,
    seed: int = 0,
) -> CellCollection:
    """Read h5ad files of counts into memory, aligned by gene name.

    Parameters
    ----------
    paths
        Files to read.
    vocab
        Vocabulary of the model.
    min_genes
        Cells with fewer expressed genes of the vocabulary are left out.
    label
        Gives the class codes of the cells of a file, for example by reading ``obs["cell_type"]``.
    max_cells
        At most so many random cells of each file.
    seed
        For that choice.

    Raises
    ------
    ValueError
        When a file cannot be read, does not hold counts or has no cell left (the message names the file).
    """
    blocks, datasets, totals, available = [], [], [], []
    labels: dict[str, list[np.ndarray]] = {}
    rng = np.random.default_rng(seed)
    for number, path in enumerate(map(Path, paths)):
        try:
            adata = ad.read_h5ad(path)
            counts = counts_of(adata)
            found = align(adata.var_names, vocab)
        except (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            msg = f"{path}: {error}"
            raise ValueError(msg) from error
        total = np.asarray(counts.sum(axis=1)).ravel()
        spread = sp.csr_matrix(
            (np.ones(len(found.columns), dtype=np.float32), (found.columns, found.tokens)),
            shape=(counts.shape[1], len(vocab)),
        )
        aligned = sp.csr_matrix(counts @ spread)
        aligned.sort_indices()
        keep = np.flatnonzero(np.diff(aligned.indptr) >= min_genes)
        if max_cells is not None and len(keep) > max_cells:
            keep = np.sort(rng.choice(keep, max_cells, replace=False))
        logger.info("%s: %s; %d of %d cells", path.stem, found.report, len(keep), len(total))
        if len(keep) == 0:
            msg = f"{path}: no cell has {min_genes} expressed genes; lower min_genes or leave the file out."
            raise ValueError(msg)
        blocks.append(aligned[keep])
        datasets.append(np.full(len(keep), number))
        totals.append(total[keep])
        available.append(found.tokens.copy())
        for name, codes in (label(adata) if label else {}).items():
            labels.setdefault(name, []).append(np.asarray(codes)[keep])
    return CellCollection(
        counts=sp.vstack(blocks, format="csr"),
        datasets=np.concatenate(datasets),
        names=[Path(path).stem for path in paths],
        available=available,
        totals=np.concatenate(totals),
        labels={name: np.concatenate(codes) for name, codes in labels.items()},
    )
