"""One row per method: means over cases, with intervals that resample data sets and the cases within."""

import numpy as np
import pandas as pd

CASE = ["dataset", "group", "gold"]
COLUMNS = (
    *("method", "n_cases", "auprc_ratio", "auprc_ratio_lo", "auprc_ratio_hi", "epr", "epr_lo", "epr_hi"),
    *("mean_rank", "cpu_s", "auroc", "per_tf_auroc"),
)


def summarise(cases: pd.DataFrame, *, n_draws: int = 1_000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Mean scores of each method over its cases.

    Parameters
    ----------
    cases
        As :func:`run_benchmark` returns them; rows without scores are left out.
    n_draws, level, seed
        Bootstrap draws, coverage of the intervals, and their seed. A draw takes data sets with replacement, and as many
        cases with replacement within each: cases of one data set share their cells.

    Returns
    -------
    One row per method, best ratio first: ``method``, ``n_cases``, the means ``auprc_ratio`` and ``epr`` with their
    intervals (``_lo``, ``_hi``), ``mean_rank``, ``cpu_s``, ``auroc``, ``per_tf_auroc``. ``mean_rank`` is that by AUPRC
    ratio among the methods of the case, 1 the best; a method on fewer cases than others (``n_cases``) cannot be
    compared with them by its means.

    Examples
    --------
    >>> cases = pd.DataFrame({"dataset": "a", "group": ["x", "x", "y", "y"], "gold": "g", "method": ["m", "n"] * 2,
    ...                       "auprc_ratio": [2.0, 1.0, 4.0, 1.0], "epr": 1.0, "cpu_s": 1.0, "auroc": 0.5,
    ...                       "per_tf_auroc": 0.5})
    >>> summarise(cases)[["method", "auprc_ratio", "mean_rank"]].values.tolist()
    [['m', 3.0, 1.0], ['n', 1.0, 2.0]]
    """
    scored = cases[cases["auprc_ratio"].notna()].copy()
    scored["rank"] = scored.groupby(CASE)["auprc_ratio"].rank(ascending=False)
    rows = []
    for method, own in scored.groupby("method", sort=False):
        row = {"method": method, "n_cases": len(own), "mean_rank": own["rank"].mean()}
        row |= {name: own[name].mean() for name in ("cpu_s", "auroc", "per_tf_auroc")}
        draws = _draws(own, n_draws, np.random.default_rng(seed))  # the same draws for methods with the same cases
        for name in ("auprc_ratio", "epr"):
            mean, low, high = _interval(own[name].to_numpy(), draws, level)
            row |= {name: mean, f"{name}_lo": low, f"{name}_hi": high}
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("auprc_ratio", ascending=False, kind="stable", ignore_index=True)


def compare(
    cases: pd.DataFrame, reference: str, *, n_draws: int = 1_000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Difference of each method from a reference on the cases both have.

    Parameters
    ----------
    cases
        As :func:`run_benchmark` returns them.
    reference
        Name of a method.
    n_draws, level, seed
        As in :func:`summarise`.

    Returns
    -------
    Columns ``method, n_cases, better`` (share of cases) and, for AUPRC ratio and EPR, ``…_gain, …_gain_lo, …_gain_hi``:
    the method less the reference, largest gain first. An interval that leaves out 0 is a difference; differences cancel
    what is hard or easy about a case, so their intervals are narrower than those of the means.

    Raises
    ------
    ValueError
        When the reference has no scores.

    Examples
    --------
    >>> cases = pd.DataFrame({"dataset": "a", "group": ["x", "x", "y", "y"], "gold": "g", "method": ["m", "n"] * 2,
    ...                       "auprc_ratio": [2.0, 1.0, 4.0, 1.0], "epr": 1.0})
    >>> compare(cases, "n")[["method", "n_cases", "better", "auprc_ratio_gain"]].values.tolist()
    [['m', 2, 1.0, 2.0]]
    """
    scored = cases[cases["auprc_ratio"].notna()]
    base = scored[scored["method"] == reference].set_index(CASE)[["auprc_ratio", "epr"]]
    if base.empty:
        msg = f"reference={reference!r} has no scores; there are {', '.join(scored['method'].unique())}."
        raise ValueError(msg)
    rows = []
    for method, own in scored[scored["method"] != reference].groupby("method", sort=False):
        gain = (own.set_index(CASE)[["auprc_ratio", "epr"]] - base).dropna().reset_index()
        if gain.empty:
            continue
        row = {"method": method, "n_cases": len(gain), "better": (gain["auprc_ratio"] > 0).mean()}
        draws = _draws(gain, n_draws, np.random.default_rng(seed))
        for name in ("auprc_ratio", "epr"):
            mean, low, high = _interval(gain[name].to_numpy(), draws, level)
            row |= {f"{name}_gain": mean, f"{name}_gain_lo": low, f"{name}_gain_hi": high}
        rows.append(row)
    columns = [f"{name}_gain{end}" for name in ("auprc_ratio", "epr") for end in ("", "_lo", "_hi")]
    table = pd.DataFrame(rows, columns=["method", "n_cases", "better", *columns])
    return table.sort_values("auprc_ratio_gain", ascending=False, kind="stable", ignore_index=True)


def _interval(values: np.ndarray, draws: list[np.ndarray], level: float) -> tuple[float, float, float]:
    means = np.array([values[drawn].mean() for drawn in draws])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)


def _draws(cases: pd.DataFrame, n_draws: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Row numbers of each draw."""
    places = list(cases.groupby("dataset", sort=True).indices.values())
    draws = []
    for _ in range(n_draws):
        chosen = [places[number] for number in rng.integers(len(places), size=len(places))]
        draws.append(np.concatenate([rng.choice(place, size=len(place)) for place in chosen]))
    return draws
