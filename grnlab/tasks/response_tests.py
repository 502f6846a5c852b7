"""Hold out pairs, drugs or cell lines of a table of responses; predict from means alone; score."""

import numpy as np
import pandas as pd

from grnlab.tasks.scores import regression_scores

HOLD_OUT = ("pairs", "drugs", "cell_lines")
BASELINES = ("mean", "drug_mean", "additive")
_LEAST_PER_DRUG = 5  # held-out lines of a drug, for a correlation to be worth a mean


def split_responses(
    responses: pd.DataFrame, *, hold_out: str = "pairs", fraction: float = 0.2, seed: int = 0
) -> pd.DataFrame:
    """Which responses to test on: True for the held-out ones.

    Parameters
    ----------
    responses
        One row per line, one column per drug.
    hold_out
        ``"pairs"`` (warm: lines and drugs are known, the pair is not), ``"drugs"`` or ``"cell_lines"`` as a whole.
    fraction
        Share of pairs, drugs or lines.
    seed
        Of the draw.

    Raises
    ------
    ValueError
        When `hold_out` is unknown, `fraction` does not lie between 0 and 1, or nothing would be left on one side.

    Examples
    --------
    >>> split_responses(pd.DataFrame(np.zeros((10, 4))), hold_out="drugs", fraction=0.25).sum().tolist()
    [0, 0, 10, 0]
    """
    if hold_out not in HOLD_OUT:
        msg = f"hold_out={hold_out!r} is unknown; choose one of {HOLD_OUT}."
        raise ValueError(msg)
    if not 0 < fraction < 1:
        msg = f"fraction={fraction} must lie between 0 and 1."
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    n_lines, n_drugs = responses.shape
    known = responses.notna().to_numpy()
    chosen = np.zeros(responses.shape, dtype=bool)
    if hold_out == "pairs":
        places = rng.permutation(np.flatnonzero(known))
        chosen.ravel()[places[: round(fraction * len(places))]] = True
    elif hold_out == "drugs":
        chosen[:, rng.permutation(n_drugs)[: round(fraction * n_drugs)]] = True
    else:
        chosen[rng.permutation(n_lines)[: round(fraction * n_lines)]] = True
    chosen &= known
    if not chosen.any() or not (known & ~chosen).any():
        msg = f"fraction={fraction} of {responses.shape[0]} lines × {n_drugs} drugs leaves nothing to train or test on."
        raise ValueError(msg)
    return pd.DataFrame(chosen, index=responses.index, columns=responses.columns)


def baseline_responses(responses: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Predict from means alone, which every model of lines and drugs has to beat.

    Parameters
    ----------
    responses
        One row per line, one column per drug; NaN where it is not known. Predictions have the same shape.
    kind
        ``"mean"`` of all; ``"drug_mean"``; ``"additive"``: mean of the drug plus how far the line is off on average.
        Where a drug or line has no value, the mean of all stands for it.

    Raises
    ------
    ValueError
        For another kind.
    """
    if kind not in BASELINES:
        msg = f"kind={kind!r} is unknown; choose one of {BASELINES}."
        raise ValueError(msg)
    overall = float(np.nanmean(responses.to_numpy()))
    drug = responses.mean().fillna(overall) if kind != "mean" else pd.Series(overall, index=responses.columns)
    line = pd.Series(0.0, index=responses.index)
    if kind == "additive":
        line = (responses - drug).mean(axis=1).fillna(0.0)
    values = drug.to_numpy()[None, :] + line.to_numpy()[:, None]
    return pd.DataFrame(values, index=responses.index, columns=responses.columns)


def drug_response_scores(truth: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, float]:
    """Score predicted responses.

    Parameters
    ----------
    truth
        One row per line, one column per drug; NaN where there is nothing to score.
    predicted
        Has at least these rows and columns.

    Returns
    -------
    ``pearson, r2, rmse, mae`` over all pairs, which mostly tell drugs apart, and ``per_drug_pearson``: the mean
    correlation over lines within a drug, over ``n_drugs`` drugs with five lines or more. A prediction that is the same
    for all lines has no correlation within a drug and counts as 0.
    """
    predicted = predicted.loc[truth.index, truth.columns]
    known = truth.notna().to_numpy()
    scores = regression_scores(truth.to_numpy()[known], predicted.to_numpy()[known])
    each = []
    for place in range(truth.shape[1]):
        rows = known[:, place]
        if rows.sum() >= _LEAST_PER_DRUG:
            within = regression_scores(truth.iloc[rows, place].to_numpy(), predicted.iloc[rows, place].to_numpy())
            each.append(np.nan_to_num(within["pearson"]))
    return scores | {"per_drug_pearson": float(np.mean(each)) if each else float("nan"), "n_drugs": float(len(each))}
