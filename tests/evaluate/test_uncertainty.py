import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from grnlab.evaluate import Universe, bootstrap_score, degree_null, score_regulators, score_universe
from grnlab.evaluate.uncertainty import _trade


def universe(truth_RT, *, shared=3):
    """The first targets are regulators too."""
    n_regulators, n_targets = truth_RT.shape
    regulators = np.arange(n_regulators)
    targets = np.arange(n_regulators - shared, n_regulators - shared + n_targets)
    candidate_RT = regulators[:, None] != targets
    names = tuple(f"G{number}" for number in range(targets[-1] + 1))
    return Universe(names, regulators, targets, truth_RT & candidate_RT, candidate_RT)


def random_case(seed=0, n_regulators=30, n_targets=50, signal=1.0, rate=0.1):
    rng = np.random.default_rng(seed)
    truth_RT = rng.random((n_regulators, n_targets)) < rate
    return universe(truth_RT), signal * truth_RT + rng.standard_normal(truth_RT.shape)


def test_a_gene_with_itself_does_not_count():
    case, score_RT = random_case()
    changed = np.where(case.candidate_RT, score_RT, 1e9)
    assert score_universe(case, changed) == score_universe(case, score_RT)
    with pytest.raises(ValueError, match=r"score_RT has shape \(50, 30\); expected \(regulators, targets\)"):
        score_universe(case, score_RT.T)


def test_each_regulator_by_itself():
    case, score_RT = random_case()
    popular = score_RT + 100 * np.arange(len(score_RT))[:, None]  # only the order of regulators changes
    table = score_regulators(case, score_RT, min_true=4)
    assert table.equals(score_regulators(case, popular, min_true=4))
    assert (case.truth_RT.sum(1) >= 4).sum() == len(table) < len(score_RT)
    row = int(table.index[2][1:])
    inside = case.candidate_RT[row]
    assert table["auroc"].iloc[2] == pytest.approx(roc_auc_score(case.truth_RT[row, inside], score_RT[row, inside]))
    assert len(score_regulators(case, score_RT, min_true=1_000)) == 0


def test_intervals_cover_the_truth():
    """In nine of ten worlds the interval of 90 % holds the AUROC of the distribution the world was drawn from."""
    expected = 0.7602  # Φ(1 / √2)
    inside = 0
    for seed in range(40):
        case, score_RT = random_case(seed)
        found = bootstrap_score(case, score_RT, n_draws=60, level=0.9, seed=seed).loc["auroc"]
        assert found["low"] < found["value"] < found["high"]
        inside += found["low"] <= expected <= found["high"]
    assert 30 <= inside <= 40


def test_intervals_are_seeded():
    case, score_RT = random_case()
    first, again, other = (bootstrap_score(case, score_RT, n_draws=20, seed=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
    with pytest.raises(ValueError, match="1 regulator; an interval needs two"):
        bootstrap_score(case.part(regulators=np.array([0])), score_RT[:1])


def test_intervals_where_every_pair_is_true():
    case = universe(np.ones((3, 4), dtype=bool))
    with pytest.raises(ValueError, match="a ranking needs both kinds"):
        bootstrap_score(case, np.ones((3, 4)))


def test_trades_keep_every_degree():
    case, _ = random_case(rate=0.3)
    rng = np.random.default_rng(0)
    truth_RT = case.truth_RT.copy()
    for _ in range(500):
        _trade(truth_RT, case.candidate_RT, rng)
    assert (truth_RT.sum(0) == case.truth_RT.sum(0)).all()
    assert (truth_RT.sum(1) == case.truth_RT.sum(1)).all()
    assert not (truth_RT & ~case.candidate_RT).any()
    assert (truth_RT != case.truth_RT).sum() > 100


def test_popularity_is_all_explained_and_pairs_are_not():
    rng = np.random.default_rng(3)
    popularity = rng.gamma(0.5, size=50)
    truth_RT = rng.random((30, 50)) < 0.15 * popularity
    case = universe(truth_RT)
    by_degree = np.tile(case.truth_RT.sum(0), (30, 1)).astype(float)
    null = degree_null(case, by_degree + 1e-6 * rng.random(by_degree.shape), n_draws=40)
    assert null.loc["auroc", "value"] > 0.7  # popularity alone looks good
    assert abs(null.loc["auroc", "z"]) < 3
    exact = degree_null(case, by_degree + 2 * case.truth_RT + rng.random(by_degree.shape), n_draws=40)
    assert exact.loc["auprc", "z"] > 5
    assert exact.loc["auprc", "p"] == pytest.approx(1 / 41)
