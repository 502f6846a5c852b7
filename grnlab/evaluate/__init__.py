"""Evaluation: gold standards, candidate universes, metrics, and the baselines every score stands beside."""

from grnlab.evaluate.baselines import BASELINES, SLOW_BASELINES
from grnlab.evaluate.gold import GoldStandard
from grnlab.evaluate.gold_files import fetch_gold, read_gold
from grnlab.evaluate.metrics import Score, score_edges
from grnlab.evaluate.uncertainty import bootstrap_score, degree_null, score_regulators, score_universe
from grnlab.evaluate.universe import Universe, candidate_universe

__all__ = [
    "BASELINES",
    "SLOW_BASELINES",
    "GoldStandard",
    "Score",
    "Universe",
    "bootstrap_score",
    "candidate_universe",
    "degree_null",
    "fetch_gold",
    "read_gold",
    "score_edges",
    "score_regulators",
    "score_universe",
]
