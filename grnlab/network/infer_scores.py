"""From the scores of a read-out to one network per group of cells."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from grnlab._provenance import versions
from grnlab.attention import PairScores
from grnlab.attention.prepare import expressed_enough
from grnlab.network.network import GeneNetwork
from grnlab.network.networks import NetworkSet
from grnlab.network.rules import EdgeRules

logger = logging.getLogger(__name__)


def networks_from_scores(scores: PairScores, rules: EdgeRules) -> NetworkSet:
    """Strongest pairs of each group as a network; scores are symmetrised and corrected here when asked."""
    rules = replace(rules, symmetrize=bool(rules.symmetrize))
    allowed = rules.allowed(scores.genes)
    if rules.symmetrize:
        scores = scores.symmetrised()
    if rules.apc:
        scores = scores.apc()
    settings = rules.to_dict() | {"weight": f"strength of the read-out {scores.method!r}", "versions": versions()}
    provenance = {**scores.provenance, **settings}
    networks = [_network(scores, group, allowed, rules, provenance) for group in scores.groups]
    return NetworkSet(networks, provenance=provenance)


def _network(
    scores: PairScores, group: str, allowed: np.ndarray, rules: EdgeRules, provenance: dict[str, Any]
) -> GeneNetwork:
    strength_RT = scores.strength(group)
    enough = np.ones(len(scores.genes), dtype=bool)
    if group in scores.expression:
        expression = scores.expression[group]
        n_cells = scores.provenance.get("cells_per_group", scores.n_cells)[group]
        enough = expressed_enough(expression, n_cells, rules.min_fraction)
    rows = np.isin(scores.regulators, allowed) & enough[scores.regulators]
    strength_RT[~rows] = np.nan
    strength_RT[:, ~enough[scores.targets]] = np.nan
    if rules.per == "target":
        column, row = _strongest(strength_RT.T, rules.top_k)
    else:
        row, column = _strongest(strength_RT, rules.top_k)
    seen = np.union1d(
        scores.regulators[~np.isnan(strength_RT).all(axis=1)], scores.targets[~np.isnan(strength_RT).all(axis=0)]
    )
    genes = scores.genes.iloc[seen].drop(columns="token", errors="ignore")
    if group in scores.expression:
        genes = genes.join(scores.expression[group])
    names = scores.genes.index
    edges = pd.DataFrame(
        {
            "source": names[scores.regulators[row]],
            "target": names[scores.targets[column]],
            "weight": strength_RT[row, column].astype(np.float64),
        }
    )
    if scores.signed:
        edges["sign"] = np.sign(scores.group(group)[row, column]).astype(np.int64)
    if len(edges) == 0:
        logger.warning("the network of %s has no edge: none of its pairs has a strength above 0", group)
    return GeneNetwork(
        edges,
        genes,
        name=group,
        provenance={**provenance, "n_cells": scores.n_cells[group], "n_genes": len(seen)},
    )


def _strongest(strength: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the `top_k` strongest of each row, only those above 0; ties by the earlier column."""
    ranked = np.argsort(-np.nan_to_num(strength, nan=-np.inf), axis=1, kind="stable")[:, :top_k]
    row = np.repeat(np.arange(len(strength)), ranked.shape[1])
    column = ranked.ravel()
    keep = strength[row, column] > 0  # NaN is not
    return row[keep], column[keep]
