import numpy as np
import pandas as pd
import pytest

from grnlab.evaluate import (
    GoldStandard,
    candidate_universe,
    degree_only,
    regulator_auroc,
    score_regulators,
    score_universe,
    target_popularity,
)
from grnlab.evaluate.controls import pair_folds


@pytest.fixture
def universe():
    """30 genes, 12 of them regulators; genes differ in popularity; regulators regulate each other too."""
    rng = np.random.default_rng(0)
    popular = rng.beta(0.4, 1.5, 30)
    truth = rng.random((12, 30)) < popular
    source, target = np.nonzero(truth)
    table = pd.DataFrame({"source": [f"g{i}" for i in source], "target": [f"g{i}" for i in target]})
    return candidate_universe(
        GoldStandard.from_frame(table, name="popular"), [f"g{i}" for i in range(30)], targets="all"
    )


def test_popularity_counts_the_other_regulators_and_never_its_own_row(universe):
    score = target_popularity(universe, n_folds=12)  # one regulator per fold
    for row in range(len(universe.regulators)):
        np.testing.assert_array_equal(score[row], np.delete(universe.truth_RT, row, axis=0).sum(axis=0))
    assert score_universe(universe, score).auroc > 0.6


def test_a_row_of_popularity_does_not_change_with_its_own_truth(universe):
    before = target_popularity(universe)
    universe.truth_RT[3] = universe.candidate_RT[3]
    np.testing.assert_array_equal(target_popularity(universe)[3], before[3])


def test_a_pair_and_its_reverse_share_a_fold(universe):
    folds = pair_folds(universe, n_folds=4, seed=1)
    rows = {gene: row for row, gene in enumerate(universe.regulators)}
    columns = {gene: column for column, gene in enumerate(universe.targets)}
    both = [gene for gene in rows if gene in columns]
    for one in both:
        for other in both:
            assert folds[rows[one], columns[other]] == folds[rows[other], columns[one]]
    assert len(np.unique(folds)) == 4


def test_degrees_do_not_see_the_pair_they_score(universe):
    before = degree_only(universe, n_folds=3, seed=2)
    place = np.argwhere(universe.candidate_RT)[5]
    folds = pair_folds(universe, n_folds=3, seed=2)
    universe.truth_RT[tuple(place)] ^= True
    after = degree_only(universe, n_folds=3, seed=2)
    same = folds == folds[tuple(place)]
    np.testing.assert_array_equal(after[same], before[same])
    assert (after[~same] != before[~same]).any()
    assert score_universe(universe, before).auroc > 0.6


@pytest.mark.parametrize("n_levels", [3, 1_000])
def test_auroc_of_all_regulators_at_once(universe, n_levels):
    score = np.random.default_rng(1).integers(n_levels, size=universe.truth_RT.shape).astype(float)
    score[0, 0] = -np.inf
    expected = score_regulators(universe, score, min_true=3)["auroc"]
    pd.testing.assert_series_equal(regulator_auroc(universe, score, min_true=3), expected)
