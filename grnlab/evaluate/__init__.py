"""Evaluation: metrics, and the baselines every score stands beside."""

from grnlab.evaluate.baselines import BASELINES, mean_expression, pearson, ridge_partial_correlation
from grnlab.evaluate.metrics import Score, score_edges

__all__ = ["BASELINES", "Score", "mean_expression", "pearson", "ridge_partial_correlation", "score_edges"]
