"""How sure a score is: per regulator, intervals by resampling regulators, and a null that keeps every degree.

The candidates of one regulator are not independent of each other, so it is regulators that are drawn, not pairs.
"""

from dataclasses import fields

import numpy as np
import pandas as pd

from grnlab.evaluate.metrics import Score, score_edges
from grnlab.evaluate.universe import Universe

_NUMBERS = [field.name for field in fields(Score) if not field.name.startswith("n_")]


def score_universe(universe: Universe, score_RT: np.ndarray) -> Score:
    """Score a ranking of the candidates of a universe.

    Parameters
    ----------
    universe
        Candidates and truth.
    score_RT
        Strength of each regulator (row) on each target (column); a gene with itself is not read.

    Raises
    ------
    ValueError
        When the shape is another, or as :func:`grnlab.evaluate.score_edges`.
    """
    score_RT = _checked(universe, score_RT)
    return score_edges(universe.truth_RT[universe.candidate_RT], score_RT[universe.candidate_RT])


def score_regulators(universe: Universe, score_RT: np.ndarray, *, min_true: int = 5) -> pd.DataFrame:
    """Score each regulator by itself, which no popularity of regulators can improve.

    Parameters
    ----------
    universe, score_RT
        As in :func:`score_universe`.
    min_true
        Regulators with fewer true targets are left out.

    Returns
    -------
    A row per regulator (index), the columns of :class:`Score`.
    """
    score_RT = _checked(universe, score_RT)
    found = {}
    for row, regulator in enumerate(universe.regulators):
        inside = universe.candidate_RT[row]
        truth = universe.truth_RT[row, inside]
        if truth.sum() >= max(min_true, 1) and not truth.all():
            found[universe.genes[regulator]] = vars(score_edges(truth, score_RT[row, inside]))
    columns = [field.name for field in fields(Score)]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns).rename_axis("regulator")


def regulator_auroc(universe: Universe, score_RT: np.ndarray, *, min_true: int = 5) -> pd.Series:
    """AUROC of each regulator's ranking of targets, all at once: fast where there are thousands of regulators.

    Parameters
    ----------
    universe, score_RT
        As in :func:`score_universe`.
    min_true
        Regulators with fewer true targets are left out.

    Returns
    -------
    A number per regulator (index), equal to the ``auroc`` of :func:`score_regulators`.
    """
    from scipy.stats import rankdata

    score_RT = _checked(universe, score_RT)
    level_RT = np.unique(score_RT, return_inverse=True)[1].reshape(score_RT.shape).astype(np.float64)
    level_RT[~universe.candidate_RT] = -1.0  # below all others, so that it moves every rank by one
    rank_RT = rankdata(level_RT, axis=1) - (~universe.candidate_RT).sum(axis=1, keepdims=True)
    n_true = universe.truth_RT.sum(axis=1)
    n_false = universe.candidate_RT.sum(axis=1) - n_true
    kept = (n_true >= max(min_true, 1)) & (n_false > 0)
    above = (rank_RT * universe.truth_RT).sum(axis=1) - n_true * (n_true + 1) / 2
    names = pd.Index([universe.genes[gene] for gene in universe.regulators[kept]], name="regulator")
    return pd.Series(above[kept] / (n_true * n_false)[kept], index=names, name="auroc", dtype=float)


