"""Scores of the pairs of genes of one group of cells: a mean over its cells, or from its pooled maps.

Shape suffixes: R regulators, T targets, G genes, M model dimension.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import scipy.sparse as sp
import torch

from grnlab.attention import cell_maps, responses
from grnlab.attention.cell import Block, Cell, cells_of
from grnlab.attention.config import ReadOutConfig
from grnlab.attention.maps import AttentionMaps
from grnlab.attention.pair_scores import unit_ranks
from grnlab.attention.pool import pool_queries_keys
from grnlab.attention.prepare import PreparedCells
from grnlab.backbones.base import Backbone

_POOLED = {  # name → symmetrize, apc
    "attention": (True, False),
    "attention_directed": (False, False),
    "attention_apc": (True, True),
}
_PER_CELL: dict[str, Callable[..., Iterator[Block]]] = {
    "attention_cells": cell_maps.attention_cells,
    "value_norm": cell_maps.value_norm,
    "attention_gradient": cell_maps.attention_gradient,
    "integrated_gradients": responses.integrated_gradients,
    "jacobian": responses.jacobian,
    "perturbation": responses.perturbation,
}


@dataclass(frozen=True)
class Pairs:
    """Rows of the table of genes that regulate, and that are targets."""

    regulators: np.ndarray
    targets: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Of the scores."""
        return len(self.regulators), len(self.targets)


@dataclass(frozen=True)
class GroupCells:
    """The cells of one group that are read.

    Attributes
    ----------
    model, cells, context, seed
        As given to the read-out.
    name, rows
        Name of the group and numbers of its cells.
    enough_G
        True for the genes that are scored.
    on_cells
        Called with the number of cells done.
    """

    model: Backbone
    cells: PreparedCells
    name: str
    rows: np.ndarray
    enough_G: np.ndarray
    context: str
    seed: int
    on_cells: Callable[[int], None]

    @property
    def counts(self) -> sp.csr_matrix:
        """Counts of these cells."""
        return self.cells.counts[self.rows]


def score_group(group: GroupCells, pairs: Pairs, method: str, config: ReadOutConfig) -> np.ndarray:
    """Scores of shape (R, T), NaN where never observed.

    Parameters
    ----------
    group, pairs
        What is read and scored.
    method, config
        As in :func:`grnlab.tl.read_out`.
    """
    if method in _POOLED:
        symmetrize, apc = _POOLED[method]
        return _pooled(group, pairs, symmetrize=symmetrize, apc=apc)
    if method in ("cosine", "cosine_centred"):
        group.on_cells(len(group.rows))
        return _cosine(group, pairs, centred=method == "cosine_centred")
    if method == "consensus":
        members = _pooled(group, pairs, symmetrize=True, apc=False), _cosine(group, pairs, centred=True)
        return _mean_rank(members, apart=pairs.regulators[:, None] != pairs.targets)
    return _mean_over_cells(group, pairs, method, config)


def _pooled(group: GroupCells, pairs: Pairs, *, symmetrize: bool, apc: bool) -> np.ndarray:
    model, cells = group.model, group.cells
    kept = np.flatnonzero(group.enough_G)
    pooled = pool_queries_keys(
        *(model, group.counts, cells.tokens, cells.totals[group.rows]),
        context=group.context,
        keep=kept,
        on_batch=group.on_cells,
    )
    maps = AttentionMaps(cells.genes.iloc[kept], {"all": pooled}, model.attention)
    seen = np.flatnonzero(pooled.count_G.numpy() > 0)
    rows = kept[seen]
    scores = np.full(pairs.shape, np.nan, dtype=np.float32)
    if len(rows) < 2:
        return scores
    row_of, column_of = (_place(genes, len(cells.genes))[rows] for genes in (pairs.regulators, pairs.targets))
    regulators = np.flatnonzero(row_of >= 0)
    for start, panel in maps.tiles("all", rows=seen, symmetrize=symmetrize, apc=apc):  # a panel has targets as rows
        targets = np.flatnonzero(column_of[start : start + len(panel)] >= 0)
        block = panel.numpy()[np.ix_(targets, regulators)]
        scores[np.ix_(row_of[regulators], column_of[start + targets])] = block.T
    return scores


def _cosine(group: GroupCells, pairs: Pairs, *, centred: bool) -> np.ndarray:
    tokens = torch.as_tensor(group.cells.tokens)
    weight = group.model.gene_embedding.weight.detach().cpu()  # type: ignore[attr-defined]
    unit_GM = torch.nn.functional.normalize(weight[tokens].float(), dim=-1).numpy()
    if centred:  # equals centring rows and columns of the matrix of cosines
        unit_GM = unit_GM - unit_GM[group.enough_G].mean(axis=0)
    scores = unit_GM[pairs.regulators] @ unit_GM[pairs.targets].T
    scores[~group.enough_G[pairs.regulators]] = np.nan
    scores[:, ~group.enough_G[pairs.targets]] = np.nan
    return scores


def _mean_rank(members: tuple[np.ndarray, ...], *, apart: np.ndarray) -> np.ndarray:
    """Mean over the members of the rank of a pair, between 0 and 1; NaN where one has not observed it."""
    seen = apart & ~np.isnan(members).any(axis=0)
    return np.mean([unit_ranks(np.where(seen, scores, np.nan)) for scores in members], axis=0)


def _mean_over_cells(group: GroupCells, pairs: Pairs, method: str, config: ReadOutConfig) -> np.ndarray:
    score, counts = _PER_CELL[method], group.counts
    if method == "perturbation":
        score = partial(score, levels=cache(partial(_levels, counts.tocsc(), config.quantiles)))
    total_RT, seen_RT = np.zeros(pairs.shape), np.zeros(pairs.shape, dtype=np.int32)
    row_of, column_of = (_place(genes, counts.shape[1]) for genes in (pairs.regulators, pairs.targets))
    for cell in _cells(group, counts, pairs):
        for regulators, targets, block_RT in score(group.model, cell, config):
            where = np.ix_(row_of[cell.genes_T[regulators]], column_of[cell.genes_T[targets]])
            total_RT[where] += block_RT
            seen_RT[where] += 1
        group.on_cells(1)
    return np.divide(total_RT, seen_RT, out=np.full(pairs.shape, np.nan), where=seen_RT > 0)


def _cells(group: GroupCells, counts: sp.csr_matrix, pairs: Pairs) -> Iterable[Cell]:
    scored = np.flatnonzero(group.enough_G)
    return cells_of(
        group.model,
        counts,
        group.cells.tokens,
        group.cells.totals[group.rows],
        regulators=np.intersect1d(pairs.regulators, scored),
        targets=np.intersect1d(pairs.targets, scored),
        context=group.context,
        seed=(group.seed, group.name),
    )


def _levels(counts: sp.csc_matrix, quantiles: tuple[float, ...], gene: int) -> np.ndarray:
    """Counts a gene is set to: 0 and quantiles of its positive counts, without repeats."""
    values = counts.data[counts.indptr[gene] : counts.indptr[gene + 1]]
    values = values[values > 0]
    return np.unique([0.0, *(np.quantile(values, quantiles) if len(values) else [1.0])])


def _place(genes: np.ndarray, n_genes: int) -> np.ndarray:
    place = np.full(n_genes, -1, dtype=np.int64)
    place[genes] = np.arange(len(genes))
    return place
