"""Evaluation: gold standards, candidate universes, metrics, and the baselines every score stands beside."""

from grnlab.evaluate.baselines import BASELINES, mean_expression, pearson, ridge_partial_correlation
from grnlab.evaluate.gold import GoldStandard
from grnlab.evaluate.gold_files import fetch_gold, read_gold
from grnlab.evaluate.metrics import Score, score_edges
from grnlab.evaluate.universe import Universe, candidate_universe

__all__ = [
    "BASELINES",
    "GoldStandard",
    "Score",
    "Universe",
    "candidate_universe",
    "fetch_gold",
    "mean_expression",
    "pearson",
    "read_gold",
    "ridge_partial_correlation",
    "score_edges",
]
