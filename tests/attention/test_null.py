import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, kstest

from grnlab.attention import PairScores
from grnlab.attention.null import matched_null, shuffle_genes
from grnlab.attention.null_statistics import gene_bins

N_TFS, N_GENES = 60, 600


def drawn(seed=0, *, shape="lognormal", edges=(), strength=6.0, by_expression=2.0, signed=False):
    """Scores that grow with the expression of both genes, with noise of a given shape and planted edges."""
    rng = np.random.default_rng(seed)
    level = rng.random(N_GENES)
    genes = pd.DataFrame({"is_tf": np.arange(N_GENES) < N_TFS}, index=pd.Index([f"G{i}" for i in range(N_GENES)]))
    table = pd.DataFrame({"mean_counts": np.exp(level), "fraction_expressed": level.clip(max=0.9)}, index=genes.index)
    noise = rng.normal(size=(N_TFS, N_GENES))
    for edge in edges:
        noise[edge] = strength
    noise += by_expression * (level[:N_TFS, None] + level)
    values = {"lognormal": np.exp(noise), "normal": noise, "square": (noise + 12) ** 2}[shape]
    if signed:
        values *= rng.choice([-1, 1], values.shape)
    scores = PairScores(
        genes, np.arange(N_TFS), np.arange(N_GENES), {"all": values}, {"all": 9}, method="attention", signed=signed
    )
    return scores, {"all": table}


def observed(array):
    return array[~np.isnan(array)]


@pytest.mark.parametrize("shape", ["lognormal", "normal", "square"])
@pytest.mark.parametrize("seed", [0, 1])
def test_p_values_are_uniform_without_signal(shape, seed):
    found = matched_null(*drawn(seed, shape=shape), n_bins=3)
    p = observed(found.p["all"])
    assert len(p) == N_TFS * N_GENES - N_TFS
    for share in (0.01, 0.05, 0.2, 0.5, 0.9):
        assert (p <= share).mean() == pytest.approx(share, abs=0.25 * share)
    assert kstest(p, "uniform").statistic < 0.04
    assert (found.fdr["all"] <= 0.05).sum() <= 5


def test_without_matching_expression_would_pass_for_signal():
    """The control that the bins do anything: one class for all finds pairs of highly expressed genes."""
    scores, expression = drawn(0, by_expression=6.0)
    matched = matched_null(scores, expression, n_bins=3)
    flat = {"all": expression["all"].assign(mean_counts=1.0, fraction_expressed=1.0)}
    unmatched = matched_null(scores, flat, n_bins=1)
    level = expression["all"]["mean_counts"].to_numpy()
    product = level[:N_TFS, None] * level
    seen = ~np.isnan(matched.z["all"])
    assert np.corrcoef(unmatched.z["all"][seen], product[seen])[0, 1] > 0.7
    assert abs(np.corrcoef(matched.z["all"][seen], product[seen])[0, 1]) < 0.25


@pytest.mark.parametrize("signed", [False, True])
def test_planted_edges_come_out(signed):
    edges = [(number, 100 + 3 * number) for number in range(30)]
    found = matched_null(*drawn(2, edges=edges, signed=signed), n_bins=3)
    table = found.table("all", max_fdr=0.05)
    true = {(f"G{r}", f"G{t}") for r, t in edges}
    named = set(zip(table["source"], table["target"], strict=True))
    assert len(named & true) >= 27
    assert len(named - true) <= 4
    assert table["p"].is_monotonic_increasing
    assert (table["padj"] <= 0.05).all()
    assert len(found.table("all", max_fdr=1)) == N_TFS * N_GENES - N_TFS


def test_fdr_is_that_of_benjamini_and_hochberg_and_unseen_pairs_stay_nan():
    scores, expression = drawn(0)
    scores.groups["all"][3, 50:60] = np.nan
    found = matched_null(scores, expression)
    missing = np.isnan(scores.group("all"))
    for array in (found.z, found.p, found.fdr):
        np.testing.assert_array_equal(np.isnan(array["all"]), missing)
    np.testing.assert_allclose(observed(found.fdr["all"]), false_discovery_control(observed(found.p["all"])), rtol=1e-5)


def test_scale_has_no_effect():
    scores, expression = drawn(0)
    scaled = PairScores(
        scores.genes, scores.regulators, scores.targets, {"all": scores.group("all") * 1e-4}, {"all": 9}, method="x"
    )
    first, second = (matched_null(one, expression).z["all"] for one in (scores, scaled))
    np.testing.assert_allclose(observed(first), observed(second), atol=1e-2)


