"""Precision and recall of several rankings of the same candidate edges."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from grnlab.evaluate import score_edges
from grnlab.viz.plots.style import SERIES, new_axes, plain_spines, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def precision_recall(truth: np.ndarray, scores: Mapping[str, np.ndarray], *, ax: "Axes | None" = None) -> "Axes":
    """Precision–recall curves of several scores, with the base rate as the line of chance.

    The legend gives the area of each curve (average precision, as `grnlab.evaluate.score_edges` counts it), best
    first. The axis of precision ends a little above the highest precision at a recall of 1 % or more, so that a lucky
    first edge does not flatten everything else.

    Parameters
    ----------
    truth
        True for the edges of the gold standard, one entry per candidate.
    scores
        Name → strength given to each candidate, the higher the likelier.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn into: one line per score, then the base rate.

    Raises
    ------
    ValueError
        When there is no score, shapes differ, a score is NaN, or the truth is all True or all False.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> truth = np.array([True, False, False, True])
    >>> ax = precision_recall(truth, {"attention": np.array([4.0, 3.0, 1.0, 2.0])})
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['attention (0.83)', 'base rate (0.50)']
    """
    from sklearn.metrics import precision_recall_curve

    if not scores:
        msg = "scores is empty; give name → score of each candidate."
        raise ValueError(msg)
    truth = np.asarray(truth, dtype=bool)
    found = {name: score_edges(truth, np.asarray(values, dtype=float)) for name, values in scores.items()}
    ax = new_axes(ax, height=4.2, width=5.2)
    base, top = float(truth.mean()), 0.0
    for number, name in enumerate(sorted(scores, key=lambda name: -found[name].auprc)):
        precision, recall, _ = precision_recall_curve(truth, _finite(np.asarray(scores[name], dtype=float)))
        precision, recall = precision[:-1], recall[:-1]  # the last point, precision 1 at recall 0, is no measurement
        ax.plot(
            recall,
            precision,
            drawstyle="steps-post",
            color=SERIES[number % len(SERIES)],
            linestyle="-" if number < len(SERIES) else ":",
            linewidth=1.6,
            label=f"{short(name, 30)} ({found[name].auprc:.2f})",
        )
        top = max(top, float(precision[recall >= 0.01].max()))
    ax.axhline(base, color="0.4", linestyle="--", linewidth=1, label=f"base rate ({base:.2f})")
    ax.set(xlim=(0, 1), ylim=(0, min(1.02, 1.08 * top)), xlabel="recall", ylabel="precision")
    for text in ax.legend(frameon=False, fontsize="small").get_texts():
        text.set_parse_math(False)
    plain_spines(ax)
    return ax


def _finite(score: np.ndarray) -> np.ndarray:
    """Ranks instead of scores, which may be infinite."""
    return np.unique(score, return_inverse=True)[1]
