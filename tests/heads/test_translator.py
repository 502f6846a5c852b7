import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from grnlab.evaluate import GoldStandard
from grnlab.heads.features import pair_features
from grnlab.heads.fit_translator import TranslatorConfig, _cases, _folds, fit_translator
from grnlab.heads.translator import Translator

FEW = TranslatorConfig(n_folds=3)


@pytest.fixture
def examples(maps_of_heads):
    """Two data sets with gold standards of their own."""
    return {
        name: (pair_features(maps_of_heads.make(gold, "a", "b", seed=10 * seed)), gold)
        for seed, name in enumerate(["one", "two"])
        for gold in [maps_of_heads.gold(seed, name=f"gold of {name}")]
    }


def test_beats_the_mean_of_heads_on_unseen_regulators_and_data_sets(examples):
    found = fit_translator(examples, config=FEW)
    table = found.summary()
    assert table.index.tolist() == ["regulator", "regulator and target", "dataset", "dataset and regulator"]
    assert (table["translator"] > table["mean_of_heads"] + 0.5).all()
    assert (table["translator_per_regulator"] > table["mean_per_regulator"] + 0.05).all()
    assert "layer 1 head 2" in found.coefficients().index[0]
    assert "unseen dataset and regulator" in repr(found)


def test_learns_nothing_from_edges_drawn_at_random(examples, maps_of_heads):
    """Features of one network, gold standards of others: whatever is above chance on unseen pairs would be a leak."""
    random = {
        name: (features, maps_of_heads.gold(seed))
        for seed, (name, (features, _)) in enumerate(examples.items(), start=90)
    }
    table = fit_translator(random, config=FEW).summary()
    assert table["translator_per_regulator"].between(0.4, 0.6).all()
    table = table.drop(index="regulator and target")  # too few pairs for an AUPRC
    assert table["translator"].between(0.8, 1.25).all()
    assert (table["in_sample"] > table["translator"] + 0.05).all()


def test_held_out_scores_are_those_of_the_pairs_named(examples):
    features, gold = examples["one"]
    found = fit_translator({"one": (features, gold)}, config=FEW)
    names = np.array(features.genes.index)
    regulators = sorted(set(gold.edges["source"]))
    order = np.random.default_rng(0).permutation(regulators)
    fold = {name: number % 3 for number, name in enumerate(order)}
    true = set(zip(gold.edges["source"], gold.edges["target"], strict=True))
    targets = set(gold.edges["target"])
    mean = features.block("b")[features.names.index("attention")]
    row = found.held_out.query("group == 'b' and fold == 'fold 2' and split == 'regulator'").iloc[0]
    own = [name for name in regulators if fold[name] == 1]
    pairs = [
        (r, t)
        for r in own
        for t in sorted(targets)
        if r != t and not (t in regulators and fold[t] != 1 and r in targets)
    ]
    label = np.array([pair in true for pair in pairs])
    place = {name: number for number, name in enumerate(names)}
    score = np.array([mean[place[r], place[t]] for r, t in pairs])
    assert (row["n_pairs"], row["n_true"]) == (len(pairs), label.sum())
    assert row["mean_of_heads"] == pytest.approx(average_precision_score(label, score) / label.mean())
    of_each = [
        roc_auc_score(label[inside], score[inside])
        for r in own
        for inside in [np.array([pair[0] == r for pair in pairs])]
        if 0 < label[inside].sum() < inside.sum()
    ]
    assert row["mean_per_regulator"] == pytest.approx(np.mean(of_each))


def test_no_gene_of_a_test_pair_was_fitted_on(examples):
    cases = [case for name, example in examples.items() for case in _cases(name, *example, FEW)]
    for split, fold, fit, test in _folds(cases, FEW):
        fitted, tested = (
            {
                (case.dataset if "dataset" in split else "", case.regulators[r], case.targets[t])
                for case, pairs_RT in parts
                for r, t in np.argwhere(pairs_RT)
            }
            for parts in (fit, test)
        )
        assert fitted, (split, fold)
        assert tested, (split, fold)
        assert not fitted & tested
        if "dataset" in split:
            assert not {d for d, _, _ in fitted} & {d for d, _, _ in tested}
        if "regulator" in split:
            assert not {r for _, r, _ in fitted} & {r for _, r, _ in tested}
            assert not {(r, t) for _, r, t in fitted} & {(t, r) for _, r, t in tested}
        if "target" in split:
            assert not {t for _, _, t in fitted} & {t for _, _, t in tested}


