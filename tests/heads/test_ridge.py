import dataclasses

import numpy as np
import pytest
import torch
from grnlab_kernels import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier

from grnlab.heads.ridge import EmptySelectionError, RidgeProblem, ridge_problem

SCALE = 0.3
SUMS = [field.name for field in dataclasses.fields(RidgeProblem)]


def planted(n_heads=6, n_genes=40, d_head=8, *, heads=(1, 4), n_positives=30, strength=1.5, seed=0):
    """Queries, keys and positive pairs that the planted heads attend to."""
    rng = torch.Generator().manual_seed(seed)
    q, k = 0.8 * torch.randn(2, n_heads, n_genes, d_head, generator=rng)
    pairs = torch.cartesian_prod(torch.arange(n_genes), torch.arange(n_genes))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    query_E, key_E = pairs[torch.randperm(len(pairs), generator=rng)[:n_positives]].T
    for head in heads:
        for target, regulator in zip(query_E.tolist(), key_E.tolist(), strict=True):
            k[head, regulator] += strength * q[head, target] / SCALE / q[head, target].square().sum() / 2
    return q, k, query_E, key_E


def table(q, k, query_E, key_E, query=None, key=None, keys_of_folds=None):
    """The feature matrix and labels of the universe, materialised, as scikit-learn takes them."""
    universe = torch.stack(reference.universe(q.shape[1], query, key), dim=1)
    if keys_of_folds is not None:
        universe = universe[torch.isin(universe[:, 1], keys_of_folds)]
    edges = set(zip(query_E.tolist(), key_E.tolist(), strict=True))
    x = reference.gather_pairs(q, k, *universe.T, scale=SCALE)
    return x.numpy(), np.array([1 if tuple(pair) in edges else -1 for pair in universe.tolist()])


def fitted(x, y, alpha=1.0, class_weight="balanced", *, positive=True):
    """Coefficients by scikit-learn, run until it cannot improve."""
    weight = {-1: 1.0, 1: class_weight} if isinstance(class_weight, float) else class_weight
    model = RidgeClassifier(
        alpha=alpha, class_weight=weight, positive=positive, fit_intercept=False, tol=1e-14, max_iter=100_000
    )
    return model.fit(x, y).coef_.ravel()


def same(got, expected):
    expected = np.asarray(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("class_weight", ["balanced", None, 1.0, 30.0, 1e3], ids=str)
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 50.0])
def test_equals_scikit_learn(alpha, class_weight, positive):
    q, k, *edges = planted()
    x, y = table(q, k, *edges)
    expected = fitted(x, y, alpha, class_weight, positive=positive)
    problem = ridge_problem(q, k, *edges, scale=SCALE)
    if positive and not expected.any():
        with pytest.raises(EmptySelectionError):
            problem.solve(alpha, class_weight)
        return
    got = problem.solve(alpha, class_weight, positive=positive)
    assert got.dtype == torch.float64
    same(got, expected)


def test_the_heads_scikit_learn_leaves_out_are_exactly_zero():
    q, k, *edges = planted(n_heads=12, seed=3)
    expected = fitted(*table(q, k, *edges), alpha=1e-3)
    chosen = ridge_problem(q, k, *edges, scale=SCALE).solve(1e-3) > 0
    assert chosen.tolist() == (expected > 1e-9).tolist()
    assert 0 < chosen.sum() < 12


def test_universe_and_folds_equal_scikit_learn():
    q, k, query_E, key_E = planted(n_positives=120)
    query, key = torch.randperm(40, generator=torch.Generator().manual_seed(2))[:31], torch.arange(3, 40, 2).flip(0)
    inside = torch.isin(query_E, query) & torch.isin(key_E, key)
    edges = query_E[inside], key_E[inside]
    fold = torch.arange(len(key)) % 4
    problem = ridge_problem(q, k, *edges, scale=SCALE, query=query, key=key, fold=fold)
    assert int(problem.n_pairs_F.sum()) == len(reference.universe(40, query, key)[0])
    assert int(problem.n_positives_F.sum()) == int(inside.sum())
    same(problem.solve(), fitted(*table(q, k, *edges, query, key)))
    for folds in ([0], [1, 3], [3, 1, 0]):
        chosen = key[torch.isin(fold, torch.tensor(folds))]
        for positive in (True, False):
            expected = fitted(*table(q, k, *edges, query, key, chosen), 0.1, positive=positive)
            same(problem.solve(0.1, positive=positive, folds=folds), expected)


