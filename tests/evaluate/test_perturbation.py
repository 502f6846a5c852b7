import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grnlab.evaluate import coverage, mean_pearson, response_scores, score_responses
from grnlab.evaluate.perturbation import pearson


@given(seed=st.integers(0, 1000), n=st.integers(1, 5), m=st.integers(1, 5), n_genes=st.integers(2, 9))
def test_pearson_is_numpys(seed, n, m, n_genes):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, n_genes)), rng.normal(3.0, 2.0, size=(m, n_genes))
    expected = np.corrcoef(a, b)[:n, n:]
    np.testing.assert_allclose(pearson(a, b), expected, atol=1e-9)


def test_paired_profiles_are_compared_with_their_own():
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(size=(2, 4, 6))
    expected = [np.corrcoef(one, other)[0, 1] for one, other in zip(true, predicted, strict=True)]
    assert mean_pearson(true, predicted) == pytest.approx(np.mean(expected))
    with pytest.raises(ValueError, match="shorter"):
        mean_pearson(true, predicted[:3])


def test_coverage_from_its_definition():
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(size=(4, 6)), rng.normal(size=(3, 6))
    best = [max(np.corrcoef(t, p)[0, 1] for p in predicted) for t in true]
    assert coverage(true, predicted) == pytest.approx(np.mean(best))
    assert coverage(true, np.vstack([predicted, true])) == pytest.approx(1.0)


def test_scores_on_the_genes_that_change_most():
    true = np.array([[5.0, -4.0, 0.1, 0.2, 0.0], [5.0, -4.0, 0.3, 0.0, 0.0]])
    predicted = np.array([[1.0, -1.0, 3.0, -3.0, 0.0]])
    scores = response_scores(true, predicted, top=(2,))
    assert scores["mean_DE2"] == scores["dis_DE2"] == pytest.approx(1.0)
    assert scores["mean"] == pytest.approx(np.corrcoef(true.mean(0), predicted[0])[0, 1])
    shifted = response_scores(true, predicted, reference=np.array([5.0, -4.0, 9.0, 8.0, 0.0]), top=(2,))
    assert shifted["mean_DE2"] == pytest.approx(np.corrcoef(true.mean(0)[[2, 3]], predicted[0, [2, 3]])[0, 1])


def test_a_constant_prediction_scores_0_and_not_nan():
    assert response_scores(np.array([[1.0, -2, 3]]), np.full((1, 3), 0.7), top=(2,)) == dict.fromkeys(
        ("mean", "dis", "mean_DE2", "dis_DE2"), 0.0
    )


def test_one_row_per_condition():
    rng = np.random.default_rng(0)
    true = {name: rng.normal(size=(3, 20)) for name in ("a", "b")}
    table = score_responses(true, true, top=(5,))
    assert table.index.tolist() == ["a", "b"]
    assert np.allclose(table, 1.0)
    with pytest.raises(ValueError, match=r"1 conditions are not predicted: \['b'\]"):
        score_responses(true, {"a": true["a"]})


@pytest.mark.parametrize(
    ("true", "predicted", "top", "message"),
    [
        (np.ones((1, 3)), np.ones((1, 4)), (2,), "3 and 4 genes"),
        (np.ones((1, 3)), np.full((1, 3), np.nan), (2,), "NaN or infinite"),
        (np.ones((1, 3)), np.ones((1, 3)), (4,), "fit 3 genes"),
    ],
)
def test_what_does_not_fit_is_named(true, predicted, top, message):
    with pytest.raises(ValueError, match=message):
        response_scores(true, predicted, top=top)
