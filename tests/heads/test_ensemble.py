import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from grnlab.attention import PairScores
from grnlab.heads.ensemble import combine_scores

NAMES = [f"G{number}" for number in range(6)]


def scores(
    values, *, names=NAMES, regulators=(0, 1, 2), targets=(2, 3, 4, 5), method="one", signed=False, groups=("a",)
):
    genes = pd.DataFrame({"is_tf": True}, index=pd.Index(names, name="gene"))
    values = values if isinstance(values, dict) else dict.fromkeys(groups, values)
    return PairScores(
        genes, np.array(regulators), np.array(targets), values, dict.fromkeys(values, 7), method=method, signed=signed
    )


def drawn(seed):
    return np.random.default_rng(seed).normal(size=(3, 4))


def ranked(values):
    """Rank from 0 to 1 over the pairs that are no gene with itself."""
    seen = np.ones((3, 4), dtype=bool)
    seen[2, 0] = False
    found = np.full((3, 4), np.nan)
    found[seen] = (rankdata(values[seen]) - 1) / (seen.sum() - 1)
    return found


def test_mean_rank_is_the_mean_of_the_ranks():
    found = combine_scores([scores(drawn(0)), scores(drawn(1), method="two"), drawn(2)])
    expected = np.mean([ranked(drawn(seed)) for seed in range(3)], axis=0)
    np.testing.assert_allclose(found.group("a"), expected, rtol=1e-6)
    assert found.method == "mean_rank of one, two, array 2"
    assert found.n_cells == {"a": 7}
    assert [member["method"] for member in found.provenance["members"]] == ["one", "two", "array 2"]


def test_reciprocal_rank():
    found = combine_scores([scores(drawn(0)), drawn(1)], how="reciprocal_rank", k=2)
    expected = sum(1 / (2 + 11 - 10 * ranked(drawn(seed))) for seed in range(2))
    np.testing.assert_allclose(found.group("a"), expected, rtol=1e-6)


@given(st.integers(0, 500), st.sampled_from(["mean_rank", "reciprocal_rank"]))
def test_only_the_order_of_each_member_counts(seed, how):
    one, two = drawn(seed), drawn(seed + 1)
    first = combine_scores([scores(one), two], how=how).group("a")
    second = combine_scores([scores(np.exp(one)), 3 * two - 8], how=how).group("a")
    np.testing.assert_array_equal(first, second)
    swapped = combine_scores([scores(two), one], how=how).group("a")
    np.testing.assert_allclose(first, swapped, rtol=1e-6)


def test_genes_are_matched_by_name_and_the_common_ones_ranked():
    values = drawn(0)
    other_names = ["X", *reversed(NAMES)]  # G5 … G0 stand in rows 1 … 6
    other = scores(drawn(1), names=other_names, regulators=(6, 5, 0), targets=(1, 2, 0, 3), method="two")
    found = combine_scores([scores(values), other])
    assert found.genes.index[found.regulators].tolist() == ["G0", "G1"]
    assert found.genes.index[found.targets].tolist() == ["G3", "G4", "G5"]
    mine, theirs = values[:2, 1:], drawn(1)[:2][:, [3, 1, 0]]  # their targets: G5, G4, X, G3
    expected = [(rankdata(x).reshape(2, 3) - 1) / 5 for x in (mine, theirs)]
    np.testing.assert_allclose(found.group("a"), np.mean(expected, axis=0), rtol=1e-6)


def test_what_a_member_has_not_seen_is_last_there_and_what_none_has_seen_is_nan():
    one, two = drawn(0), drawn(1)
    one[0, 1] = two[0, 1] = one[1, 1] = np.nan
    found = combine_scores([scores(one), two]).group("a")
    assert np.isnan(found[0, 1])
    assert np.isnan(found[2, 0])
    assert np.isfinite(found).sum() == 10
    two_only = (rankdata(two[np.isfinite(found)]) - 1) / 9 / 2
    place = np.flatnonzero(np.isfinite(found).ravel()).tolist().index(5)
    assert found[1, 1] == pytest.approx(two_only[place])


def test_signs_are_those_of_the_signed_members():
    one, two = drawn(0), -drawn(0)
    found = combine_scores([scores(one, signed=True), drawn(3)])
    assert found.signed
    off = np.isfinite(found.group("a"))
    assert (
        np.sign(found.group("a"))[off & (found.group("a") != 0)] == np.sign(one)[off & (found.group("a") != 0)]
    ).all()
    np.testing.assert_allclose(found.strength("a"), np.mean([ranked(np.abs(one)), ranked(drawn(3))], axis=0), rtol=1e-6)
    opposed = combine_scores([scores(one, signed=True), scores(two, signed=True)])
    assert (opposed.group("a")[off] >= 0).all()  # no sign wins
    assert not combine_scores([scores(one), two]).signed


def test_groups_are_the_common_ones_and_arrays_may_differ_by_group():
    both = scores({"a": drawn(0), "b": drawn(1)})
    found = combine_scores([both, {"b": drawn(2)}])
    assert list(found.groups) == ["b"]
    np.testing.assert_allclose(found.group("b"), (ranked(drawn(1)) + ranked(drawn(2))) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ([scores(drawn(0))], {}, "holds 1 scores, 1 of them"),
        ([drawn(0), drawn(1)], {}, "holds 2 scores, 0 of them"),
        ([scores(drawn(0)), drawn(1).T], {}, r"members\[1\] has shape \(4, 3\)"),
        ([scores(drawn(0)), scores(drawn(1), groups=("b",))], {}, "no group is common"),
        ([scores(drawn(0)), scores(drawn(1), names=list("UVWXYZ"))], {}, "0 regulators and 0 targets in common"),
        ([scores(drawn(0)), drawn(1)], {"how": "best"}, "how='best'"),
        ([scores(drawn(0)), drawn(1)], {"how": "reciprocal_rank", "k": -1}, "k=-1"),
    ],
)
def test_bad_input(members, options, message):
    with pytest.raises(ValueError, match=message):
        combine_scores(members, **options)


def test_mean_score_keeps_how_much_stronger():
    sparse = np.zeros((3, 4))
    sparse[0, 1], sparse[1, 2] = 1.0, 5.0
    found = combine_scores([scores(sparse), scores(drawn(1), method="two")], how="mean_score")
    seen = ~np.isnan(found.group("a"))
    members = [values[seen] for values in (sparse, drawn(1))]
    expected = np.mean([(values - values.mean()) / values.std() for values in members], axis=0)
    np.testing.assert_allclose(found.group("a")[seen], expected, atol=1e-6)
    assert not found.signed


def test_mean_score_puts_what_a_member_has_not_observed_last_there():
    values = drawn(2)
    values[0, 0] = np.nan
    flat = scores(np.ones((3, 4)), method="flat")
    found = combine_scores([scores(values), flat], how="mean_score").group("a")
    assert found[0, 0] == np.nanmin(found)