def test_folds_add_up():
    q, k, *edges = planted()
    whole = ridge_problem(q, k, *edges, scale=SCALE)
    parts = ridge_problem(q, k, *edges, scale=SCALE, fold=torch.arange(40) % 7)
    for name in SUMS:
        assert len(getattr(parts, name)) == 7
        torch.testing.assert_close(getattr(parts, name).sum(0), getattr(whole, name)[0], rtol=1e-6, atol=0)


def test_known_log_sum_exp_and_chunks_change_nothing(monkeypatch):
    q, k, *edges = planted()
    problem = ridge_problem(q, k, *edges, scale=SCALE)
    monkeypatch.setattr("grnlab.heads.ridge._CHUNK_PAIRS", 7)
    again = ridge_problem(q, k, *edges, scale=SCALE, lse_HN=reference.row_lse(q, k, scale=SCALE).float())
    same(again.solve(), problem.solve())


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_order_of_genes_and_heads_does_not_matter(seed):
    q, k, query_E, key_E = planted(seed=seed)
    rng = torch.Generator().manual_seed(seed)
    heads, genes = torch.randperm(6, generator=rng), torch.randperm(40, generator=rng)
    place = genes.argsort()
    expected = ridge_problem(q, k, query_E, key_E, scale=SCALE).solve(0.1, positive=False)
    moved = q[heads][:, genes].contiguous(), k[heads][:, genes].contiguous()
    got = ridge_problem(*moved, place[query_E], place[key_E], scale=SCALE).solve(0.1, positive=False)
    same(got, expected[heads])


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    alpha=st.floats(1e-4, 100),
    class_weight=st.one_of(st.just("balanced"), st.floats(50, 1e4)),
)
def test_solution_is_the_optimum(seed, alpha, class_weight):
    """Karush, Kuhn and Tucker: the gradient is 0 at selected heads and does not fall at the others."""
    q, k, *edges = planted(seed=seed % 20)
    x, y = table(q, k, *edges)
    coef = ridge_problem(q, k, *edges, scale=SCALE).solve(alpha, class_weight).numpy()
    balanced = len(y) / 2 / np.where(y > 0, (y > 0).sum(), (y < 0).sum())
    weight = balanced if class_weight == "balanced" else np.where(y > 0, class_weight, 1.0)
    gradient = x.T @ (weight * (x @ coef - y)) + alpha * coef
    size = np.abs(x.T @ (weight * y)).max()
    assert (coef >= 0).all()
    assert np.abs(gradient[coef > 0]).max() <= 1e-5 * size
    assert gradient.min() >= -1e-5 * size


@pytest.mark.parametrize("n_genes", [120, 200])
def test_planted_heads_are_recovered_where_the_literal_settings_select_none(n_genes):
    """Prevalence 0.3 and 0.1 %: no class weight, no head, as in scikit-learn; balanced, the planted heads lead."""
    n_positives = 43
    q, k, *edges = planted(8, n_genes, heads=(2, 5), n_positives=n_positives, strength=4.0)
    problem = ridge_problem(q, k, *edges, scale=SCALE)
    prevalence = n_positives / n_genes / (n_genes - 1)
    with pytest.raises(EmptySelectionError, match=rf"are positive \({prevalence:.3%}\).*so does 'balanced'"):
        problem.solve(class_weight=None)
    x, y = table(q, k, *edges)
    assert not Ridge(alpha=1.0, positive=True, fit_intercept=False, tol=1e-12).fit(x, y).coef_.any()
    coef = problem.solve()
    assert set(coef.topk(2).indices.tolist()) == {2, 5}
    assert coef[[2, 5]].min() > 3 * coef[[0, 1, 3, 4, 6, 7]].max()


def test_the_class_weight_named_in_the_message_admits_a_head():
    q, k, *edges = planted(n_genes=120)
    problem = ridge_problem(q, k, *edges, scale=SCALE)
    with pytest.raises(EmptySelectionError) as error:
        problem.solve(class_weight=None)
    enough = float(str(error.value).split("A class_weight above ")[1].split(" admits")[0])
    best = int(str(error.value).split("the best, head ")[1].split(",")[0])
    assert problem.solve(class_weight=enough * 1.001).nonzero().ravel().tolist() == [best]
    with pytest.raises(EmptySelectionError):
        problem.solve(class_weight=enough * 0.999)


