"""Batches of training cells, the same for the same seed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from grnlab.data import CellCollection, CellTokens


class CellStream(IterableDataset[CellTokens]):
    """Endless batches drawn with replacement by weight; batch number n depends on the seed and n alone.

    Parameters
    ----------
    cells
        Collection to draw from.
    rows
        Cell numbers that may be drawn.
    weights
        Weight of each of these cells.
    batch_size, n_tokens
        Size of a batch and length of a context.
    seed
        Of all draws.
    first
        Number of the first batch, to resume.
    """

    def __init__(
        self,
        cells: CellCollection,
        rows: np.ndarray,
        weights: np.ndarray,
        *,
        batch_size: int,
        n_tokens: int,
        seed: int,
        first: int = 0,
    ) -> None:
        self.cells, self.rows = cells, rows
        self.cumulative = np.cumsum(weights) / np.sum(weights)
        self.batch_size, self.n_tokens, self.seed, self.first = batch_size, n_tokens, seed, first

    def __iter__(self) -> Iterator[CellTokens]:
        number = self.first
        while True:
            yield self.draw(number)
            number += 1

    def draw(self, number: int) -> CellTokens:
        """Batch of a given number."""
        generator = np.random.default_rng([self.seed, number])
        drawn = np.searchsorted(self.cumulative, generator.random(self.batch_size), side="right")
        return self.cells.batch(self.rows[drawn.clip(max=len(self.rows) - 1)], self.n_tokens, generator=generator)


class FixedBatches(IterableDataset[CellTokens]):
    """Every cell once, in order, with the same contexts each time: for validation."""

    def __init__(self, cells: CellCollection, rows: np.ndarray, *, batch_size: int, n_tokens: int, seed: int) -> None:
        self.cells, self.rows = cells, rows
        self.batch_size, self.n_tokens, self.seed = batch_size, n_tokens, seed

    def __iter__(self) -> Iterator[CellTokens]:
        generator = np.random.default_rng(self.seed)
        for start in range(0, len(self.rows), self.batch_size):
            yield self.cells.batch(self.rows[start : start + self.batch_size], self.n_tokens, generator=generator)


def no_collate(batch: Any) -> Any:
    """The data set yields whole batches."""
    return batch


def seeded(seed: int, number: int) -> torch.Generator:
    """Torch generator of a step, the same after a restart."""
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % (1 << 63))
