import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Lasso, RidgeClassifier
from sklearn.metrics import average_precision_score

from grnlab.attention import AttentionMaps
from grnlab.attention.maps import GroupMaps
from grnlab.backbones.base import AttentionSpec
from grnlab.evaluate import GoldStandard, candidate_universe
from grnlab.heads import HeadSet, select
from grnlab.heads.ridge import EmptySelectionError
from grnlab.heads.select import SelectionConfig, select_heads

N_LAYERS, N_HEADS, N_GENES, D_HEAD = 2, 3, 60, 16
GOOD = (1, 2)  # the one head that attends to the edges
SPEC = AttentionSpec(n_layers=N_LAYERS, n_heads=N_HEADS, d_head=D_HEAD, scale=0.25, n_prefix=1)
NAMES = [f"G{number:02d}" for number in range(N_GENES)]


def gold(n_regulators=15, n_edges=90, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [(r, t) for r in range(n_regulators) for t in range(N_GENES) if r != t]
    chosen = [pairs[place] for place in rng.choice(len(pairs), n_edges, replace=False)]
    table = pd.DataFrame([(NAMES[r], NAMES[t]) for r, t in chosen], columns=["source", "target"])
    return GoldStandard.from_frame(table, name="planted")


def group(name, truth, *, seed, strength=2.0):
    """Random queries and keys; those of the good head point from targets to their regulators."""
    rng = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, N_LAYERS, N_HEADS, N_GENES, D_HEAD, generator=rng)
    place = {gene: number for number, gene in enumerate(NAMES)}
    code = torch.randn(N_GENES, D_HEAD, generator=rng)
    k[GOOD] = code
    for source, target in zip(truth.edges["source"], truth.edges["target"], strict=True):
        q[GOOD][place[target]] += strength * code[place[source]]
    return GroupMaps(name, 10 * q, 10 * k, torch.full((N_GENES,), 10), 10)


def maps(truth, *groups, seed=0, **options):
    genes = pd.DataFrame({"is_tf": False}, index=pd.Index(NAMES, name="gene"))
    made = {name: group(name, truth, seed=seed + number, **options) for number, name in enumerate(groups)}
    return AttentionMaps(genes, made, SPEC)


def dense(of, name, heads=None):
    return of.dense(name, None if heads is None else heads, rows=np.arange(N_GENES), symmetrize=True)


@pytest.mark.parametrize("method", ["ridge", "l1", "top"])
@pytest.mark.parametrize("split", ["regulator", "target", "both", "group"])
def test_finds_the_head_on_unseen_pairs(method, split):
    truth = gold()
    config = SelectionConfig(method=method, split=split, n_folds=3, n_heads=1, alpha=0.5 if method == "l1" else None)
    found = select_heads(maps(truth, "a", "b"), truth, config=config)
    assert GOOD in found.heads.pairs()
    if method != "ridge":
        assert found.heads.pairs() == [GOOD]
    assert found.summary()["gain"] > 0.3
    assert found.per_head.set_index(["layer", "head"])["auprc_ratio"].idxmax() == GOOD
    assert len(found.fold_heads) == (2 if split == "group" else 3)


def test_scores_are_those_of_the_pairs_that_were_held_out():
    truth = gold()
    of = maps(truth, "a")
    config = SelectionConfig(method="top", n_heads=2, n_folds=3, seed=4)
    found = select_heads(of, truth, config=config)
    universe = candidate_universe(truth, NAMES)
    names = np.random.default_rng(4).permutation([NAMES[gene] for gene in universe.regulators])
    fold = {name: number % 3 for number, name in enumerate(names)}
    for row in found.held_out.itertuples():
        number = int(row.fold.split()[1]) - 1
        own = {name for name in fold if fold[name] == number}
        trains = set(fold) - own
        targets = {NAMES[gene] for gene in universe.targets}
        pairs = [(r, t) for r in sorted(own) for t in sorted(targets) if r != t and not (t in trains and r in targets)]
        label = np.array([((truth.edges["source"] == r) & (truth.edges["target"] == t)).any() for r, t in pairs])
        r, t = (np.array([NAMES.index(name) for name in column]) for column in zip(*pairs, strict=True))
        assert (row.n_pairs, row.n_true) == (len(pairs), label.sum())
        for column, heads in (
            ("selected", found.fold_heads[row.fold].weights_LH),
            ("in_sample", found.heads.weights_LH),
            ("mean_of_heads", None),
        ):
            expected = average_precision_score(label, dense(of, "a", heads)[t, r]) / label.mean()
            assert getattr(row, column) == pytest.approx(expected, rel=1e-4)


