from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from grnlab import tl
from grnlab.attention import PairScores
from grnlab.backbones import load_model
from grnlab.datasets import pbmc68k
from grnlab.evaluate import BASELINES
from grnlab.heads.features import ATTENTION, baseline_scores, normal_ranks, pair_features


def of(features, group, name):
    return features.block(group)[features.names.index(name)]


def test_each_feature_is_the_rank_of_what_it_is_called(maps_of_heads):
    maps = maps_of_heads.make(maps_of_heads.gold(), "a", "b")
    features = pair_features(maps)
    assert len(features.names) == 1 + 2 * 6 + 4
    block = features.block("b")
    assert block.shape == (17, 20, 60)
    assert block.dtype == np.float32
    head = torch.zeros(2, 3)
    head[1, 2] = 1.0
    for name, dense in (
        (ATTENTION, maps.dense("b", symmetrize=True).T),
        ("target to regulator, layer 1 head 2", maps.dense("b", head).T),
        ("regulator to target, layer 1 head 2", maps.dense("b", head)),
    ):
        np.testing.assert_allclose(of(features, "b", name), normal_ranks(dense[:20]), atol=1e-6, err_msg=name)
    mean = maps.expression["b"]["mean_counts"].to_numpy()
    np.testing.assert_allclose(of(features, "b", "mean_counts of the regulator")[:, 5], normal_ranks(mean[:20]))
    np.testing.assert_allclose(of(features, "b", "fraction_expressed of the target")[3], normal_ranks(mean))


def test_scores_are_placed_by_name_and_what_is_not_there_is_in_the_middle(maps_of_heads):
    maps = maps_of_heads.make(maps_of_heads.gold(), "a")
    rng = np.random.default_rng(0)
    names = maps_of_heads.names[:50][::-1]  # of the 60 genes, backwards
    values = rng.normal(size=(10, 50))
    genes = pd.DataFrame({"is_tf": True}, index=pd.Index(names))
    scores = PairScores(
        genes, np.arange(40, 50), np.arange(50), {"a": values}, {"a": 9}, method="jacobian", signed=True
    )
    features = pair_features([maps, scores], heads=False, expression=False)
    assert features.names == (ATTENTION, "jacobian", "jacobian, signed")
    found = of(features, "a", "jacobian, signed")
    assert (found[10:] == 0).all()  # G10 … G19 are no regulators there
    assert (found[:, 50:] == 0).all()
    r, t = 3, 17  # G03 is the row 46 - 40 there, G17 the column 32
    seen = ~np.isnan(scores.group("a"))
    rank = (rankdata(scores.group("a")[seen]) - 0.5) / seen.sum()
    expected = dict(zip(np.flatnonzero(seen.ravel()).tolist(), norm.ppf(rank), strict=True))
    assert found[r, t] == pytest.approx(expected[6 * 50 + 32], abs=1e-5)
    assert of(features, "a", "jacobian")[r, t] != found[r, t]


@given(st.integers(0, 200))
def test_ranks_keep_order_and_forget_scale(seed):
    values = np.random.default_rng(seed).normal(size=(4, 7))
    values[0, 0] = np.nan
    ranks = normal_ranks(values)
    np.testing.assert_allclose(ranks, normal_ranks(np.exp(3 * values) + 5), atol=1e-6)
    assert ranks[0, 0] == 0
    seen = ~np.isnan(values)
    np.testing.assert_array_equal(np.argsort(ranks[seen]), np.argsort(values[seen]))
    assert abs(ranks[seen].mean()) < 1e-5


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_equal_values_share_their_mean_rank(values):
    found = normal_ranks(np.array(values, dtype=np.float32))
    np.testing.assert_allclose(found, norm.ppf((rankdata(values) - 0.5) / len(values)), atol=1e-6)


def test_genes_in_too_few_cells_are_unseen(maps_of_heads):
    maps = maps_of_heads.make(maps_of_heads.gold(), "a")
    maps.groups["a"].count_G[7] = 2
    features = pair_features(maps)
    assert np.flatnonzero(~features.seen("a")).tolist() == [7]
    assert (of(features, "a", ATTENTION)[7] == 0).all()
    assert (of(features, "a", ATTENTION)[:, 7] == 0).all()


def test_baseline_scores_are_those_of_the_cells_of_each_group():
    adata = pbmc68k()
    adata = adata[adata.obs["cell_type"].isin(["CD19+ B", "Dendritic"])].copy()
    maps = tl.attention(adata, load_model("grnlab-small"), genes=30, groupby="cell_type")
    scores = baseline_scores(adata, maps, method="spearman", groupby="cell_type")
    cells = (adata.obs["cell_type"] == "Dendritic").to_numpy()
    columns = adata.var_names.get_indexer(maps.genes["name_in_data"])
    counts = adata.X.toarray()
    logged = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)[cells][:, columns]
    expected = BASELINES["spearman"](logged, np.arange(30), np.arange(30))
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(scores.group("Dendritic"), expected, atol=1e-4)
    assert scores.n_cells["Dendritic"] == cells.sum()
    again = baseline_scores(adata, scores, method="pearson", groupby="cell_type")
    np.testing.assert_array_equal(
        again.group("Dendritic"), baseline_scores(adata, maps, groupby="cell_type").group("Dendritic")
    )
    with pytest.raises(ValueError, match=r"maps is 'pearson'; expected attention maps .* named by method"):
        baseline_scores(adata, "pearson")
    with pytest.raises(ValueError, match=r"no cells of the groups.*groupby of the maps \('cell_type'\)"):
        baseline_scores(adata, maps)
    with pytest.raises(ValueError, match="method='magic' is unknown"):
        baseline_scores(adata, maps, method="magic")
    with pytest.raises(ValueError, match=r"lacks \d+ genes of the maps"):
        baseline_scores(adata[:, :5], maps, groupby="cell_type")


def test_bad_input(maps_of_heads):
    maps = maps_of_heads.make(maps_of_heads.gold(), "a")
    scores = PairScores(maps.genes, np.arange(60), np.arange(60), {"b": np.ones((60, 60))}, {"b": 1}, method="x")
    with pytest.raises(ValueError, match="sources is empty"):
        pair_features([])
    with pytest.raises(ValueError, match="20 regulators and 0 common groups"):
        pair_features([maps, scores])
    with pytest.raises(ValueError, match="0 regulators"):
        pair_features(maps, regulators=["nobody"])
    with pytest.raises(ValueError, match="regulators='some'"):
        pair_features(maps, regulators="some")
    with pytest.raises(ValueError, match=r"\['attention'\] twice"):
        pair_features([maps, maps], heads=False)
    with pytest.raises(ValueError, match="no source has the expression"):
        pair_features(replace(maps, expression={})).block("a")
