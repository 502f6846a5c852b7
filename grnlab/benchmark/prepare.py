"""From a data set to tasks: one list of genes for every method, and the candidates of every gold standard."""

import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from grnlab.attention.prepare import expressed_enough, prepare_cells
from grnlab.benchmark.config import BenchmarkConfig
from grnlab.benchmark.datasets import ALL_CELLS, Dataset
from grnlab.benchmark.elsewhere import Elsewhere
from grnlab.benchmark.measure import Shared
from grnlab.benchmark.task import Task
from grnlab.data.groups import cell_groups
from grnlab.data.select import select_genes
from grnlab.evaluate import GoldStandard, Universe, candidate_universe

logger = logging.getLogger(__name__)
_MIN_TRUE = 10
_REGULATOR_FRACTION = 0.05
_FRACTION = 0.02  # of the cells of a group that express a gene of its network, as in infer_networks
Judged = list[tuple[GoldStandard, Universe]]


def tasks_of(
    dataset: Dataset,
    adata: ad.AnnData,
    golds: Mapping[str, GoldStandard],
    *,
    scope: str,
    model: Any,
    config: BenchmarkConfig,
    fitted: Elsewhere,
) -> Iterator[tuple[Task, Judged]]:
    """Task of each group of cells, with the gold standards that have at least ten true candidates among its genes.

    Parameters
    ----------
    dataset, adata
        What is judged, and its cells.
    golds
        Its gold standards, named as the genes of the model.
    scope
        Which of them judge.
    model
        The pretrained model; not used when the data set is an adapted one.
    config
        Settings.
    fitted
        See :class:`grnlab.benchmark.elsewhere.Elsewhere`.
    """
    factors = [gold for name, gold in golds.items() if config.golds[name].scope == "tf"]
    names, names_in_data = _genes(dataset, adata, factors, model, config)
    columns = adata.var_names.get_indexer(names_in_data)
    for group, rows in _groups(dataset, adata, config):
        cells = adata[rows]
        fraction = np.asarray((cells.X[:, columns] > 0).mean(axis=0)).ravel()
        seen = expressed_enough(pd.DataFrame({"fraction_expressed": fraction}), len(rows), _FRACTION)
        genes = tuple(names[seen])
        judged: Judged = []
        for name, gold in golds.items():
            if config.golds[name].scope != scope:
                continue
            regulators, targets = config.golds[name].candidates
            try:
                universe = candidate_universe(gold, genes, regulators=regulators, targets=targets)
            except ValueError as error:
                logger.warning("%s, %s: %s", dataset.name, group, error)
                continue
            if _MIN_TRUE <= universe.n_true < universe.n_candidates:
                judged.append((gold, universe))
        if not judged:
            continue
        shared = Shared()
        task = Task(
            dataset.name,
            group,
            cells.copy(),
            genes,
            tuple(names_in_data[seen]),
            np.unique(np.concatenate([universe.regulators for _, universe in judged])),
            np.unique(np.concatenate([universe.targets for _, universe in judged])),
            _model(dataset, cells, model, config, shared),
            dataset.adapted,
            shared,
            fitted,
            seed=config.seed + zlib.crc32(f"{dataset.name}/{group}".encode()) % 10_000,
        )
        yield task, judged


def _model(
    dataset: Dataset, cells: ad.AnnData, model: Any, config: BenchmarkConfig, shared: Shared
) -> Callable[[], Any]:
    if not dataset.adapted:
        return lambda: model

    def adapt() -> Any:
        import grnlab as gl

        plain = ad.AnnData(cells.X, obs=cells.obs, var=cells.var)
        return gl.tl.adapt(plain, max_steps=config.adapt_steps, genes="all", seed=config.seed, progress=False)

    return lambda: shared.get("adapted model", adapt)


def _genes(
    dataset: Dataset, adata: ad.AnnData, golds: list[GoldStandard], model: Any, config: BenchmarkConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Genes every method sees, by the names of the model and of the data."""
    if dataset.adapted:
        names = adata.var_names.to_numpy(dtype=object)
        return names, names
    options: dict[str, Any] = {"groupby": None, "layer": None, "min_cells": 1, "skip_small": False}
    plain = ad.AnnData(adata.X, obs=adata.obs, var=adata.var)
    whole = prepare_cells(plain, model, genes="all", **options)
    symbols = whole.genes.index.to_numpy(dtype=object)
    chosen = select_genes(whole.counts, symbols, whole.genes["is_tf"].to_numpy(), config.n_genes)
    fraction = np.asarray((whole.counts > 0).mean(axis=0)).ravel()
    regulators = {name for gold in golds for name in gold.edges["source"]}
    added = np.flatnonzero([symbol in regulators for symbol in symbols] & (fraction >= _REGULATOR_FRACTION))
    kept = np.union1d(chosen, added)
    return symbols[kept], whole.genes["name_in_data"].to_numpy(dtype=object)[kept]


def _groups(dataset: Dataset, adata: ad.AnnData, config: BenchmarkConfig) -> Iterator[tuple[str, np.ndarray]]:
    every = np.arange(adata.n_obs)
    if dataset.groupby is None:
        yield ALL_CELLS, every
        return
    groups = cell_groups(adata, dataset.groupby, min_cells=config.min_cells, skip_small=True)
    chosen = {name: rows for name, rows in groups.items() if not dataset.groups or name in dataset.groups}
    yield from chosen.items()
    if dataset.pooled and len(groups) > 1:
        yield ALL_CELLS, np.sort(np.concatenate(list(groups.values())))
