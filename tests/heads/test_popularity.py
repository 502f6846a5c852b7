import numpy as np
import pandas as pd
import pytest

from grnlab.attention import PairScores
from grnlab.evaluate import GoldStandard
from grnlab.heads import Popularity, TranslatorConfig, fit_translator, known_scores, overlap, pair_features

NAMES = [f"G{number:02d}" for number in range(60)]


def gold_of(*pairs, name="toy"):
    return GoldStandard.from_frame(pd.DataFrame(pairs, columns=["source", "target"]), name=name)


@pytest.fixture
def popular():
    """Twenty regulators of which each target has its own chance: what is known of single genes is all there is."""
    rng = np.random.default_rng(0)
    chance = rng.beta(0.5, 2.0, 60)
    true = rng.random((20, 60)) < chance
    return gold_of(*((NAMES[r], NAMES[t]) for r, t in zip(*np.nonzero(true), strict=True) if r != t))


@pytest.fixture
def scores():
    values = np.random.default_rng(1).random((20, 60))
    genes = pd.DataFrame({"is_tf": np.arange(60) < 20}, index=pd.Index(NAMES, name="gene"))
    return PairScores(genes, np.arange(20), np.arange(60), {"all": values}, {"all": 9}, "noise")


def test_counts_are_those_of_regulators_of_other_folds(popular):
    known = Popularity((popular,))
    fold = dict(zip(NAMES, known.fold(NAMES), strict=True))
    of_target, of_regulator = known.of(NAMES[:20], NAMES)
    for row in (0, 7):
        edges = popular.edges[popular.edges["source"].map(fold) != fold[NAMES[row]]]
        count = np.log1p(edges["target"].value_counts().reindex(NAMES).fillna(0).to_numpy())
        np.testing.assert_allclose(of_target[row], count / count.max(), rtol=1e-6)
        np.testing.assert_allclose(of_regulator[row], count[row] / count.max(), rtol=1e-6)


def test_a_regulator_is_told_nothing_of_its_own_edges(popular):
    edges = popular.edges
    own = edges["source"] == NAMES[3]
    without = GoldStandard.from_frame(edges[~own], name="toy")
    for one, two in zip(Popularity((popular,)).of([NAMES[3]], NAMES), Popularity((without,)).of([NAMES[3]], NAMES),
                        strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, two)


def test_regulators_left_out_do_not_count(popular):
    out = NAMES[5:9]
    kept = GoldStandard.from_frame(popular.edges[~popular.edges["source"].isin(out)], name="toy")
    one = Popularity((popular,)).leave_out(out[:2]).leave_out(out[2:]).of(NAMES[:20], NAMES)
    two = Popularity((kept,)).of(NAMES[:20], NAMES)
    np.testing.assert_array_equal(one, two)


def test_gold_standards_count_alike(popular):
    other = gold_of(("G01", "G30"), ("G02", "G31"), name="other")
    both = Popularity((popular, other)).of(NAMES[:4], NAMES)[0]
    each = [Popularity((one,)).of(NAMES[:4], NAMES)[0] for one in (popular, other)]
    np.testing.assert_allclose(both, np.mean(each, axis=0), rtol=1e-6)


def test_what_popularity_knows_is_found_by_a_translator_and_kept_from_those_without_it(scores, popular):
    config = TranslatorConfig(n_folds=3)
    for known, lowest, highest in ((None, 0.8, 1.2), ({"judge": Popularity((popular,))}, 1.5, 9.0)):
        features = pair_features(scores, expression=False, known=known)
        found = fit_translator({"one": (features, popular)}, config=config)
        assert lowest < found.summary().loc["regulator", "translator"] < highest


def test_features_of_popularity_have_the_same_scale_anywhere(scores, popular):
    features = pair_features(scores, expression=False, known={"judge": Popularity((popular,))})
    assert features.names == (
        "noise",
        "known regulators of the target, judge",
        "known regulators of the regulator, judge",
    )
    block = features.block("all")
    np.testing.assert_allclose(block[1:].mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(block[1:].std(axis=(1, 2)), 1, atol=1e-4)
    assert np.corrcoef(block[1, 0], Popularity((popular,)).of(["G00"], NAMES)[0][0])[0, 1] == pytest.approx(1)


def test_known_edges_are_worth_more_where_they_are_rare(scores):
    rare = gold_of(("G00", "G30"), name="rare")
    common = gold_of(*(("G01", name) for name in NAMES[10:50]), ("G00", "G31"), name="common")
    found = known_scores(scores, [rare, common]).group("all")
    assert found[0, 30] > found[0, 31] > 0
    assert found[0, 30] == pytest.approx(np.log(60))
    assert np.nanmax(found[2]) == 0


def test_pairs_not_observed_stay_so(scores, popular):
    scores.groups["all"][2, 3] = np.nan
    for of in ("edges", "popularity"):
        found = known_scores(scores, [popular], of=of).group("all")
        assert np.isnan(found[2, 3])
        assert np.isnan(found).sum() == 1 + 20  # and each regulator with itself


def test_overlap_is_that_of_the_smaller():
    one, two = gold_of(("A", "B"), ("A", "C"), ("D", "A")), gold_of(("A", "B"), ("B", "A"))
    assert overlap(one, two) == overlap(two, one) == 0.5


def test_bad_input_is_told(scores, popular):
    with pytest.raises(ValueError, match="of='degree' is unknown"):
        known_scores(scores, [popular], of="degree")
    with pytest.raises(ValueError, match="0 gold standards"):
        known_scores(scores, [])
    with pytest.raises(ValueError, match="golds holds a DataFrame; expected gold standards"):
        known_scores(scores, [popular.edges])
    with pytest.raises(ValueError, match="like is a DataFrame; expected scores of pairs"):
        known_scores(scores.genes, [popular])


def test_one_gold_standard_or_an_iterator_is_a_list(scores, popular):
    for of in ("edges", "popularity"):
        expected = known_scores(scores, [popular], of=of)
        for golds in (popular, iter([popular])):
            for name, values in known_scores(scores, golds, of=of).groups.items():
                np.testing.assert_array_equal(values, expected.groups[name])
