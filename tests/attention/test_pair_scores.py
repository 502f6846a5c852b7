import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from grnlab.attention import PairScores

GENES = pd.DataFrame({"token": range(6), "is_tf": [True] * 3 + [False] * 3}, index=[f"G{n}" for n in range(6)])


def scores(*, square=False, signed=False, seed=0, missing=0.0, groups=("A", "B")):
    rng = np.random.default_rng(seed)
    rows = np.arange(6) if square else np.array([2, 0])
    values = {name: rng.normal(size=(len(rows), 6)) for name in groups}
    for array in values.values():
        array[rng.random(array.shape) < missing] = np.nan
    n_cells = dict.fromkeys(groups, 7)
    return PairScores(GENES, rows, np.arange(6), values, n_cells, method="jacobian", signed=signed)


def test_a_gene_and_itself_is_never_scored():
    found = scores().group("A")
    assert found.dtype == np.float32
    assert np.isnan(found).sum() == 2
    assert np.isnan(found[0, 2])
    assert np.isnan(found[1, 0])


def test_what_was_given_is_not_changed():
    given = np.ones((6, 6))
    PairScores(GENES, np.arange(6), np.arange(6), {"A": given}, {"A": 1}, method="x")
    assert (given == 1).all()


@pytest.mark.parametrize("signed", [False, True])
def test_strength_and_rank(signed):
    found = scores(signed=signed, missing=0.2)
    values = found.group("A")
    want = np.abs(values) if signed else values
    np.testing.assert_array_equal(found.strength("A"), want)
    seen = ~np.isnan(want)
    rank = found.rank("A")
    np.testing.assert_array_equal(np.isnan(rank), ~seen)
    np.testing.assert_allclose(rank[seen], (rankdata(want[seen]) - 1) / (seen.sum() - 1), rtol=1e-6)


def test_ties_share_a_rank():
    tied = PairScores(GENES, np.array([0]), np.arange(1, 5), {"A": np.array([[1.0, 2, 2, 3]])}, {"A": 1}, method="x")
    np.testing.assert_allclose(tied.rank("A"), [[0, 0.5, 0.5, 1]])


@given(seed=st.integers(0, 1_000), signed=st.booleans(), missing=st.sampled_from([0.0, 0.3]))
def test_symmetrised_is_symmetric_and_idempotent(seed, signed, missing):
    found = scores(square=True, seed=seed, signed=signed, missing=missing)
    once = found.symmetrised()
    np.testing.assert_array_equal(once.group("A"), once.group("A").T)
    np.testing.assert_allclose(once.symmetrised().group("A"), once.group("A"), rtol=1e-6)
    strength, values = found.strength("A"), found.group("A")
    for i, j in zip(*np.triu_indices(6, 1), strict=True):
        pair = [x for x in (strength[i, j], strength[j, i]) if not np.isnan(x)]
        if not pair:
            assert np.isnan(once.group("A")[i, j])
            continue
        sign = np.sign(np.nansum([values[i, j], values[j, i]])) if signed else 1
        np.testing.assert_allclose(once.group("A")[i, j], sign * np.mean(pair), rtol=1e-5)


@pytest.mark.parametrize("square", [False, True])
def test_apc_is_its_formula_and_removes_gene_effects(square):
    found = scores(square=square, signed=True, missing=0.1)
    s = found.strength("A").astype(float)
    want = s - np.nanmean(s, 1, keepdims=True) * np.nanmean(s, 0, keepdims=True) / np.nanmean(s)
    corrected = found.apc()
    np.testing.assert_allclose(corrected.group("A"), want, rtol=1e-4, atol=1e-6)
    assert not corrected.signed
    product = np.outer([2.0, 3.0], np.arange(1, 5))
    plain = PairScores(GENES, np.array([4, 5]), np.arange(4), {"A": product}, {"A": 1}, method="x")
    np.testing.assert_allclose(plain.apc().group("A"), 0, atol=1e-6)


def test_steps_are_recorded():
    assert scores(square=True).symmetrised().apc().provenance["steps"] == ["symmetrised", "apc"]


def test_subset_keeps_the_scores_of_its_pairs():
    found = scores(square=True)
    part = found.on(["G4", "G1"], targets=["G0", "G4", "G5"])
    assert part.regulators.tolist() == [1, 4]
    assert part.targets.tolist() == [0, 4, 5]
    np.testing.assert_array_equal(part.group("B"), found.group("B")[np.ix_([1, 4], [0, 4, 5])])
    assert found.on(["G1", "G4"]).symmetrised().group("A").shape == (2, 2)


def test_groups_of_their_own():
    found = scores()
    alone = PairScores(GENES, found.regulators, found.targets, {"B": found.group("B")}, {"B": 7}, method="jacobian")
    np.testing.assert_array_equal(alone.rank("B"), found.rank("B"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regulators": np.array([0, 9])}, "between 0 and 5"),
        ({"regulators": np.array([0, 0])}, "distinct row numbers"),
        ({"targets": np.array([0.5])}, "distinct row numbers"),
        ({"groups": {"A": np.zeros((3, 6))}}, r"shape \(3, 6\); expected \(2, 6\)"),
        ({"n_cells": {}}, r"n_cells has the groups \[\]"),
    ],
)
def test_errors(change, message):
    good = {"regulators": np.array([2, 0]), "targets": np.arange(6), "groups": {"A": np.zeros((2, 6))}}
    with pytest.raises(ValueError, match=message):
        PairScores(GENES, **(good | {"n_cells": {"A": 1}, "method": "x"} | change))


def test_errors_of_methods():
    found = scores()
    with pytest.raises(KeyError, match=r"'C' is unknown; there are \['A', 'B'\]"):
        found.strength("C")
    with pytest.raises(ValueError, match="needs the same genes as regulators and targets, got 2 and 6"):
        found.symmetrised()
    with pytest.raises(ValueError, match=r"1 names that the scores do not have: \['X'\]"):
        found.on(["X"])
    with pytest.raises(ValueError, match="leave 0 regulators"):
        found.on(["G5"])


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_scores_are_refused(value):
    values = np.ones((1, 6))
    values[0, 3] = value
    with pytest.raises(ValueError, match=r"group 'A' hold 1 infinite values.* NaN where"):
        PairScores(GENES, np.array([0]), np.arange(6), {"A": values}, {"A": 1}, method="x")


def test_genes_named_twice_are_refused():
    genes = GENES.set_axis(["G0", "G1", "G1", "G3", "G4", "G5"])
    with pytest.raises(ValueError, match=r"genes names \['G1'\] more than once"):
        PairScores(genes, np.array([0]), np.arange(6), {"A": np.ones((1, 6))}, {"A": 1}, method="x")
