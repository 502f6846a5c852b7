import logging
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from grnlab.network import GeneNetwork, permutation_test
from grnlab.network.hubs import CENTRALITIES
from grnlab.network.labellings import _compare
from grnlab.network.relabel import Labels
from grnlab.network.statistics import benjamini_hochberg, permutation_pvalues

NAMES = np.array([f"G{i:02d}" for i in range(10)], dtype=object)
SOURCE, TARGET = np.nonzero(~np.eye(10, dtype=bool))
GENES = pd.DataFrame(index=NAMES)


def correlations(cells, *, top_k=None):
    """infer: absolute correlation of every pair, or of the strongest of each target."""

    def infer(rows):
        weight = np.abs(np.corrcoef(cells[rows].T))[SOURCE, TARGET]
        edges = pd.DataFrame({"source": NAMES[SOURCE], "target": NAMES[TARGET], "weight": weight})
        network = GeneNetwork(edges, GENES, name="cells")
        return network if top_k is None else network.top(top_k, per="target")

    return infer


def conditions(n_a, n_b):
    return ["a"] * n_a + ["b"] * n_b


def planted(seed=0, n=80):
    """G00 drives G01, G02 and G03 in the first half of the cells, and nobody elsewhere."""
    rng = np.random.default_rng(seed)
    cells = rng.normal(size=(2 * n, 10))
    cells[:n, 1:4] += 2 * cells[:n, [0]]
    cells[n:, 1:4] *= np.sqrt(5)  # the same spread: means and variances tell nothing
    return cells


# --- right under the null


@pytest.fixture(scope="module")
def null_pvalues():
    """p-values of edges, hubs and overlap over data sets in which the conditions do not differ."""
    edges, pooled, hubs, overlap = [], [], [], []
    for seed in range(14):
        cells = np.random.default_rng(1_000 + seed).normal(size=(50, 10))
        for null, kept in (("edge", edges), ("pooled", pooled)):
            found = permutation_test(
                correlations(cells, top_k=2), conditions(15, 35), a="a", b="b", n_permutations=19, null=null, seed=seed
            )
            kept.append(found.edges["pvalue"].to_numpy())
            if null == "edge":
                hubs.append(found.hubs("pagerank")["pvalue"].to_numpy())
                overlap.append(found.overlap["pvalue"])
    return {"edge": edges, "pooled": pooled, "hubs": hubs, "overlap": np.array(overlap)}


@pytest.mark.parametrize("kind", ["edge", "pooled", "hubs"])
def test_pvalues_are_no_smaller_than_uniform(null_pvalues, kind):
    # groups of 15 and 35 cells, two edges a target: sizes differ and edges come and go, as in real networks
    every = np.concatenate(null_pvalues[kind])
    for alpha in (0.05, 0.1, 0.2, 0.5):
        by_data_set = [np.mean(p <= alpha + 1e-12) for p in null_pvalues[kind]]
        error = np.std(by_data_set) / math.sqrt(len(by_data_set))
        assert np.mean(every <= alpha + 1e-12) <= alpha + 3 * max(error, 0.01)


def test_hub_pvalues_are_uniform(null_pvalues):
    every = np.concatenate(null_pvalues["hubs"])
    assert every.mean() == pytest.approx(0.525, abs=0.06)  # (1 + 1/20) / 2
    assert np.mean(every <= 0.25) == pytest.approx(0.25, abs=0.08)


def test_overlap_pvalues_are_uniform(null_pvalues):
    assert 0.3 < null_pvalues["overlap"].mean() < 0.8
    assert len(np.unique(null_pvalues["overlap"])) > 5


def test_permutation_pvalues_are_exactly_uniform():
    # labellings without ties: the rank of the real one takes every value alike
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 4_000))
    p = permutation_pvalues(values[0], values[1:])
    counts = np.bincount(np.rint(p * 20).astype(int), minlength=21)[1:]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_ties_count_and_rounding_makes_none_less():
    assert permutation_pvalues(np.array([1.0, 0.0]), np.array([[1.0 - 1e-12, 0.0], [0.0, 0.0]])).tolist() == [2 / 3, 1]


def test_benjamini_hochberg_against_scipy():
    p = np.random.default_rng(0).random(50) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), scipy.stats.false_discovery_control(p))
    assert np.isnan(benjamini_hochberg(np.array([np.nan, 0.5]))).tolist() == [True, False]


# --- able to find


@pytest.fixture(scope="module")
def found():
    return permutation_test(correlations(planted()), conditions(80, 80), a="a", b="b", n_permutations=199)