def features(of, truth, groups):
    universe = candidate_universe(truth, NAMES)
    x, y = [], []
    for name in groups:
        each = [
            of.dense(name, HeadSet.of(SPEC, [(layer, head)]).weights_LH).T[
                np.ix_(universe.regulators, universe.targets)
            ]
            for layer in range(N_LAYERS)
            for head in range(N_HEADS)
        ]
        x.append(np.stack(each, -1)[universe.candidate_RT] * N_GENES)
        y.append(np.where(universe.truth_RT[universe.candidate_RT], 1.0, -1.0))
    return np.concatenate(x), np.concatenate(y)


def kernel_maps(truth, *groups):
    """Features as those of linear attention: not negative, and no softmax after them."""
    of = maps(truth, *groups, strength=0.6)
    made = {
        name: GroupMaps(name, pooled.q_sum_LHGD.div(20).exp(), pooled.k_sum_LHGD.div(20).exp(), pooled.count_G, 10)
        for name, pooled in of.groups.items()
    }
    return AttentionMaps(of.genes, made, dataclasses.replace(SPEC, kind="kernel"))


@pytest.mark.parametrize("kind", ["softmax", "kernel"])
def test_ridge_is_that_of_scikit_learn(kind):
    truth = gold()
    of = kernel_maps(truth, "a", "b") if kind == "kernel" else maps(truth, "a", "b", strength=0.6)
    found = select_heads(of, truth, config=SelectionConfig(alpha=3.0, n_folds=2))
    x, y = features(of, truth, ["a", "b"])
    model = RidgeClassifier(alpha=3.0, class_weight="balanced", positive=True, fit_intercept=False, tol=1e-12)
    expected = model.fit(x, y).coef_.ravel() > 1e-9
    assert (found.heads.weights_LH.flatten().numpy() > 0).tolist() == expected.tolist()
    assert 0 < expected.sum() < len(expected)


def test_lasso_is_that_of_scikit_learn():
    truth = gold()
    of = maps(truth, "a", strength=0.6)
    x, y = features(of, truth, ["a"])
    weight = np.where(y > 0, len(y) / (2 * (y > 0).sum()), len(y) / (2 * (y < 0).sum()))
    root = np.sqrt(weight)
    unit = float((x * (weight * y)[:, None]).sum(0).max())
    for share in (0.05, 0.4, 0.9):
        model = Lasso(alpha=share * unit / len(y), positive=True, fit_intercept=False, tol=1e-10, max_iter=100_000)
        expected = model.fit(x * root[:, None], y * root).coef_ > 0
        found = select_heads(of, truth, config=SelectionConfig("l1", alpha=share, n_folds=2))
        assert (found.heads.weights_LH.flatten().numpy() > 0).tolist() == expected.tolist()


def test_several_data_sets():
    truth = gold()
    found = select_heads(
        {"one": maps(truth, "a"), "two": maps(truth, "a", "b", seed=9)}, truth, config=SelectionConfig(split="dataset")
    )
    assert found.held_out[["fold", "group"]].values.tolist() == [["one", "one/a"], ["two", "two/a"], ["two", "two/b"]]


def test_the_same_seed_gives_the_same_choice_whatever_the_order_of_genes():
    truth = gold()
    of = maps(truth, "a", strength=0.5)
    order = np.random.default_rng(1).permutation(N_GENES)
    pooled = of.groups["a"]
    turned = GroupMaps("a", pooled.q_sum_LHGD[:, :, order], pooled.k_sum_LHGD[:, :, order], pooled.count_G[order], 10)
    again = AttentionMaps(of.genes.iloc[order], {"a": turned}, SPEC)
    first, second = (select_heads(each, truth) for each in (of, again))
    assert first.heads.pairs() == second.heads.pairs()
    pd.testing.assert_frame_equal(first.held_out, second.held_out, rtol=1e-4)


