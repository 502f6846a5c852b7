import sys

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mutual_info_score

from grnlab.evaluate import BASELINES, SLOW_BASELINES
from grnlab.evaluate.baselines import (
    genie3,
    grnboost2,
    log_normalise,
    mean_expression,
    mutual_information,
    pearson,
    regdiffusion,
    ridge_partial_correlation,
    spearman,
    variance_expression,
)

PACKAGES = {"grnboost2": "rustscenic", "regdiffusion": "regdiffusion"}
REGULATORS, TARGETS = np.array([4, 0]), np.array([1, 2, 3, 4])


@pytest.fixture
def expression():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    return np.round(np.exp(rng.normal(size=(80, 6)) @ mixing * 0.3), 1)  # with ties


def test_log_normalise():
    counts = np.array([[1, 3], [0, 0], [0, 20]])
    expected = np.log1p([[2_500, 7_500], [0, 0], [0, 10_000]])
    np.testing.assert_allclose(log_normalise(counts), expected)
    np.testing.assert_allclose(log_normalise(counts, target=4)[0], np.log1p([1, 3]))


def test_pearson_equals_numpy(expression):
    expected = np.abs(np.corrcoef(expression.T))[np.ix_(REGULATORS, TARGETS)]
    np.testing.assert_allclose(pearson(expression, REGULATORS, TARGETS), expected)


def test_spearman_equals_scipy(expression):
    expected = np.abs(spearmanr(expression).statistic)[np.ix_(REGULATORS, TARGETS)]
    np.testing.assert_allclose(spearman(expression, REGULATORS, TARGETS), expected)


def test_partial_correlation_without_ridge_is_the_correlation_of_residuals(expression):
    got = ridge_partial_correlation(expression, np.array([4, 0]), np.array([1, 2]), ridge=1e-10)
    for row, regulator in enumerate((4, 0)):
        for column, target in enumerate((1, 2)):
            others = np.delete(np.arange(6), [regulator, target])
            design = np.column_stack([np.ones(80), expression[:, others]])
            pair = expression[:, [regulator, target]]
            residuals = pair - design @ np.linalg.lstsq(design, pair, rcond=None)[0]
            assert got[row, column] == pytest.approx(abs(np.corrcoef(residuals.T)[0, 1]), rel=1e-6)


def test_ridge_pulls_to_zero_and_stays_defined_with_few_cells(expression):
    strong = ridge_partial_correlation(expression, REGULATORS, TARGETS[:3], ridge=1e6)
    assert strong.max() < 1e-5
    few = ridge_partial_correlation(expression[:3], REGULATORS, TARGETS)
    assert np.isfinite(few).all()


def test_a_chain_is_direct_only_to_partial_correlation():
    rng = np.random.default_rng(1)
    first = rng.normal(size=5_000)
    middle = first + 0.5 * rng.normal(size=5_000)
    chain = np.column_stack([first, middle, middle + 0.5 * rng.normal(size=5_000)])
    ends = (np.array([0]), np.array([2]))
    assert pearson(chain, *ends).item() > 0.7
    assert ridge_partial_correlation(chain, *ends, ridge=1e-6).item() < 0.05


def test_mean_expression(expression):
    mean = expression.mean(axis=0)
    got = mean_expression(expression, REGULATORS, TARGETS)
    assert got[0, 2] == pytest.approx(mean[4] * mean[3])
    assert got[1, 0] == pytest.approx(mean[0] * mean[1])


@pytest.mark.parametrize("name", list(BASELINES))
def test_shapes_and_signs(name, expression):
    got = BASELINES[name](expression, REGULATORS, TARGETS)
    assert got.shape == (2, 4)
    assert np.isfinite(got).all()
    assert (got >= 0).all()


@pytest.mark.parametrize("name", ["pearson", "spearman", "ridge_partial_correlation"])
def test_the_sign_of_a_regulator_does_not_matter(name, expression):
    flipped = expression * np.where(np.arange(6) == 4, -1, 1)
    got = BASELINES[name](flipped, REGULATORS, TARGETS)
    np.testing.assert_allclose(got, BASELINES[name](expression, REGULATORS, TARGETS))


