"""Attention of cells that are read from disk a chunk at a time: memory does not grow with their number.

Cells are cut into a fixed grid of chunks. The sums of a chunk do not depend on who computes them, and are added in
float64, so that one process, several, and a run that was stopped and went on find the same to the last digit or two.
"""

import hashlib
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import anndata as ad
import numpy as np
import scipy.sparse as sp

from grnlab._progress import progress
from grnlab._provenance import weights_identity
from grnlab.attention.maps import AttentionMaps
from grnlab.attention.pool import CONTEXTS, READOUT_OF_MAPS, pool_queries_keys
from grnlab.attention.prepare import check_backbone, described, expression_table, gene_table
from grnlab.attention.ranks import Ranks
from grnlab.attention.sums import GroupSums, SumsFile
from grnlab.backbones.base import Backbone
from grnlab.data.groups import groups_of
from grnlab.data.names import align_genes
from grnlab.data.select import select_streamed
from grnlab.data.source import CellSource
from grnlab.genes import Alignment

logger = logging.getLogger(__name__)
CHUNK_CELLS = 2_048  # in memory at once, and lost at most when a process is killed


@dataclass(frozen=True)
class StreamPlan:
    """What is read of the data before the model runs, but for the genes; a context manager that closes the file.

    Attributes
    ----------
    source
        The cells.
    found
        Their genes in the vocabulary.
    groups
        Names of the groups → numbers of their cells.
    group_of_cell
        Number of the group of each cell, -1 for none.
    """

    source: CellSource
    found: Alignment
    groups: dict[str, np.ndarray]
    group_of_cell: np.ndarray

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.source.close()

    @property
    def n_chunks(self) -> int:
        """Chunks of the grid."""
        return -(-self.source.n_cells // CHUNK_CELLS)

    def chunk(self, number: int) -> tuple[int, int]:
        """First cell of a chunk, and the first after it."""
        return number * CHUNK_CELLS, min((number + 1) * CHUNK_CELLS, self.source.n_cells)


def make_plan(
    data: ad.AnnData | str | Path,
    model: Backbone,
    *,
    groupby: str | None,
    layer: str | None,
    min_cells: int,
    skip_small: bool,
) -> StreamPlan:
    """Open the data, align its genes and form the groups; parameters as in :func:`grnlab.tl.attention`."""
    check_backbone(model)
    source = CellSource(data, layer=layer)
    try:
        found = align_genes(source.var, model.vocab)
        logger.info("%s", found.report)
        groups = groups_of(source.obs(groupby), groupby, min_cells=min_cells, skip_small=skip_small)
    except BaseException:
        source.close()
        raise
    group_of_cell = np.full(source.n_cells, -1, dtype=np.int32)
    for number, cells in enumerate(groups.values()):
        group_of_cell[cells] = number
    return StreamPlan(source, found, groups, group_of_cell)


def stream_attention(
    plan: StreamPlan,
    model: Backbone,
    *,
    genes: int | str | Collection[str],
    context: str,
    groupby: str | None,
    state: str | Path | None,
) -> AttentionMaps:
    """Run a model over the cells of a plan; parameters as in :func:`grnlab.tl.attention`."""
    if context not in CONTEXTS:
        msg = f"context={context!r} is unknown; choose one of {CONTEXTS}."
        raise ValueError(msg)
    ranks, whole = Ranks(), getattr(model, "whole_cells", False)
    mine = range(ranks.number, plan.n_chunks, ranks.count)
    identity = {} if state is None else _identity(plan, model, genes=genes, context=context, groupby=groupby)
    file = SumsFile(state, identity, ranks)
    kept = file.load()
    if ranks.all_true(kept is not None):
        assert kept is not None
        chosen, n_done, sums = kept
    else:
        chosen = choose_genes(plan, model, genes, mine, ranks)
        n_kept = len(chosen), len(plan.found.tokens) if whole else len(chosen)
        n_done, sums = 0, [GroupSums.empty(model.attention, *n_kept) for _ in plan.groups]
        file.keep(chosen, n_done, sums)
    shown = np.arange(len(plan.found.tokens)) if whole else chosen
    keep = chosen if len(chosen) < len(shown) else None
    names = list(plan.groups)
    with bar_of(plan, mine, "attention", ranks, n_done=n_done) as bar:
        for place, number in enumerate(mine):
            if place < n_done:
                continue
            for group, counts, totals in read_chunk(plan, number, shown):
                maps = pool_queries_keys(
                    *(model, counts, plan.found.tokens[shown], totals),
                    name=names[group],
                    context=context,
                    keep=keep,
                    on_batch=bar.update,
                )
                sums[group].add(maps, counts, totals)
            file.keep(chosen, place + 1, sums, last=place + 1 == len(mine))
    return _maps(plan, model, (chosen, shown), sums, ranks, groupby=groupby, context=context)


def choose_genes(
    plan: StreamPlan, model: Backbone, genes: int | str | Collection[str], mine: range, ranks: Ranks
) -> np.ndarray:
    """Look through the counts once, or twice for variable genes; numbers of the genes among those the model knows."""
    n_columns, columns = plan.source.shape[1], plan.found.columns
    cells_with = np.zeros(n_columns, dtype=np.int64)
    with bar_of(plan, mine, "genes", ranks) as bar:
        for first, block in _blocks(plan, mine):
            totals = np.diff(block.indptr)
            if (totals == 0).any():
                _refuse_empty(plan.source, first, totals)
            cells_with += np.bincount(block.indices, minlength=n_columns)
            bar.update(block.shape[0])
    cells_with = ranks.add(cells_with)[columns]

    def aligned() -> Iterator[sp.csr_matrix]:
        for _, block in _blocks(plan, mine):
            yield _columns(block, columns)

    symbols, is_tf = model.vocab.symbols[plan.found.tokens], model.vocab.is_tf[plan.found.tokens]
    n_cells = plan.source.n_cells
    return select_streamed(aligned, cells_with, symbols, is_tf, genes, n_cells=n_cells, add=ranks.add)


def read_chunk(plan: StreamPlan, number: int, shown: np.ndarray) -> list[tuple[int, sp.csr_matrix, np.ndarray]]:
    """Group number, counts of the genes shown and total counts of the cells of each group in a chunk."""
    columns, first = plan.found.columns[shown], plan.chunk(number)[0]
    blocks, totals = [], []
    for start, block in plan.source.blocks(*plan.chunk(number)):
        totals.append(np.asarray(block.sum(axis=1)).ravel())
        if (totals[-1] == 0).any():
            _refuse_empty(plan.source, start, totals[-1])
        blocks.append(_columns(block, columns))
    counts, all_totals = sp.vstack(blocks, format="csr"), np.concatenate(totals)
    group_of_cell = plan.group_of_cell[first : first + counts.shape[0]]
    present = np.unique(group_of_cell[group_of_cell >= 0])
    if len(present) == 1 and (group_of_cell >= 0).all():
        return [(int(present[0]), counts, all_totals)]
    cells = [np.flatnonzero(group_of_cell == group) for group in present]
    return [(int(group), counts[rows], all_totals[rows]) for group, rows in zip(present, cells, strict=True)]


def _columns(block: sp.csr_matrix, columns: np.ndarray) -> sp.csr_matrix:
    chosen = sp.csr_matrix(block[:, columns])
    chosen.sort_indices()  # the order of the columns in the file must not show in any sum
    return chosen


def _blocks(plan: StreamPlan, mine: range) -> Iterator[tuple[int, sp.csr_matrix]]:
    for number in mine:
        yield from plan.source.blocks(*plan.chunk(number))


def _refuse_empty(source: CellSource, first: int, totals: np.ndarray) -> None:
    empty = np.flatnonzero(totals == 0)
    n_empty = f"{'' if len(totals) == source.n_cells else 'at least '}{len(empty)}"
    msg = (
        f"{n_empty} cells have no counts, the first is {source.cell_name(first + int(empty[0]))!r}; "
        "remove them with scanpy.pp.filter_cells(adata, min_counts=1)."
    )
    raise ValueError(msg)


def bar_of(plan: StreamPlan, mine: range, what: str, ranks: Ranks, *, n_done: int = 0) -> Any:
    """Progress over the cells of this process, from those that were done before."""
    sizes = [stop - start for start, stop in map(plan.chunk, mine)]
    if ranks.count > 1:
        what = f"{what}, process {ranks.number + 1} of {ranks.count}"
    return progress(total=sum(sizes), desc=what, unit="cell", initial=sum(sizes[:n_done]), position=ranks.number)


def _identity(
    plan: StreamPlan, model: Backbone, *, genes: int | str | Collection[str], context: str, groupby: str | None
) -> dict[str, Any]:
    named = isinstance(genes, int | float | np.number | str)
    return {
        "data": {
            "name": plan.source.name,
            "content": plan.source.identity(),
            "layer": plan.source.layer or "X",
            "n_cells": plan.source.n_cells,
            "genes": _hash(np.concatenate([plan.found.columns, plan.found.tokens])),
        },
        "model": {
            "name": model.name,
            "weights": weights_identity(model),
            "vocabulary": model.vocab.hash,
        },
        "settings": {
            "groupby": groupby or "",
            "cells of the groups": {name: _hash(cells) for name, cells in plan.groups.items()},
            "genes": str(genes) if named else hashlib.sha256("\n".join(sorted(map(str, genes))).encode()).hexdigest(),  # type: ignore[arg-type]
            "context": context,
            "cells of a chunk": CHUNK_CELLS,
        },
    }


def _hash(numbers: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers, dtype=np.int64).tobytes()).hexdigest()[:16]


def _maps(
    plan: StreamPlan,
    model: Backbone,
    genes: tuple[np.ndarray, np.ndarray],
    sums: list[GroupSums],
    ranks: Ranks,
    *,
    groupby: str | None,
    context: str,
) -> AttentionMaps:
    (chosen, shown), found = genes, plan.found
    table = gene_table(
        model.vocab, found.tokens[chosen], plan.source.var.var_names.to_numpy(dtype=object)[found.columns[chosen]]
    )
    inside, groups, expression = np.isin(shown, chosen), {}, {}
    for name in plan.groups:
        groups[name], mean_counts, fraction = sums.pop(0).merged(name, ranks)
        expression[name] = expression_table(mean_counts[inside], fraction[inside], table.index)
    provenance = described(model, str(found.report), groupby, plan.groups) | {
        "n_genes_shown": len(shown),
        "context": context,
        "readout": READOUT_OF_MAPS[model.attention.kind],
        "seed": "none: nothing here is random",
    }
    return AttentionMaps(table, groups, model.attention, expression, provenance)