def test_planted_edges_are_found_and_others_are_not(found):
    real = found.edges[found.edges["padj"] <= 0.05]
    ends = {frozenset(pair) for pair in real[["source", "target"]].to_numpy()}
    block = {"G00", "G01", "G02", "G03"}
    assert {frozenset(("G00", f"G0{i}")) for i in (1, 2, 3)} <= ends
    assert all(pair <= block for pair in ends)
    assert (real["difference"] > 0).all()
    np.testing.assert_allclose(found.edges["difference"], found.edges["weight_a"] - found.edges["weight_b"])


def test_planted_hub_is_found(found):
    hubs = found.hubs("out_strength")
    assert set(hubs.index[:4]) == {"G00", "G01", "G02", "G03"}
    assert hubs["padj"].iloc[0] <= 0.05
    assert not set(hubs.index[hubs["padj"] <= 0.05]) - {"G00", "G01", "G02", "G03"}
    for by in CENTRALITIES:
        table = found.hubs(by, n=3)
        assert table.columns.tolist() == ["a", "b", "difference", "z", "pvalue", "padj"]
        assert len(table) == 3
    assert len(found.centralities()) == len(CENTRALITIES) * 10
    with pytest.raises(ValueError, match="by must be one of"):
        found.hubs("fame")


def test_pooled_null_is_finer(found):
    pooled = permutation_test(
        correlations(planted()), conditions(80, 80), a="a", b="b", n_permutations=39, null="pooled"
    )
    assert pooled.edges["pvalue"].min() < 1 / 40
    real = pooled.edges[pooled.edges["padj"] <= 0.05]
    assert {frozenset(("G00", f"G0{i}")) for i in (1, 2, 3)} <= {
        frozenset(pair) for pair in real[["source", "target"]].to_numpy()
    }


def test_overlap_falls_when_wiring_differs():
    found = permutation_test(correlations(planted(), top_k=2), conditions(80, 80), a="a", b="b", n_permutations=39)
    assert found.overlap["jaccard"] < found.overlap["jaccard_null"]
    summary = found.summary()
    assert (summary["a"], summary["b"], summary["n_permutations"]) == ("a", "b", 39)
    assert repr(found).startswith("DifferentialNetworks('a' with 'b': ")
    assert found.a.name == "a"


def test_the_seed_decides(found):
    again = permutation_test(correlations(planted()), conditions(80, 80), a="a", b="b", n_permutations=199)
    assert again.edges.equals(found.edges)


def test_swapping_the_conditions_turns_the_sign(found):
    # labels by name decide, not their order
    swapped = permutation_test(correlations(planted()), conditions(80, 80), a="b", b="a", n_permutations=19)
    merged = found.edges.merge(swapped.edges, on=["source", "target"])
    np.testing.assert_allclose(merged["difference_x"], -merged["difference_y"])


# --- units and strata


def test_cells_of_donors_are_no_replicates():
    # three donors a condition, each wired by chance in its own way; conditions do not differ
    small_cells, small_units = 0, 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        donors = np.repeat(np.arange(6), 30)
        cells = rng.normal(size=(180, 10))
        for donor in range(6):
            cells[donors == donor] = cells[donors == donor] @ rng.normal(size=(10, 10))
        labels = np.where(donors < 3, "a", "b")
        arguments = {"a": "a", "b": "b", "n_permutations": 19}
        by_cell = permutation_test(correlations(cells), labels, **arguments)
        by_donor = permutation_test(correlations(cells), labels, units=donors, **arguments)
        small_cells += np.mean(by_cell.edges["pvalue"] <= 0.1) / 4
        small_units += np.mean(by_donor.edges["pvalue"] <= 0.1) / 4
    assert small_cells > 0.2
    assert small_units <= 0.15


def test_units_move_as_a_whole_and_strata_keep_their_sizes():
    labels = np.array(list("aabbaabbxx"))
    units = np.array(list("ppqqrrssuu"))
    given = Labels(labels, a="a", b="b", units=units, strata=list("1111222233"))
    assert [rows.tolist() for rows in given.rows(given.labellings(60, seed=0)[0])] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert given.n_labellings == 4
    seen = []
    for in_a in given.labellings(60, seed=0):
        rows_a, rows_b = given.rows(in_a)
        assert sorted([*rows_a, *rows_b]) == list(range(8))
        assert len(set(units[rows_a])) == 2
        assert not set(units[rows_a]) & set(units[rows_b])
        assert (rows_a < 4).sum() == 2  # one unit of each stratum
        seen.append(tuple(rows_a))
    assert len(seen) == len(set(seen)) == 4
    assert seen[0] == (0, 1, 4, 5)