def test_heads_that_avoid_the_positives():
    q, k, *edges = planted(strength=-3.0, heads=range(6))
    with pytest.raises(EmptySelectionError, match="but no head prefers the positive pairs"):
        ridge_problem(q, k, *edges, scale=SCALE).solve()


def test_constant_heads():
    """Heads that attend to all alike carry nothing: they share one coefficient, and without penalty there is none."""
    q = torch.zeros(3, 20, 8)
    problem = ridge_problem(q, q, torch.tensor([0, 1]), torch.tensor([5, 6]), scale=SCALE)
    free = problem.solve(class_weight=1e3, positive=False)
    same(free, free[:1].expand(3))
    with pytest.raises(ValueError, match="depend linearly on one another; give an alpha above 0"):
        problem.solve(alpha=0.0, class_weight=1e3)


def test_one_positive_pair():
    q, k, query_E, key_E = planted()
    edges = query_E[:1], key_E[:1]
    same(ridge_problem(q, k, *edges, scale=SCALE).solve(), fitted(*table(q, k, *edges)))


def test_heads_that_see_nothing_of_the_universe():
    """Every query attends to gene 0 alone, which is no candidate: features of 0, explained without a division by 0."""
    q, k = torch.ones(1, 5, 4), torch.zeros(1, 5, 4)
    k[:, 0] = 1e3
    universe = {"query": torch.tensor([2, 3]), "key": torch.tensor([1, 4])}
    problem = ridge_problem(q, k, torch.tensor([2]), torch.tensor([1]), scale=1.0, **universe)
    with pytest.raises(EmptySelectionError, match="no head attends to any of them"):
        problem.solve()


@pytest.mark.parametrize(
    ("query_E", "key_E", "match"),
    [
        ([], [], "at least one pair"),
        ([1, 2], [3], "one gene of each"),
        ([1, 2], [3, 2], r"positive pair 1 \(query gene 2, key gene 2\) is a gene with itself"),
        ([1, 2], [3, 40], r"positive pair 1 \(query gene 2, key gene 40\) has a key gene beyond the 40 genes"),
        ([1, -2], [3, 4], r"positive pair 1 \(query gene -2, key gene 4\) has a query gene beyond"),
        ([1, 30], [3, 5], r"positive pair 1 \(query gene 30, key gene 5\) has a query gene that `query` lacks"),
        ([1, 2, 4], [3, 15, 16], r"positive pair 1 \(query gene 2, key gene 15\) has a key gene that .* 2 such pairs"),
        ([1, 2, 1], [3, 5, 3], r"positive pair 2 \(query gene 1, key gene 3\) is listed before"),
    ],
)
def test_positive_pairs_that_are_no_candidates(query_E, key_E, match):
    q, k, *_ = planted()
    edges = (torch.tensor(genes, dtype=torch.int64) for genes in (query_E, key_E))
    with pytest.raises(ValueError, match=match):
        ridge_problem(q, k, *edges, scale=SCALE, query=torch.arange(20), key=torch.arange(10))


def test_bad_arguments():
    q, k, query_E, key_E = planted()
    with pytest.raises(TypeError, match="as int64"):
        ridge_problem(q, k, query_E.int(), key_E, scale=SCALE)
    with pytest.raises(ValueError, match="same shape"):
        ridge_problem(q, k[:, 1:], query_E, key_E, scale=SCALE)
    with pytest.raises(ValueError, match="fold has dtype"):
        ridge_problem(q, k, query_E, key_E, scale=SCALE, fold=torch.zeros(3, dtype=torch.int64))
    problem = ridge_problem(q, k, query_E, key_E, scale=SCALE, fold=torch.arange(40) // 39)
    for alpha in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="must be a finite number of at least 0"):
            problem.solve(alpha)
    for class_weight in ("heavy", 0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="must be 'balanced', None or a weight above 0"):
            problem.solve(class_weight=class_weight)
    for folds in ([], [2], [-1], [0, 0]):
        with pytest.raises(ValueError, match="must be different numbers from 0 to 1"):
            problem.solve(folds=folds)
    without = ridge_problem(
        q, k, query_E[:1], torch.tensor([int(query_E[0] == 5) + 5]), scale=SCALE, fold=torch.arange(40) // 39
    )
    with pytest.raises(ValueError, match=r"folds \[1\] hold 0 positive of 39 pairs"):
        without.solve(folds=[1])