def test_a_null_of_its_own_counts_what_is_as_large():
    scores, expression = drawn(0, edges=[(0, 100)], strength=9.0)
    shuffled, _ = drawn(7)
    found = matched_null(scores, expression, null=shuffled, n_bins=1)
    bin_R = gene_bins(*expression["all"].iloc[:N_TFS].to_numpy().T, 1, smallest=4)
    bin_T = gene_bins(*expression["all"].to_numpy().T, 1, smallest=7)
    for r, t in [(0, 100), (5, 7), (59, 599)]:
        block = shuffled.group("all")[np.ix_(bin_R == bin_R[r], bin_T == bin_T[t])]
        block = block[~np.isnan(block)]
        expected = (1 + (block >= scores.group("all")[r, t]).sum()) / (1 + len(block))
        assert found.p["all"][r, t] == pytest.approx(expected)
        assert found.z["all"][r, t] == pytest.approx((scores.group("all")[r, t] - block.mean()) / block.std(), rel=1e-3)
    assert found.p["all"][0, 100] == np.nanmin(found.p["all"])


def test_p_values_against_shuffled_cells_are_uniform_without_signal():
    scores, expression = drawn(0)
    null, _ = drawn(0)
    rng = np.random.default_rng(1)
    level = np.log(expression["all"]["mean_counts"].to_numpy())
    values = np.exp(rng.normal(size=(N_TFS, N_GENES)) + 2 * (level[:N_TFS, None] + level))
    null = PairScores(null.genes, null.regulators, null.targets, {"all": values}, {"all": 9}, method="x")
    p = observed(matched_null(scores, expression, null=null).p["all"])
    assert kstest(p, "uniform").statistic < 0.03


@given(st.integers(1, 200), st.integers(1, 10), st.integers(0, 100))
def test_bins_are_of_like_size_and_ordered(n_genes, n_bins, seed):
    rng = np.random.default_rng(seed)
    mean, detection = rng.random(n_genes), rng.random(n_genes)
    bins = gene_bins(mean, detection, n_bins, smallest=4)
    sizes = np.bincount(bins)
    assert sizes.min() >= min(4, n_genes)
    assert sizes.max() - sizes.min() <= 2
    halves = bins // 2
    for number in range(halves.max()):
        assert mean[halves == number].max() <= mean[halves == number + 1].min()
    for number in range(0, bins.max(), 2):
        assert detection[bins == number].max() <= detection[bins == number + 1].min()


def test_equal_scores_are_no_edges():
    scores, expression = drawn(0)
    flat = PairScores(
        scores.genes, scores.regulators, scores.targets, {"all": np.ones((N_TFS, N_GENES))}, {"all": 9}, method="x"
    )
    assert (observed(matched_null(flat, expression).p["all"]) == 0.5).all()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda e: {}, {}, "no expression of group 'all'"),
        (lambda e: {"all": e["all"].drop(columns="mean_counts")}, {}, r"lacks the columns \['mean_counts'\]"),
        (lambda e: {"all": e["all"].iloc[3:]}, {}, "lacks 3 genes, the first 'G0'"),
        (lambda e: e, {"n_bins": 0}, "n_bins=0"),
        (lambda e: {"all": pd.concat([e["all"], e["all"].iloc[:1]])}, {}, "names 'G0' more than once"),
    ],
)
def test_bad_input(change, options, message):
    scores, expression = drawn(0)
    with pytest.raises(ValueError, match=message):
        matched_null(scores, change(expression), **options)


def test_a_null_of_other_pairs():
    scores, expression = drawn(0)
    with pytest.raises(ValueError, match="null has other regulators"):
        matched_null(scores, expression, null=scores.on([f"G{i}" for i in range(1, N_GENES)]))
    other = PairScores(
        scores.genes, scores.regulators, scores.targets, {"b": scores.group("all")}, {"b": 9}, method="x"
    )
    with pytest.raises(ValueError, match=r"null lacks the groups \['all'\]"):
        matched_null(scores, expression, null=other)


def test_shuffled_genes_keep_means_and_detection_within_groups():
    rng = np.random.default_rng(0)
    activity = rng.normal(size=(200, 1))
    adata = ad.AnnData(
        sp.csr_matrix(rng.poisson(np.exp(activity + 0.2 * rng.normal(size=(200, 8)))).astype(np.float32))
    )
    adata.obs["type"] = np.repeat(["a", "b"], [60, 140])
    found = shuffle_genes(adata, groupby="type", seed=3)
    for name in ("a", "b"):
        cells = (adata.obs["type"] == name).to_numpy()
        before, after = adata.X[cells].toarray(), found.X[cells].toarray()
        np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
    correlation = [np.corrcoef(x.toarray().T)[np.triu_indices(8, 1)].mean() for x in (adata.X, found.X)]
    assert correlation[0] > 0.3
    assert abs(correlation[1]) < 0.1
    assert (shuffle_genes(adata, groupby="type", seed=3).X != found.X).nnz == 0
    assert (shuffle_genes(adata, groupby="type", seed=4).X != found.X).nnz > 0


def test_shuffling_a_layer_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="layer='raw' is not in"):
        shuffle_genes(ad.AnnData(np.ones((2, 2))), layer="raw")