def bootstrap_score(
    universe: Universe, score_RT: np.ndarray, *, n_draws: int = 200, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Percentile intervals of the scores, from regulators drawn with replacement.

    Parameters
    ----------
    universe, score_RT
        As in :func:`score_universe`.
    n_draws, level, seed
        Number of draws, coverage, and their seed. Draws without a true or another pair are drawn again.

    Returns
    -------
    A row per score (``auprc_ratio, epr, ...``), columns ``value, low, high``.

    Raises
    ------
    ValueError
        As :func:`score_universe`, or for fewer than two regulators.
    """
    score_RT = _checked(universe, score_RT)
    n_regulators = len(universe.regulators)
    if n_regulators < 2:
        msg = f"the universe has {n_regulators} regulator; an interval needs two or more."
        raise ValueError(msg)
    whole = score_universe(universe, score_RT)
    rng = np.random.default_rng(seed)
    rows = [(universe.truth_RT[row, inside], score_RT[row, inside]) for row, inside in enumerate(universe.candidate_RT)]
    draws: list[list[float]] = []
    while len(draws) < n_draws:
        chosen = rng.integers(n_regulators, size=n_regulators)
        truth = np.concatenate([rows[row][0] for row in chosen])
        if 0 < truth.sum() < len(truth):
            drawn = score_edges(truth, np.concatenate([rows[row][1] for row in chosen]))
            draws.append([getattr(drawn, name) for name in _NUMBERS])
    tail = (1 - level) / 2
    low, high = np.quantile(np.array(draws), [tail, 1 - tail], axis=0)
    return pd.DataFrame(
        {"value": [getattr(whole, name) for name in _NUMBERS], "low": low, "high": high}, index=_NUMBERS
    )


def degree_null(universe: Universe, score_RT: np.ndarray, *, n_draws: int = 100, seed: int = 0) -> pd.DataFrame:
    """Compare the scores with those on random truths in which every regulator and target keeps its number of edges.

    What is left is what popularity of regulators and targets does not explain. Truths are drawn by Curveball trades of
    targets between pairs of regulators (Strona et al. 2014, doi:10.1038/ncomms5114), five per regulator between draws;
    a gene never becomes its own target.

    Parameters
    ----------
    universe, score_RT
        As in :func:`score_universe`.
    n_draws, seed
        Number of random truths, and their seed.

    Returns
    -------
    A row per score, columns ``value, null_mean, null_sd, z`` and ``p``: the share of draws at least as good, with the
    observed truth counted in.
    """
    score_RT = _checked(universe, score_RT)
    rng = np.random.default_rng(seed)
    truth_RT, candidates = universe.truth_RT.copy(), universe.candidate_RT
    draws: list[list[float]] = []
    for draw in range(n_draws):
        for _ in range((25 if draw == 0 else 5) * len(truth_RT)):
            _trade(truth_RT, candidates, rng)
        drawn = score_edges(truth_RT[candidates], score_RT[candidates])
        draws.append([getattr(drawn, name) for name in _NUMBERS])
    null = np.array(draws)
    whole = score_universe(universe, score_RT)
    value = np.array([getattr(whole, name) for name in _NUMBERS])
    spread = null.std(axis=0, ddof=1) if n_draws > 1 else np.zeros(len(value))
    return pd.DataFrame(
        {
            "value": value,
            "null_mean": null.mean(axis=0),
            "null_sd": spread,
            "z": np.divide(value - null.mean(axis=0), spread, out=np.full(len(value), np.nan), where=spread > 0),
            "p": (1 + (null >= value).sum(axis=0)) / (1 + n_draws),
        },
        index=_NUMBERS,
    )


def _trade(truth_RT: np.ndarray, candidate_RT: np.ndarray, rng: np.random.Generator) -> None:
    """Deal the targets that only one of two regulators has to both anew; each keeps its number."""
    if len(truth_RT) < 2:
        return
    one, two = rng.choice(len(truth_RT), size=2, replace=False)
    only = np.flatnonzero((truth_RT[one] != truth_RT[two]) & candidate_RT[one] & candidate_RT[two])
    n_one = int(truth_RT[one, only].sum())
    dealt = rng.permutation(only)
    truth_RT[one, only], truth_RT[two, only] = False, False
    truth_RT[one, dealt[:n_one]], truth_RT[two, dealt[n_one:]] = True, True


def _checked(universe: Universe, score_RT: np.ndarray) -> np.ndarray:
    score_RT = np.asarray(score_RT)
    if score_RT.shape != universe.truth_RT.shape:
        msg = f"score_RT has shape {score_RT.shape}; expected (regulators, targets) = {universe.truth_RT.shape}."
        raise ValueError(msg)
    return score_RT
