"""From the scores of a read-out to one network per group of cells."""

import logging
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from grnlab._provenance import versions
from grnlab.attention import PairScores
from grnlab.attention.prepare import MIN_CELLS_PER_GENE, expressed_enough
from grnlab.network.network import GeneNetwork
from grnlab.network.networks import NetworkSet

logger = logging.getLogger(__name__)


def networks_from_scores(
    scores: PairScores,
    allowed: np.ndarray,
    *,
    top_k: int,
    per: str,
    regulators: str | Collection[str],
    symmetrize: bool,
    apc: bool,
    min_fraction: float,
) -> NetworkSet:
    """Strongest pairs of each group as a network; checked parameters of :func:`grnlab.network.infer.infer_networks`.

    Parameters
    ----------
    scores
        Of a read-out; symmetrised and corrected here when asked.
    allowed
        Rows of ``scores.genes`` that may regulate.
    top_k, per, regulators, symmetrize, apc, min_fraction
        As there.
    """
    if symmetrize:
        scores = scores.symmetrised()
    if apc:
        scores = scores.apc()
    settings = {
        "top_k": top_k,
        "per": per,
        "regulators": regulators if isinstance(regulators, str) else sorted({str(name) for name in regulators}),
        "symmetrize": symmetrize,
        "apc": apc,
        "min_fraction": min_fraction,
        "min_cells_per_gene": MIN_CELLS_PER_GENE,
        "weight": f"strength of the read-out {scores.method!r}",
        "versions": versions(),
    }
    provenance = {**scores.provenance, **settings}
    networks = [
        _network(scores, group, allowed, top_k, per, min_fraction=min_fraction, provenance=provenance)
        for group in scores.groups
    ]
    return NetworkSet(networks, provenance=provenance)


def _network(
    scores: PairScores,
    group: str,
    allowed: np.ndarray,
    top_k: int,
    per: str,
    *,
    min_fraction: float,
    provenance: dict[str, Any],
) -> GeneNetwork:
    strength_RT = scores.strength(group)
    enough = np.ones(len(scores.genes), dtype=bool)
    if group in scores.expression:
        expression = scores.expression[group]
        n_cells = scores.provenance.get("cells_per_group", scores.n_cells)[group]
        enough = expressed_enough(expression, n_cells, min_fraction)
    rows = np.isin(scores.regulators, allowed) & enough[scores.regulators]
    strength_RT[~rows] = np.nan
    strength_RT[:, ~enough[scores.targets]] = np.nan
    row, column = _strongest(strength_RT.T, top_k)[::-1] if per == "target" else _strongest(strength_RT, top_k)
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