def test_few_donors_give_no_p_value_below_one_over_the_labellings():
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(8), 5)
    cells = rng.normal(size=(40, len(GENES)))
    cells[donor < 4, 1] += 5 * cells[donor < 4, 0]
    labels = np.where(donor < 4, "a", "b")
    units = [f"d{number}" for number in donor]
    found = permutation_test(correlations(cells), labels, a="a", b="b", units=units, n_permutations=200)
    assert found.n_permutations == 69  # 8 over 4, less the real one
    assert found.edges["pvalue"].min() == pytest.approx(2 / 70)  # the real labelling and its mirror


def test_few_labellings_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        Labels(list("aabb"), a="a", b="b").tell(10)
    assert "only 6 ways" in caplog.text


def test_wrong_labels():
    infer = correlations(np.zeros((4, 10)))
    with pytest.raises(ValueError, match=r"b='c' is not among the labels, which are \['a', 'b'\]"):
        permutation_test(infer, list("aabb"), a="a", b="c")
    with pytest.raises(ValueError, match="name two conditions"):
        permutation_test(infer, list("aabb"), a="a", b="a")
    with pytest.raises(ValueError, match="units has 3 entries; expected 4"):
        permutation_test(infer, list("aabb"), a="a", b="b", units=list("ppq"))
    with pytest.raises(ValueError, match="unit 'q' has more than one condition"):
        permutation_test(infer, list("aabb"), a="a", b="b", units=list("pqqr"))
    with pytest.raises(ValueError, match="unit 'p' has more than one stratum"):
        permutation_test(infer, list("aabb"), a="a", b="b", units=list("ppqr"), strata=list("1233"))
    with pytest.raises(ValueError, match="strata is missing for row 1"):
        permutation_test(infer, list("aabb"), a="a", b="b", strata=["x", None, "x", "x"])
    with pytest.raises(ValueError, match="null must be one of"):
        permutation_test(infer, list("aabb"), a="a", b="b", null="normal")
    with pytest.raises(ValueError, match="min_frequency must be a share"):
        permutation_test(infer, list("aabb"), a="a", b="b", min_frequency=-1)


def test_networks_without_edges_and_with_other_genes():
    def infer(rows):
        genes = [f"G{i}" for i in range(2 + int(0 in rows))]
        return GeneNetwork.from_edges(pd.DataFrame({"source": [], "target": [], "weight": []}), genes, name="x")

    found = permutation_test(infer, list("aabb"), a="a", b="b", n_permutations=5)
    assert found.edges.empty
    assert found.overlap["jaccard"] == 1
    assert set(found.hubs().index) == {"G0", "G1"}  # G2 is in the network of one condition only


def test_a_gene_that_one_condition_lacks_is_no_differential_hub(build):
    """The marker is silent in b; a shuffle that mixes the conditions knows it on both sides."""

    def infer(rows):
        silent = not (rows < 6).any()
        edges = [("TF", "X", 1.0 + rows.mean()), ("TF", "Y", 2.0)]
        return build(edges if silent else [*edges, ("TF", "MARKER", 5.0)])

    found = permutation_test(infer, ["a"] * 6 + ["b"] * 6, a="a", b="b", n_permutations=30, null="pooled")
    assert "MARKER" not in found.hubs().index
    assert found.edges["target"].tolist() == ["X", "Y"]
    assert found.overlap["n_edges_shared"] == 2
    assert found.overlap["jaccard"] == 1


def test_a_gene_that_regulates_nobody_is_no_differential_hub_by_pagerank(build):
    """It has the smallest PageRank, which moves with the rest of the network."""

    def infer(rows):
        drive = 1.0 + 3.0 * (rows < 6).mean()
        return build([("T1", "Xa", drive), ("T2", "Xa", 1.0), ("T2", "Xb", 1.0), ("Xb", "T2", drive)])

    found = permutation_test(infer, ["a"] * 6 + ["b"] * 6, a="a", b="b", n_permutations=60, null="edge", seed=1)
    hubs = found.hubs("pagerank")
    assert (hubs.loc["Xa", ["pvalue", "padj"]] == 1).all()
    assert hubs.loc["T1", "padj"] < 0.1
    assert hubs.loc["Xa", "a"] > 0  # the value itself is told as it is


@pytest.mark.parametrize("null", ["edge", "pooled"])
def test_labellings_without_the_gene_do_not_count(null):
    """Missing labellings leave a p-value as if they had not been drawn."""
    difference = np.random.default_rng(0).normal(size=(20, 4))
    gaps = np.insert(difference, [3, 9], np.nan, axis=0)
    for whole, cut in zip(_compare(difference, null), _compare(gaps, null), strict=True):
        np.testing.assert_allclose(cut, whole)
