import numpy as np
import pytest
from scipy.stats import gamma
from sklearn.metrics import mutual_info_score

from grnlab.evaluate import pidc
from grnlab.evaluate.baselines import expression_levels
from grnlab.evaluate.pidc import _gamma_cdf, _specific_information, _unique

N_BINS = 3


@pytest.fixture
def expression():
    rng = np.random.default_rng(0)
    first = rng.poisson(2.0, 200)
    second = rng.poisson(first)
    return np.column_stack([first, second, rng.poisson(second), rng.poisson(1.0, (200, 2))]).astype(float)


def by_definition(levels):
    """Sum over third genes of the unique share, from joint tables, one triplet at a time."""
    n_genes = levels.shape[1]

    def specific(about, by, level):
        own = levels[:, about] == level
        total = 0.0
        for other in np.unique(levels[:, by]):
            joint = (own & (levels[:, by] == other)).mean()
            if joint:
                total += joint / own.mean() * np.log(joint / own.mean() / (levels[:, by] == other).mean())
        return total

    unique = np.zeros((n_genes, n_genes))
    for about in range(n_genes):
        for by in range(n_genes):
            if about == by:
                continue
            information = mutual_info_score(levels[:, about], levels[:, by])
            for third in set(range(n_genes)) - {about, by}:
                redundant = sum(
                    (levels[:, about] == level).mean() * min(specific(about, by, level), specific(about, third, level))
                    for level in np.unique(levels[:, about])
                )
                unique[about, by] += (information - redundant) / information
    return unique


def test_sums_of_unique_information_equal_their_definition(expression):
    levels = np.stack([expression_levels(expression[:, gene], N_BINS) for gene in range(5)], axis=1)
    specific, share = _specific_information(levels, N_BINS)
    information = np.einsum("gkb,gb->gk", specific, share)
    for one in range(5):
        for other in range(5):
            if one != other:
                expected = mutual_info_score(levels[:, one], levels[:, other])
                assert information[one, other] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(_unique(specific, share, information), by_definition(levels), atol=1e-4)


def test_gamma_distributions_are_those_of_the_largest_likelihood():
    values = np.random.default_rng(0).gamma(2.0, 3.0, (12, 12))
    values = values + values.T
    got = _gamma_cdf(values)
    for row in range(12):
        others = np.delete(values[row], row)
        shape, _, scale = gamma.fit(others, floc=0)
        np.testing.assert_allclose(np.delete(got[row], row), gamma.cdf(others, shape, scale=scale), atol=1e-4)


def test_a_chain_is_ranked_below_its_links(expression):
    every = np.arange(5)
    score = pidc(expression, every, every)
    np.testing.assert_allclose(score, score.T)
    assert not np.diag(score).any()
    assert min(score[0, 1], score[1, 2]) > score[0, 2] > score[3, 4]


def test_pairs_are_those_asked_for(expression):
    every = np.arange(5)
    rows, columns = np.array([4, 1]), np.array([2, 0, 3])
    whole = pidc(expression, every, every)
    np.testing.assert_allclose(pidc(expression, rows, columns), whole[np.ix_(rows, columns)])


def test_silent_genes_and_too_many_genes(expression):
    expression[:, 3] = 0
    score = pidc(expression, np.array([0]), np.array([1, 3]))
    assert np.isfinite(score).all()
    assert score[0, 1] < score[0, 0]
    with pytest.raises(ValueError, match="max_genes=4"):
        pidc(expression, np.arange(5), np.arange(5), max_genes=4)