def test_rare_genes_leave_the_map():
    truth = gold()
    of = maps(truth, "a")
    pooled = of.groups["a"]
    count = pooled.count_G.clone()
    count[:3] = 4
    few = AttentionMaps(of.genes, {"a": GroupMaps("a", pooled.q_sum_LHGD, pooled.k_sum_LHGD, count, 10)}, SPEC)
    found = select_heads(few, truth, config=SelectionConfig(n_folds=2))
    universe = candidate_universe(truth, NAMES[3:])
    assert found.held_out["n_true"].sum() <= universe.n_true


def test_chance_is_called_chance():
    """Heads without signal: fitting looks good on its own pairs only."""
    gains, optimism = [], []
    for seed in range(6):
        truth = gold(seed=seed)
        config = SelectionConfig("top", n_heads=1, seed=seed)
        found = select_heads(maps(truth, "a", seed=100 + seed, strength=0.0), truth, config=config)
        gains.append(found.summary()["gain"])
        optimism.append(found.summary()["optimism"])
    assert abs(np.mean(gains)) < 0.15
    assert np.mean(optimism) > 0


def test_a_fold_that_selects_nothing_is_scored_with_all_heads(monkeypatch):
    truth = gold()
    fit = select._Fitter.fit

    def nothing_without_fold_2(self, parts):
        if not parts[0].reshape(1, -1)[0, 1]:
            raise EmptySelectionError
        return fit(self, parts)

    monkeypatch.setattr(select._Fitter, "fit", nothing_without_fold_2)
    held_out = select_heads(maps(truth, "a"), truth).held_out.set_index("fold")
    assert held_out.loc["fold 2", "selected"] == held_out.loc["fold 2", "mean_of_heads"]
    assert held_out.loc["fold 1", "selected"] != held_out.loc["fold 1", "mean_of_heads"]


def test_mistakes_are_named():
    truth = gold()
    of = maps(truth, "a")
    with pytest.raises(ValueError, match="method='best' is unknown"):
        SelectionConfig(method="best")
    with pytest.raises(ValueError, match="n_folds=1 must be at least 2"):
        SelectionConfig(n_folds=1)
    with pytest.raises(ValueError, match="split='group' needs at least two groups"):
        select_heads(of, truth, config=SelectionConfig(split="group"))
    with pytest.raises(ValueError, match="n_folds=50 is more than the 15 regulators of 'planted'"):
        select_heads(of, truth, config=SelectionConfig(n_folds=50))
    with pytest.raises(EmptySelectionError, match="class_weight=None selects no head"):
        select_heads(maps(truth, "a", strength=0.2), truth, config=SelectionConfig(class_weight=None))
    other = AttentionMaps(of.genes, of.groups, AttentionSpec(n_layers=3, n_heads=2, d_head=16, scale=0.25, n_prefix=1))
    with pytest.raises(ValueError, match="models with different attention"):
        select_heads({"a": of, "b": other}, truth)


def test_no_maps_and_nothing_to_rank():
    truth = gold()
    with pytest.raises(ValueError, match="maps is empty"):
        select_heads({}, truth)
    with pytest.raises(ValueError, match=r"gold is a str; expected a GoldStandard: read it with grnlab\.io\.read_gold"):
        select_heads({}, "trrust.tsv")
    every = [(NAMES[r], name) for r in range(10) for name in NAMES if name != NAMES[r]]
    every_edge = GoldStandard.from_frame(pd.DataFrame(every, columns=["source", "target"]), name="every")
    with pytest.raises(EmptySelectionError, match="no group has true and other pairs"):
        select_heads(maps(truth, "A"), every_edge, config=SelectionConfig(method="top"))


@pytest.mark.parametrize("setting", [{"n_folds": 2.5}, {"n_heads": 1.5}, {"seed": -1}, {"seed": "x"}])
def test_numbers_are_whole(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* must be a whole number"):
        SelectionConfig(**setting)
