"""Multiple testing and permutation p-values."""

import numpy as np


def benjamini_hochberg(pvalues: np.ndarray, n_tests: int | None = None) -> np.ndarray:
    """Adjust p-values for the false discovery rate; NaN stays NaN and counts as no test.

    Parameters
    ----------
    pvalues
        Shape (n,).
    n_tests
        Tests made in all, when those not given had p = 1; the number of p-values by default.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    adjusted = np.full(len(pvalues), np.nan)
    known = np.flatnonzero(~np.isnan(pvalues))
    order = known[np.argsort(pvalues[known])]
    scaled = pvalues[order] * (len(order) if n_tests is None else n_tests) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def permutation_pvalues(observed: np.ndarray, permuted: np.ndarray) -> np.ndarray:
    """Share of labellings, the observed one among them, whose statistic is at least as large.

    Parameters
    ----------
    observed
        Statistic of the real labels, shape (...); large is unlike the null.
    permuted
        The same for each permutation, shape (n_permutations, ...).

    References
    ----------
    Phipson, Smyth (2010), doi:10.2202/1544-6115.1585: why the observed labelling counts, and p is never 0.

    Examples
    --------
    >>> permutation_pvalues(np.array([2.0]), np.array([[0.0], [1.0], [3.0]])).tolist()
    [0.5]
    """
    # sums in another order differ in the last bits; such values are ties
    slack = 1e-9 * np.maximum(np.abs(observed), 1e-300)
    return (1 + (permuted >= observed - slack).sum(axis=0)) / (len(permuted) + 1)
