"""What a run over cells on disk will need, measured on a few of them, before anyone waits for it."""

import sys
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from grnlab.attention import stream
from grnlab.attention.pool import pool_queries_keys
from grnlab.attention.ranks import Ranks
from grnlab.backbones.base import Backbone

_SAMPLE_SECONDS = 20.0  # the model runs on as many cells as it takes this long for, at most a chunk
_SAMPLE_CHUNKS = 6  # whose counts are looked through
_FIRST_CELLS = 8
_PROGRAM_BYTES = 600 << 20  # PyTorch and scanpy, where the system does not tell what a process takes


@dataclass(frozen=True)
class AttentionNeeds:
    """Needs of a run over cells on disk.

    Attributes
    ----------
    n_cells, n_groups, n_genes
        What would be read.
    reading_s, model_s
        Seconds to look through the counts and choose genes, and to run the model, with one process.
    memory_bytes
        Peak of one process, whatever the number of cells.
    state_bytes
        On disk, for a run that can go on after it was stopped; of each process.
    n_measured
        Cells the model was run on for this estimate.
    processes
        Processes that share the cells.
    """

    n_cells: int
    n_groups: int
    n_genes: int
    reading_s: float
    model_s: float
    memory_bytes: int
    state_bytes: int
    n_measured: int
    processes: int = 1

    def __str__(self) -> str:
        each = f" with {self.processes} processes" if self.processes > 1 else ""
        seconds = (self.reading_s + self.model_s) / self.processes
        return (
            f"{self.n_cells:,} cells in {self.n_groups} groups, {self.n_genes:,} genes\n"
            f"about {_clock(seconds)}{each}: {_clock(self.reading_s / self.processes)} to choose genes, "
            f"{_clock(self.model_s / self.processes)} for the model (measured on {self.n_measured:,} cells)\n"
            f"memory per process: {self.memory_bytes / 1e9:.2f} GB, whatever the number of cells; "
            f"{self.state_bytes / 1e6:,.0f} MB on disk for a state"
        )


def measure_needs(
    plan: stream.StreamPlan, model: Backbone, *, genes: int | str | Collection[str], context: str
) -> AttentionNeeds:
    """Run a model on some cells in the middle of the data, and scale; parameters as in :func:`grnlab.tl.attention`.

    Genes are chosen on these cells alone, so that the run may show the model a few others.
    """
    grouped = np.flatnonzero(np.add.reduceat(plan.group_of_cell >= 0, np.arange(plan.n_chunks) * stream.CHUNK_CELLS))
    middle = int(grouped[len(grouped) // 2])
    sample = range(middle, min(middle + _SAMPLE_CHUNKS, plan.n_chunks))
    chosen, choosing = _choose(plan, model, genes, sample)
    whole = getattr(model, "whole_cells", False)
    shown = np.arange(len(plan.found.tokens)) if whole else chosen
    keep = chosen if len(chosen) < len(shown) else None
    started = time.perf_counter()
    parts = stream.read_chunk(plan, middle, shown)
    reading = choosing + (time.perf_counter() - started) * plan.n_chunks
    counts, totals = sp.vstack([part[1] for part in parts], format="csr"), np.concatenate([part[2] for part in parts])
    mixed = np.random.default_rng(0).permutation(len(totals))  # cells of every group among the first
    counts, totals = counts[mixed], totals[mixed]

    def seconds(rows: slice) -> float:
        began = time.perf_counter()
        pool_queries_keys(model, counts[rows], plan.found.tokens[shown], totals[rows], context=context, keep=keep)
        return time.perf_counter() - began

    seconds(slice(0, _FIRST_CELLS))  # the first call is slower
    first_s = seconds(slice(0, _FIRST_CELLS)) / min(_FIRST_CELLS, len(totals))
    n_measured = int(min(len(totals), max(4 * _FIRST_CELLS, _SAMPLE_SECONDS / max(first_s, 1e-9))))
    per_cell = seconds(slice(0, n_measured)) / n_measured
    spec = model.attention
    numbers = 2 * spec.n_layers * spec.n_heads * spec.d_head * len(chosen) * len(plan.groups)
    chunk = 3 * 12 * counts.nnz  # read, joined, and split into groups
    return AttentionNeeds(
        n_cells=int((plan.group_of_cell >= 0).sum()),
        n_groups=len(plan.groups),
        n_genes=len(chosen),
        reading_s=reading,
        model_s=per_cell * int((plan.group_of_cell >= 0).sum()),
        memory_bytes=_peak_bytes() + 8 * numbers + 4 * numbers + chunk,
        state_bytes=8 * numbers,
        n_measured=n_measured,
        processes=Ranks().count,
    )


def _choose(
    plan: stream.StreamPlan, model: Backbone, genes: int | str | Collection[str], sample: range
) -> tuple[np.ndarray, float]:
    """Genes chosen on some chunks, and the seconds it would take on all: what each adds, and what is done once."""

    def choose(chunks: range) -> tuple[np.ndarray, float]:
        began = time.perf_counter()
        chosen = stream.choose_genes(plan, model, genes, chunks, Ranks(alone=True))
        return chosen, time.perf_counter() - began

    choose(sample[:1])  # the first call is slower, by what it imports
    once = choose(sample[:1])[1]
    chosen, several = choose(sample)
    each = max(several - once, 0.0) / (len(sample) - 1) if len(sample) > 1 else once
    return chosen, once + each * (plan.n_chunks - 1)


def _peak_bytes() -> int:
    """Most memory this process has held so far; it has run the model on a part of a chunk by now."""
    if sys.platform == "win32":
        return _PROGRAM_BYTES
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