def test_predicts_another_data_set_and_knows_it_by_no_name(examples, maps_of_heads):
    found = fit_translator(examples, config=FEW)
    gold = maps_of_heads.gold(7)
    maps = maps_of_heads.make(gold, "c", seed=70)
    scores = found.predict(pair_features(maps))
    assert scores.group("c").shape == (20, 60)
    true = set(zip(gold.edges["source"], gold.edges["target"], strict=True))
    seen = ~np.isnan(scores.group("c"))
    names = maps_of_heads.names
    label = np.array([[(r, t) in true for t in names] for r in names[:20]])
    assert average_precision_score(label[seen], scores.group("c")[seen]) > 0.4
    renamed = replace(maps, genes=maps.genes.set_axis([f"X{i}" for i in range(60)]))
    table = maps.expression["c"].set_axis(renamed.genes.index)
    again = found.predict(pair_features(replace(renamed, expression={"c": table})))
    np.testing.assert_array_equal(again.group("c"), scores.group("c"))


def test_unseen_genes_are_nan(examples, maps_of_heads):
    found = fit_translator(examples, config=FEW)
    maps = maps_of_heads.make(maps_of_heads.gold(7), "c")
    maps.groups["c"].count_G[3] = 1
    scores = found.predict(pair_features(maps)).group("c")
    assert np.isnan(scores[3]).all()
    assert np.isnan(scores[:, 3]).all()
    assert np.isnan(scores).sum() == 60 + 2 * 19


def test_a_group_with_many_edges_weighs_no_more(maps_of_heads):
    gold = maps_of_heads.gold()
    features = pair_features(maps_of_heads.make(gold, "a"))
    config = TranslatorConfig(n_folds=2, negatives=10_000)
    once = fit_translator({"x": (features, gold)}, config=config)
    twice = fit_translator({"x": (features, gold), "y": (features, gold)}, config=config)
    np.testing.assert_allclose(once.coef_F, twice.coef_F, atol=2e-3)


def test_saved_and_read_back(examples, maps_of_heads, tmp_path):
    found = fit_translator(examples, config=FEW)
    found.save(tmp_path / "translator.json")
    loaded = Translator.load(tmp_path / "translator.json")
    assert loaded.names == found.names
    assert loaded.provenance == json.loads(json.dumps(found.provenance))
    assert loaded.provenance["examples"]["two"] == {"gold": "gold of two", "groups": ["a", "b"]}
    pd.testing.assert_frame_equal(loaded.summary(), found.summary(), rtol=1e-4)
    features = pair_features(maps_of_heads.make(maps_of_heads.gold(7), "c"))
    np.testing.assert_array_equal(loaded.predict(features).group("c"), found.predict(features).group("c"))
    with pytest.raises(FileExistsError):
        found.save(tmp_path / "translator.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "grnlab translator", "format": 99}', "\x00"])
def test_a_file_that_is_no_translator(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="is no translator of format 1"):
        Translator.load(tmp_path / "x.json")


def test_other_features_are_refused_and_other_weights_are_said(examples, maps_of_heads, caplog):
    found = fit_translator(examples, config=FEW)
    maps = maps_of_heads.make(maps_of_heads.gold(), "a")
    with pytest.raises(ValueError, match="12 missing"):
        found.predict(pair_features(maps, heads=False))
    with caplog.at_level(logging.WARNING):
        found.predict(pair_features(replace(maps, provenance={"weights_sha256": "other"})))
    assert "heads of other weights" in caplog.text


def test_bad_input(examples, maps_of_heads):
    features, gold = examples["one"]
    with pytest.raises(ValueError, match="examples is empty"):
        fit_translator({})
    other = pair_features(maps_of_heads.make(gold, "a"), heads=False)
    with pytest.raises(ValueError, match="'two' has other features"):
        fit_translator({"one": (features, gold), "two": (other, gold)})
    strangers = GoldStandard.from_frame(pd.DataFrame({"source": ["X"], "target": ["Y"]}), name="strangers")
    with pytest.raises(ValueError, match="no group of the examples has 10 true edges"):
        fit_translator({"one": (features, strangers)})
    with pytest.raises(ValueError, match="n_folds=50 is more than the 20 regulators"):
        fit_translator(examples, config=TranslatorConfig(n_folds=50))
    with pytest.raises(ValueError, match="l2=0"):
        TranslatorConfig(l2=0)


@pytest.mark.parametrize("setting", [{"n_folds": 2.5}, {"negatives": 1.5}, {"seed": -1}, {"l2": float("inf")}])
def test_settings_out_of_range_are_told(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}="):
        TranslatorConfig(**setting)
