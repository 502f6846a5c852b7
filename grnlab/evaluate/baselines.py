"""What a network must beat: scores of gene pairs from expression alone.

Each baseline takes log-normalised expression (n_cells, n_genes) and gives a (regulators, targets) array, strength of
regulator → target, without any sign.
"""

from collections.abc import Callable

import numpy as np


def log_normalise(counts: np.ndarray, *, target: float = 1e4) -> np.ndarray:
    """Counts per `target` counts of the cell, log(1 + x)."""
    counts = np.asarray(counts, dtype=np.float64)
    return np.log1p(counts / counts.sum(axis=1, keepdims=True).clip(min=1) * target)


def pearson(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Absolute Pearson correlation; 0 where a gene does not vary."""
    z = _standardise(expression)
    return np.abs(z[:, regulators].T @ z[:, targets]) / len(z)


def spearman(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Absolute Spearman correlation."""
    from scipy.stats import rankdata

    return pearson(rankdata(expression, axis=0), regulators, targets)


def ridge_partial_correlation(
    expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray, *, ridge: float = 0.1
) -> np.ndarray:
    """Absolute partial correlation given all other genes, from the inverse of the correlation matrix plus a ridge."""
    z = _standardise(expression)
    precision = np.linalg.inv(z.T @ z / len(z) + ridge * np.eye(z.shape[1]))
    scale = np.sqrt(np.diag(precision))
    return np.abs(precision[np.ix_(regulators, targets)] / np.outer(scale[regulators], scale[targets]))


def mean_expression(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Product of the mean expressions: a trivial score."""
    mean = expression.mean(axis=0)
    return np.outer(mean[regulators], mean[targets])


Baseline = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
BASELINES: dict[str, Baseline] = {
    "pearson": pearson,
    "spearman": spearman,
    "ridge_partial_correlation": ridge_partial_correlation,
    "mean_expression": mean_expression,
}


def _standardise(expression: np.ndarray) -> np.ndarray:
    centred = expression - expression.mean(axis=0)
    spread = centred.std(axis=0)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
