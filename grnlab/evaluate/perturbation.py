"""Scores of predicted responses to perturbations: Pearson of means, and how well a distribution is covered.

Of a condition, measured profiles (cells, or one signature) are compared with predicted ones.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of every row of `a` with every row of `b`; 0 where a row is constant.

    Parameters
    ----------
    a, b
        Shapes (n, n_genes) and (m, n_genes).

    Returns
    -------
    Shape (n, m).

    Raises
    ------
    ValueError
        When the numbers of genes differ or are below two, or a value is not finite.

    Examples
    --------
    >>> pearson(np.array([[1.0, 2, 3]]), np.array([[2.0, 4, 6], [3.0, 2, 1], [1.0, 1, 1]])).round(3).tolist()
    [[1.0, -1.0, 0.0]]
    """
    a, b = np.atleast_2d(np.asarray(a, dtype=np.float64)), np.atleast_2d(np.asarray(b, dtype=np.float64))
    if a.shape[1] != b.shape[1] or a.shape[1] < 2:
        msg = f"profiles have {a.shape[1]} and {b.shape[1]} genes; they must be the same two genes or more."
        raise ValueError(msg)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        msg = "profiles hold NaN or infinite values; a correlation needs finite ones."
        raise ValueError(msg)
    return _unit(a) @ _unit(b).T


def _unit(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    flat = norm <= 1e-9 * np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-300)
    return np.divide(centred, norm, out=np.zeros_like(centred), where=~flat)


def mean_pearson(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean correlation of each measured profile with the prediction of its own; 0 where one of them is constant.

    Parameters
    ----------
    true, predicted
        Shapes (n, n_genes).

    Examples
    --------
    >>> round(mean_pearson(np.array([[1.0, 2, 3], [3.0, 2, 1]]), np.array([[0.0, 1, 2], [0.0, 1, 2]])), 3)
    0.0
    """
    return float(np.mean([pearson(one, other)[0, 0] for one, other in zip(true, predicted, strict=True)]))


def coverage(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over measured profiles of their best correlation with any predicted one: ``mean_i max_j pearson(i, j)``.

    High when every measured profile is like some predicted one (Tan et al. 2023). It never falls when profiles are
    added to `predicted`, so compare predictions of equally many profiles.

    Parameters
    ----------
    true, predicted
        Shapes (n, n_genes) and (m, n_genes).

    Examples
    --------
    >>> round(coverage(np.array([[1.0, 2, 3], [3.0, 2, 1]]), np.array([[0.0, 1, 2]])), 3)
    0.0
    """
    return float(pearson(true, predicted).max(axis=1).mean())


def response_scores(
    true: np.ndarray,
    predicted: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    top: Sequence[int] = (50, 10),
) -> dict[str, float]:
    """Scores of one condition, over all genes and over those that change most.

    Parameters
    ----------
    true
        Measured profiles, shape (n, n_genes).
    predicted
        Predicted profiles, shape (m, n_genes).
    reference
        Profile without perturbation, shape (n_genes,): genes are ranked by how far the mean of `true` is from it. By
        default 0, as for signatures, which are changes already.
    top
        Numbers of genes.

    Returns
    -------
    ``mean`` (Pearson of the two mean profiles), ``dis`` (see :func:`coverage`), and both for each number of genes, as
    ``mean_DE50``. Correlations of a constant profile count as 0.

    Raises
    ------
    ValueError
        As :func:`pearson`; when `reference` has another number of genes, or `top` asks for more than there are.

    Examples
    --------
    >>> scores = response_scores(np.array([[3.0, -2, 0, 0]]), np.array([[1.0, -1, 0, 1]]), top=(2,))
    >>> round(scores["mean_DE2"], 3)
    1.0
    """
    true, predicted = np.atleast_2d(np.asarray(true, float)), np.atleast_2d(np.asarray(predicted, float))
    n_genes = true.shape[1]
    if predicted.shape[1] != n_genes:
        msg = f"true and predicted have {n_genes} and {predicted.shape[1]} genes; they must be the same genes."
        raise ValueError(msg)
    change = true.mean(axis=0) - (0.0 if reference is None else np.asarray(reference, float))
    if change.shape != (n_genes,) or any(not 2 <= number <= n_genes for number in top):
        msg = f"reference and top must fit {n_genes} genes; top={tuple(top)} are numbers from 2 to that."
        raise ValueError(msg)
    order = np.argsort(-np.abs(change), kind="stable")
    scores = {}
    for name, genes in {"": order, **{f"_DE{number}": order[:number] for number in top}}.items():
        a, b = true[:, genes], predicted[:, genes]
        scores[f"mean{name}"] = mean_pearson(a.mean(axis=0, keepdims=True), b.mean(axis=0, keepdims=True))
        scores[f"dis{name}"] = coverage(a, b)
    return scores


def score_responses(
    true: Mapping[str, np.ndarray],
    predicted: Mapping[str, np.ndarray],
    *,
    top: Sequence[int] = (50, 10),
) -> pd.DataFrame:
    """Scores of many conditions, one row each; the mean over the rows is what papers print.

    Parameters
    ----------
    true, predicted
        Condition → profiles; every condition of `true` must be predicted.
    top
        As in :func:`response_scores`, without a reference.

    Raises
    ------
    ValueError
        When a condition is not predicted, or as :func:`response_scores`.
    """
    if missing := [name for name in true if name not in predicted]:
        msg = f"{len(missing)} conditions are not predicted: {missing[:5]}."
        raise ValueError(msg)
    rows = {name: response_scores(profiles, predicted[name], top=top) for name, profiles in true.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")
