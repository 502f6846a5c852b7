"""Scores of a ranking of candidate edges against a gold standard."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """How well a ranking finds true edges.

    Attributes
    ----------
    auprc
        Average precision, ties averaged as scikit-learn does.
    auprc_ratio
        Divided by the base rate: 1 is chance.
    auprc_trapezoid
        Area under the precision-recall curve with straight lines between its points, as some benchmarks report it:
        larger than `auprc`, and 0.5 + half the base rate for a constant score, so no ratio of it is given.
    epr
        Early precision ratio: expected precision among the top K, K the number of true edges, over the base rate.
    epr_odds
        The odds ratio that scPRINT's benchmark calls EPR: of being true among the top K against below. With the
        expected number of true edges among the top K; infinite when all of them are true.
    auroc
        Area under the ROC curve.
    n_candidates, n_true
        Size of the candidate universe and number of true edges in it.
    """

    auprc: float
    auprc_ratio: float
    auprc_trapezoid: float
    epr: float
    epr_odds: float
    auroc: float
    n_candidates: int
    n_true: int

    @property
    def base_rate(self) -> float:
        """Share of true edges in the universe."""
        return self.n_true / self.n_candidates


def score_edges(truth: np.ndarray, score: np.ndarray) -> Score:
    """Score candidate edges.

    Parameters
    ----------
    truth
        True for the edges of the gold standard, one entry per candidate.
    score
        Strength given to each candidate, the higher the likelier; infinities may be used, NaN may not.

    Raises
    ------
    ValueError
        When shapes differ, a score is NaN, or the truth is all True or all False.

    Examples
    --------
    >>> score_edges(np.array([True, False, False, True]), np.array([4.0, 3.0, 1.0, 2.0])).epr
    1.0
    """
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

    truth, score = np.asarray(truth, dtype=bool).ravel(), np.asarray(score, dtype=float).ravel()
    if truth.shape != score.shape:
        msg = f"truth has {len(truth)} entries and score {len(score)}; expected one of each per candidate edge."
        raise ValueError(msg)
    if np.isnan(score).any():
        msg = f"score holds {int(np.isnan(score).sum())} NaN; give candidates without a score the lowest one."
        raise ValueError(msg)
    n_true = int(truth.sum())
    if n_true in (0, len(truth)):
        msg = f"truth has {n_true} true edges among {len(truth)} candidates; a ranking needs both kinds."
        raise ValueError(msg)
    score = np.unique(score, return_inverse=True)[1].astype(float)  # ranks: scikit-learn refuses infinite scores
    base_rate = n_true / len(truth)
    auprc = float(average_precision_score(truth, score))
    precision, recall, _ = precision_recall_curve(truth, score)
    early = _expected_precision(truth, score, n_true)
    return Score(
        auprc=auprc,
        auprc_ratio=auprc / base_rate,
        auprc_trapezoid=float(auc(recall, precision)),
        epr=early / base_rate,
        epr_odds=_odds_ratio(early, n_true, len(truth)),
        auroc=float(roc_auc_score(truth, score)),
        n_candidates=len(truth),
        n_true=n_true,
    )


def _odds_ratio(early: float, n_true: int, n_candidates: int) -> float:
    """Odds ratio of the 2 × 2 table (among the top K, true), K the number of true edges."""
    found = early * n_true
    missed = n_true - found  # as many false ones are among the top K as true ones below
    others = n_candidates - n_true - missed
    return float("inf") if missed == 0 else found * others / missed**2


def _expected_precision(truth: np.ndarray, score: np.ndarray, k: int) -> float:
    """Precision among the top k, ties at the cut broken at random, in expectation."""
    cut = np.partition(score, len(score) - k)[len(score) - k]
    above, at = score > cut, score == cut
    return float((truth[above].sum() + (k - above.sum()) * truth[at].mean()) / k)