@pytest.mark.parametrize("name", ["pearson", "spearman", "ridge_partial_correlation"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.7, 1e6 + 0.1, 3.3333333])
@pytest.mark.parametrize("n_cells", [3, 7, 49, 80])
def test_a_gene_that_does_not_vary_scores_zero(name, value, n_cells, expression):
    expression = expression[:n_cells].copy()
    expression[:, 4] = value
    got = BASELINES[name](expression, REGULATORS, TARGETS)
    assert (got[0, :3] == 0).all()
    assert (got[1, 3] == 0).all()


def test_mutual_information_equals_sklearn(expression):
    sparse = np.where(expression > 0.8, expression, 0.0)
    got = mutual_information(sparse, REGULATORS, TARGETS, n_bins=4)

    def levels(values):
        cuts = np.quantile(values[values > 0], [1 / 3, 2 / 3])
        return [0 if value == 0 else 1 + sum(value > cut for cut in cuts) for value in values]

    for row, regulator in enumerate(REGULATORS):
        for column, target in enumerate(TARGETS):
            expected = mutual_info_score(levels(sparse[:, regulator]), levels(sparse[:, target]))
            assert got[row, column] == pytest.approx(expected, abs=1e-6)


def test_mutual_information_of_many_targets_and_of_silence():
    rng = np.random.default_rng(0)
    expression = rng.poisson(1.0, (50, 300)).astype(float)
    expression[:, 7] = 0.0
    every = np.arange(300)
    got = mutual_information(expression, every[:10], every)
    assert got.shape == (10, 300)
    np.testing.assert_allclose(got[:, 7], 0.0, atol=1e-9)
    np.testing.assert_allclose(got[:, :10], got[:, :10].T, atol=1e-6)


def test_products(expression):
    for score, moment in ((mean_expression, np.mean), (variance_expression, np.var)):
        expected = np.outer(moment(expression, axis=0)[REGULATORS], moment(expression, axis=0)[TARGETS])
        np.testing.assert_allclose(score(expression, REGULATORS, TARGETS), expected)


@pytest.mark.parametrize("name", SLOW_BASELINES)
def test_slow_ones_find_the_regulator_and_leave_out_the_gene_itself(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    rng = np.random.default_rng(0)
    expression = rng.random((300, 6))
    expression[:, 4] = expression[:, 1] ** 2 + 0.05 * rng.random(300)
    regulators, targets = np.array([2, 1, 0]), np.array([4, 1])
    settings = {"n_steps": 40} if name == "regdiffusion" else {}
    got = SLOW_BASELINES[name](expression, regulators, targets, **settings)
    assert got[:, 0].argmax() == 1
    assert got[1, 1] == 0
    np.testing.assert_array_equal(got, SLOW_BASELINES[name](expression, regulators, targets, **settings))


def test_a_silent_target_has_no_regulator():
    expression = np.random.default_rng(0).random((30, 3))
    expression[:, 2] = 0
    assert not genie3(expression, np.array([0, 1]), np.array([2])).any()


def test_regdiffusion_gives_nothing_to_genes_and_cells_that_do_not_vary():
    pytest.importorskip("regdiffusion")
    expression = np.random.default_rng(0).random((60, 5))
    expression[:, 3] = 0.5
    expression[7] = 0.5
    got = regdiffusion(expression, np.array([0, 3]), np.array([1, 2, 3]), n_steps=20)
    assert got[0, :2].any()
    assert not got[1].any()
    assert not got[:, 2].any()


@pytest.mark.parametrize(("baseline", "module"), [(grnboost2, "rustscenic.grn"), (regdiffusion, "regdiffusion")])
def test_without_their_packages(monkeypatch, baseline, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f'pip install "{module.split(".")[0]}"'):
        baseline(np.ones((3, 2)), np.array([0]), np.array([1]))
