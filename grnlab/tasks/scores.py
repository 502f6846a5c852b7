"""How well classes and values are predicted."""

from collections.abc import Sequence

import numpy as np

__all__ = ["classification_scores", "regression_scores"]


def classification_scores(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Accuracy, F1 and, where it is defined, AUROC of predicted classes.

    Parameters
    ----------
    truth
        Code of the class of each cell.
    probabilities
        Shape (n_cells, n_classes).
    classes
        Names of the classes; F1 of two classes is also given for the second alone.

    Returns
    -------
    ``accuracy, macro_f1, weighted_f1, auroc`` (macro mean of one class against the rest; NaN when a class is absent
    from `truth`) and, of two classes, ``f1``. Means of F1 are over the classes that occur in `truth` or among the
    predictions.

    Examples
    --------
    >>> found = classification_scores(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), ["a", "b"])
    >>> round(found["accuracy"], 3), found["auroc"]
    (0.667, 1.0)
    """
    from sklearn.metrics import f1_score, roc_auc_score

    predicted = probabilities.argmax(axis=1)
    scores = {
        "accuracy": float((predicted == truth).mean()),
        "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(truth, predicted, average="weighted", zero_division=0)),
    }
    each = [
        float(roc_auc_score(truth == code, probabilities[:, code]))
        if 0 < (truth == code).sum() < len(truth)
        else np.nan
        for code in range(len(classes))
    ]
    scores["auroc"] = float(np.mean(each))
    if len(classes) == 2:
        scores["f1"] = float(f1_score(truth, predicted, pos_label=1, zero_division=0))
    return scores


def regression_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Pearson correlation, R², RMSE and MAE of predicted values.

    Parameters
    ----------
    truth, predicted
        Values, shape (n,).

    Returns
    -------
    ``pearson`` (NaN when either side is constant), ``r2``, ``rmse``, ``mae``.

    Examples
    --------
    >>> regression_scores(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    {'pearson': 1.0, 'r2': 1.0, 'rmse': 0.0, 'mae': 0.0}
    """
    truth, predicted = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    error = predicted - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    varies = len(truth) > 1 and np.ptp(truth) > 0 and np.ptp(predicted) > 0
    return {
        "pearson": float(np.corrcoef(truth, predicted)[0, 1]) if varies else float("nan"),
        "r2": 1 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
    }
