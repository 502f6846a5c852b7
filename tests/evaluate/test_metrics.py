from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from grnlab.evaluate import score_edges

edges = st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=40)


def arrays(pairs):
    truth, score = (np.array(column) for column in zip(*pairs, strict=True))
    assume(0 < truth.sum() < len(truth))
    return truth, score


@given(edges)
def test_areas_equal_sklearn(pairs):
    truth, score = arrays(pairs)
    got = score_edges(truth, score)
    assert got.auprc == pytest.approx(average_precision_score(truth, score))
    assert got.auroc == pytest.approx(roc_auc_score(truth, score))
    assert (got.n_true, got.n_candidates) == (truth.sum(), len(truth))
    assert got.base_rate == pytest.approx(truth.mean())
    assert got.auprc_ratio == pytest.approx(got.auprc / truth.mean())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=2, max_size=6))
def test_early_precision_is_the_mean_over_all_orders_of_ties(pairs):
    truth, score = arrays(pairs)
    k = truth.sum()
    precisions = [
        truth[list(order[:k])].mean()
        for order in permutations(range(len(truth)))
        if all(score[a] >= score[b] for a, b in pairwise(order))
    ]
    assert score_edges(truth, score).epr == pytest.approx(np.mean(precisions) / truth.mean())


@given(edges, st.integers(0, 1_000))
def test_order_and_monotone_changes_do_not_matter(pairs, seed):
    truth, score = arrays(pairs)
    order = np.random.default_rng(seed).permutation(len(truth))
    got, again = score_edges(truth, score), score_edges(truth[order], np.exp(score[order]) - 9)
    for name in ("auprc", "auprc_ratio", "epr", "auroc"):
        assert getattr(again, name) == pytest.approx(getattr(got, name))


def test_perfect_reversed_and_constant():
    truth = np.array([True, False, False, False])
    perfect = score_edges(truth, np.array([4, 3, 2, 1]))
    assert (perfect.auprc, perfect.auprc_ratio, perfect.epr, perfect.auroc) == (1, 4, 4, 1)
    worst = score_edges(truth, np.array([1, 2, 3, 4]))
    assert (worst.auprc, worst.epr, worst.auroc) == (0.25, 0, 0)
    chance = score_edges(truth, np.zeros(4))
    assert (chance.auprc_ratio, chance.epr, chance.auroc) == (1, 1, 0.5)


def test_edges_without_a_score_may_be_minus_infinity():
    truth, score = np.array([True, False, True, False, False]), np.array([3.0, 2.0, -np.inf, -np.inf, np.inf])
    assert score_edges(truth, score) == score_edges(truth, np.array([3.0, 2.0, -1.0, -1.0, 9.0]))


def test_matrices_are_read_as_lists():
    truth, score = np.eye(3, dtype=bool), np.arange(9.0).reshape(3, 3)
    assert score_edges(truth, score) == score_edges(truth.ravel(), score.ravel())


@pytest.mark.parametrize(
    ("truth", "score", "match"),
    [
        ([True, False], [1.0, 2.0, 3.0], "truth has 2 entries and score 3"),
        ([True, False], [1.0, np.nan], "score holds 1 NaN"),
        ([True, True], [1.0, 2.0], "2 true edges among 2 candidates"),
        ([False, False], [1.0, 2.0], "0 true edges among 2 candidates"),
        ([], [], "0 true edges among 0"),
    ],
)
def test_bad_input(truth, score, match):
    with pytest.raises(ValueError, match=match):
        score_edges(np.array(truth), np.array(score))


@given(edges)
def test_other_definitions(pairs):
    truth, score = arrays(pairs)
    got = score_edges(truth, score)
    precision, recall, _ = precision_recall_curve(truth, score)
    assert got.auprc_trapezoid == pytest.approx(auc(recall, precision))
    n_true, n_false = truth.sum(), (~truth).sum()
    found = got.epr * got.base_rate * n_true
    table = np.array([[found, n_true - found], [n_true - found, n_false - (n_true - found)]])
    if table[0, 1] > 1e-12:
        assert got.epr_odds == pytest.approx(table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0]))
    else:
        assert got.epr_odds == np.inf
