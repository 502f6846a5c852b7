"""Controls that know the gold standard but no expression: what popularity of genes alone explains.

They are learned on a part of the gold standard and scored on the rest, as a supervised method would be, and are the
level such a method has to exceed.
"""

import numpy as np
from scipy.special import logit

from grnlab.evaluate.universe import Universe


def target_popularity(universe: Universe, *, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Score each target by the number of other regulators it has, learned without the regulator's own fold.

    Parameters
    ----------
    universe
        Candidates and truth.
    n_folds
        Folds of regulators; cut to their number.
    seed
        Of the folds.

    Returns
    -------
    Shape (regulators, targets). A regulator's row says nothing of its own edges, and an edge known in reverse
    (target → regulator) counts for the regulator alone, so it tells nothing either.

    Examples
    --------
    >>> import pandas as pd
    >>> from grnlab.evaluate import GoldStandard, candidate_universe
    >>> edges = pd.DataFrame({"source": ["A", "B", "B"], "target": ["X", "X", "Y"]})
    >>> universe = candidate_universe(GoldStandard.from_frame(edges, name="toy"), ["A", "B", "X", "Y"])
    >>> target_popularity(universe, n_folds=2).tolist()
    [[1.0, 1.0], [1.0, 0.0]]
    """
    n_regulators = len(universe.regulators)
    fold_R = np.random.default_rng(seed).permutation(np.arange(n_regulators) % min(n_folds, n_regulators))
    score_RT = np.empty(universe.truth_RT.shape)
    for fold in np.unique(fold_R):
        score_RT[fold_R == fold] = universe.truth_RT[fold_R != fold].sum(axis=0)
    return score_RT


def degree_only(universe: Universe, *, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Score a pair by how often its regulator regulates and its target is regulated, learned from other pairs.

    The sum of the log odds of the two rates (one edge and one non-edge added). Pairs are held out at random, as in
    many published splits, but a pair and its reverse always together.

    Parameters
    ----------
    universe
        Candidates and truth.
    n_folds
        Folds of pairs.
    seed
        Of the folds.

    Examples
    --------
    >>> import pandas as pd
    >>> from grnlab.evaluate import GoldStandard, candidate_universe
    >>> edges = pd.DataFrame({"source": ["A", "A", "A", "B"], "target": ["C", "D", "E", "C"]})
    >>> universe = candidate_universe(GoldStandard.from_frame(edges, name="toy"), list("ABCDE"))
    >>> score = degree_only(universe)
    >>> bool(score[0].mean() > score[1].mean())
    True
    """
    folds_RT = pair_folds(universe, n_folds=n_folds, seed=seed)
    score_RT = np.empty(universe.truth_RT.shape)
    for fold in range(n_folds):
        train_RT = (folds_RT != fold) & universe.candidate_RT
        true_RT = universe.truth_RT & train_RT
        rate_R = (true_RT.sum(axis=1) + 1) / (train_RT.sum(axis=1) + 2)
        rate_T = (true_RT.sum(axis=0) + 1) / (train_RT.sum(axis=0) + 2)
        held = folds_RT == fold
        score_RT[held] = (logit(rate_R)[:, None] + logit(rate_T)[None, :])[held]
    return score_RT


def pair_folds(universe: Universe, *, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Fold of each candidate, a pair and its reverse in the same one; shape (regulators, targets).

    Parameters
    ----------
    universe
        Candidates.
    n_folds, seed
        Number of folds, and the seed of the draw.
    """
    n_genes = len(universe.genes)
    low = np.minimum(universe.regulators[:, None], universe.targets[None, :])
    high = np.maximum(universe.regulators[:, None], universe.targets[None, :])
    _, number = np.unique(low * n_genes + high, return_inverse=True)
    drawn = np.random.default_rng(seed).integers(n_folds, size=int(number.max()) + 1)
    found: np.ndarray = drawn[number].reshape(low.shape)
    return found
