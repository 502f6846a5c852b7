"""The translator as a method of the benchmark: fitted on other cells by a gold standard that does not judge.

Features are read-outs that need no labels and the expression of both genes; single heads and which gene it is are none.
"""

from collections.abc import Collection
from dataclasses import replace
from functools import partial

import anndata as ad
import numpy as np

from grnlab.attention import AttentionMaps, PairScores
from grnlab.backbones.base import Backbone
from grnlab.benchmark.task import Task
from grnlab.evaluate import GoldStandard
from grnlab.heads import PairFeatures, Translator, combine_scores, fit_translator, pair_features

FEATURES = {
    "translator": ("attention", "cosine_centred", "consensus"),
    "translator_consensus": ("consensus",),
}
"""Method → read-outs that are features beside the expression of both genes."""


def fit_for(task: Task, method: str) -> Translator:
    """Translator of the training cells, for the gold standard that judges a task.

    Parameters
    ----------
    task
        One of a method that runs per gold standard.
    method
        One of :data:`FEATURES`.
    """
    found: Translator = task.learned(_LEARN[method])
    return found


def translate(task: Task, method: str) -> PairScores:
    """Scores of the regulators of a task × its genes; parameters as in :func:`fit_for`."""
    regulators = [task.genes[number] for number in task.regulators]
    features = pairs_of(task.cells, task.model(), task.maps(), regulators, of=FEATURES[method])
    return fit_for(task, method).predict(features)


def pairs_of(
    cells: ad.AnnData,
    model: Backbone,
    maps: AttentionMaps,
    regulators: Collection[str],
    *,
    of: Collection[str],
    groupby: str | None = None,
) -> PairFeatures:
    """Features of regulators × all genes of attention maps.

    Parameters
    ----------
    cells, model, maps
        Counts, and the maps the model made of them.
    regulators
        Names; those the maps lack are left out.
    of
        Read-outs, ``"attention"``, ``"cosine_centred"`` and ``"consensus"``.
    groupby
        The column of ``cells.obs`` the maps were grouped by.
    """
    import grnlab as gl

    if groupby is not None:
        cells = cells[cells.obs[groupby].isin(list(maps.groups))]
    known = set(regulators)
    cosine = gl.tl.read_out(
        cells,
        model,
        "cosine_centred",
        groupby=groupby,
        genes=list(maps.genes.index),
        regulators=[name for name in maps.genes.index if name in known],
        max_cells=None,
        min_cells=1,
    )
    heads = replace(cosine, groups={name: _attention(maps, name, cosine) for name in maps.groups}, method="attention")
    found = [heads, cosine, replace(combine_scores([heads, cosine]), method="consensus")]
    return pair_features([one for one in found if one.method in of], regulators=known)


def _attention(maps: AttentionMaps, group: str, like: PairScores) -> np.ndarray:
    """Symmetrised mean of the heads over the pairs of other scores, NaN where those are."""
    rows = np.flatnonzero(maps.group(group).count_G.numpy() > 0)
    place = np.full(len(maps.genes), -1)
    place[rows] = np.arange(len(rows))
    regulators, targets = (
        place[maps.genes.index.get_indexer(like.genes.index[numbers])] for numbers in (like.regulators, like.targets)
    )
    found = maps.dense(group, rows=rows, symmetrize=True)[np.ix_(targets, regulators)].T.copy()
    found[(regulators[:, None] < 0) | (targets < 0) | np.isnan(like.group(group))] = np.nan
    return found


def _fit(
    cells: ad.AnnData, model: Backbone, maps: AttentionMaps, gold: GoldStandard, *, of: Collection[str]
) -> Translator:
    features = pairs_of(cells, model, maps, set(gold.edges["source"]), of=of, groupby="cell_type")
    return fit_translator({"training cells": (features, gold)})


_LEARN = {name: partial(_fit, of=of) for name, of in FEATURES.items()}
