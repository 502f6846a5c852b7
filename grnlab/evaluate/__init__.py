"""Evaluation: gold standards, candidate universes, metrics, and the baselines every score stands beside."""

from grnlab.evaluate.baselines import BASELINES, SLOW_BASELINES
from grnlab.evaluate.controls import degree_only, target_popularity
from grnlab.evaluate.enrichment import rank_enrichment, target_enrichment
from grnlab.evaluate.gold import GoldStandard
from grnlab.evaluate.gold_files import fetch_gold, read_gold
from grnlab.evaluate.metrics import Score, score_edges
from grnlab.evaluate.perturbation import coverage, mean_pearson, response_scores, score_responses
from grnlab.evaluate.pidc import pidc
from grnlab.evaluate.uncertainty import (
    bootstrap_score,
    degree_null,
    regulator_auroc,
    score_regulators,
    score_universe,
)
from grnlab.evaluate.universe import Universe, candidate_universe

__all__ = [
    "BASELINES",
    "SLOW_BASELINES",
    "GoldStandard",
    "Score",
    "Universe",
    "bootstrap_score",
    "candidate_universe",
    "coverage",
    "degree_null",
    "degree_only",
    "fetch_gold",
    "mean_pearson",
    "pidc",
    "rank_enrichment",
    "read_gold",
    "regulator_auroc",
    "response_scores",
    "score_edges",
    "score_regulators",
    "score_responses",
    "score_universe",
    "target_enrichment",
    "target_popularity",
]
