"""Batches of training cells, the same for the same seed, whoever draws them."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch.utils.data import IterableDataset, get_worker_info

from grnlab.data import CellCollection, CellTokens
from grnlab.objectives import Objective

_READ_AHEAD = 16  # batches that are read at once from files: each file is then opened and sought through less often


class Batch(NamedTuple):
    """A batch of cells before and after the corruptions of all objectives.

    Attributes
    ----------
    number
        Number of the batch in its stream.
    rows
        Cell numbers in the collection.
    target, seen
        The cells, and what the model may see of them.
    """

    number: int
    rows: np.ndarray
    target: CellTokens
    seen: CellTokens

    def to(self, device: torch.device) -> "Batch":
        """Move the cells to a device."""
        return self._replace(target=self.target.to(device), seen=self.seen.to(device))


class _Batches(IterableDataset[Batch]):
    """Batches of a collection by number; every random choice depends on the seed and the number alone.

    A subclass says which cells are in a batch (:meth:`rows_of`) and which batches there are (:meth:`numbers`).
    """

    def __init__(
        self,
        cells: CellCollection,
        rows: np.ndarray,
        *,
        objectives: Sequence[Objective],
        batch_size: int,
        n_tokens: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.cells, self.rows, self.objectives = cells, rows, objectives
        self.batch_size, self.n_tokens, self.seed = batch_size, n_tokens, seed
        self.rank, self.world_size = rank, world_size
        self.read_ahead = 1 if sp.issparse(cells.counts) else _READ_AHEAD

    def numbers(self) -> Iterator[int]:
        """Numbers of the batches of this process, in order."""
        raise NotImplementedError

    def rows_of(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Cells of a batch."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Batch]:
        numbers, worker = self.numbers(), get_worker_info()
        if worker is not None:  # the loader takes one batch of each worker in turn
            numbers = islice(numbers, worker.id, None, worker.num_workers)
        while ahead := list(islice(numbers, self.read_ahead)):
            yield from self.draw(*ahead)

    def draw(self, *numbers: int) -> list[Batch]:
        """Batches of given numbers."""
        generators = [np.random.default_rng([self.seed, number]) for number in numbers]
        rows = [self.rows_of(number, generator) for number, generator in zip(numbers, generators, strict=True)]
        targets = self.cells.batches(rows, self.n_tokens, generators=generators)
        return [
            Batch(number, of_batch, target, self._corrupt(target, number))
            for number, of_batch, target in zip(numbers, rows, targets, strict=True)
        ]

    def _corrupt(self, tokens: CellTokens, number: int) -> CellTokens:
        generator = seeded(self.seed, number)
        for objective in self.objectives:
            tokens = objective.corrupt(tokens, generator=generator)
        return tokens


class CellStream(_Batches):
    """Endless batches drawn with replacement by weight; batch number n depends on the seed and n alone.

    Of the batches of each optimizer step, a process draws its share.

    Parameters
    ----------
    cells
        Collection to draw from.
    rows
        Cell numbers that may be drawn.
    weights
        Weight of each of these cells.
    objectives
        Their corruptions are applied one after the other.
    batch_size, n_tokens
        Size of a batch and length of a context.
    seed
        Of all draws.
    rank, world_size
        Number of this process, and of processes.
    first_step
        Step to begin with, to resume.
    accumulate
        Batches of a step over all processes, a multiple of `world_size`.
    """

    def __init__(
        self,
        cells: CellCollection,
        rows: np.ndarray,
        weights: np.ndarray,
        *,
        first_step: int = 0,
        accumulate: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(cells, rows, **options)
        self.cumulative = np.cumsum(weights) / np.sum(weights)
        self.first_step, self.accumulate = first_step, accumulate

    def numbers(self) -> Iterator[int]:
        """For each step, the share of this process."""
        share = self.accumulate // self.world_size
        for step in count(self.first_step):
            first = step * self.accumulate + self.rank * share
            yield from range(first, first + share)

    def rows_of(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Draw cells."""
        drawn = np.searchsorted(self.cumulative, generator.random(self.batch_size), side="right")
        return self.rows[drawn.clip(max=len(self.rows) - 1)]


class FixedBatches(_Batches):
    """Every cell once, in order, with the same contexts and corruptions each time: for validation.

    Parameters are those of :class:`CellStream`. Every process gets equally many batches, since a model whose parts are
    spread over processes needs all of them at once: batches from number `n_batches` on repeat the first ones.
    """

    @property
    def n_batches(self) -> int:
        """Number of batches that hold all cells."""
        return -(-len(self.rows) // self.batch_size)

    def numbers(self) -> Iterator[int]:
        """Each process takes every `world_size`-th batch."""
        return iter(range(self.rank, -(-self.n_batches // self.world_size) * self.world_size, self.world_size))

    def rows_of(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Cells of a batch."""
        first = number % self.n_batches * self.batch_size
        return self.rows[first : first + self.batch_size]


def no_collate(batch: Any) -> Any:
    """The data set yields whole batches."""
    return batch


def seeded(seed: int, number: int) -> torch.Generator:
    """Torch generator of the corruptions of a batch, the same after a restart."""
    return torch.Generator().manual_seed(_mixed(seed, number, 0))


def seed_dropout(seed: int, number: int, device: torch.device) -> None:
    """Seed what the model draws while it reads a batch: the same after a restart, in every process."""
    mixed = _mixed(seed, number, 1)
    # not torch.manual_seed: for a device that is not in use that keeps every seed and the stack it came from
    torch.default_generator.manual_seed(mixed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(mixed)


def _mixed(seed: int, number: int, use: int) -> int:
    """Seed of 32 bits, which is all that torch's CPU generator takes of one."""
    return int(np.random.SeedSequence([seed, number, use]).generate_state(1)[0])
