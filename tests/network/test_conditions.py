import anndata as ad
import numpy as np
import pandas as pd
import pytest

import grnlab as gl
from grnlab.backbones import DrugBert, DrugBertConfig
from grnlab.network.blocks import infer_from_blocks
from grnlab.network.conditions import random_blocks
from grnlab.network.rules import EdgeRules


@pytest.fixture(scope="module")
def cells(make_cells):
    adata = make_cells(n_each=30)
    adata.obs["block"] = [f"{i % 6}" for i in range(60)]
    adata.obs["condition"] = np.where(np.arange(60) % 2, "sick", "well")
    adata.obs["donor"] = [f"donor{i % 6}" for i in range(60)]
    return adata


@pytest.fixture(scope="module")
def quick():
    return {"genes": 30, "regulators": "all", "top_k": 4, "min_fraction": 0.0}


@pytest.mark.parametrize("context", ["expressed", "shared"])
def test_blocks_give_the_network_of_their_cells(cells, human_model, context):
    settings = {"regulators": "all", "top_k": 4}
    names = gl.tl.attention(cells, human_model, genes=30).genes.index.tolist()
    options = {"genes": names, "context": context, "min_cells": 1}
    blocks = gl.tl.attention(cells, human_model, groupby="block", **options)
    infer = infer_from_blocks(blocks, None, EdgeRules(**settings), name="all")
    for rows, chosen in (([0, 2, 3], cells.obs["block"].isin(["0", "2", "3"])), (range(6), np.ones(60, bool))):
        apart = infer(np.array(rows))
        whole = gl.tl.infer_networks(gl.tl.attention(cells[chosen], human_model, **options), **settings)["all"]
        assert apart.genes.index.equals(whole.genes.index)
        pd.testing.assert_frame_equal(
            *(n.edges.sort_values(["target", "source"], ignore_index=True) for n in (apart, whole)), rtol=1e-4
        )
        for column in ("mean_counts", "fraction_expressed"):
            np.testing.assert_allclose(apart.genes[column], whole.genes[column], rtol=1e-5)
        assert apart.provenance["n_cells"] == len(rows) * 10


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_a_block_drawn_twice_counts_twice(cells, human_model):
    blocks = gl.tl.attention(cells, human_model, groupby="block", genes=30, min_cells=1)
    infer = infer_from_blocks(blocks, None, EdgeRules(regulators="all"))
    twice = infer(np.array([0, 0, 1]))
    assert twice.provenance["n_cells"] == 30
    doubled = cells[
        [*np.flatnonzero(cells.obs["block"] == "0").tolist() * 2, *np.flatnonzero(cells.obs["block"] == "1")]
    ]
    doubled = doubled.copy()
    doubled.obs_names_make_unique()
    names = blocks.genes.index.tolist()
    whole = gl.tl.infer_networks(gl.tl.attention(doubled, human_model, genes=names), regulators="all")["all"]
    pd.testing.assert_frame_equal(
        *(n.edges.sort_values(["target", "source"], ignore_index=True) for n in (twice, whole)), rtol=1e-4
    )
    assert infer(np.array([0, 1])).provenance["n_cells"] == 20  # the sums of the blocks are not written to


def test_conditions_that_do_not_differ(cells, human_model, quick):
    found = gl.tl.compare_conditions(
        cells, human_model, condition="condition", a="sick", b="well", n_blocks=5, n_permutations=9, **quick
    )
    assert (found.a.name, found.b.name, found.n_permutations) == ("sick", "well", 9)
    assert found.a.provenance["n_cells"] == 30
    assert found.edges["padj"].min() > 0.05
    assert found.hubs("out_strength")["padj"].min() > 0.05
    assert found.overlap["pvalue"] >= 0.1


def test_conditions_that_differ(cells, human_model, quick):
    # the two cell types express other genes, so that an untrained model attends elsewhere
    found = gl.tl.compare_conditions(
        *(cells, human_model), condition="cell_type", a="B cell", b="T cell", n_blocks=6, n_permutations=19,
        null="pooled", **quick,
    )  # fmt: skip
    assert found.edges["padj"].min() <= 0.05
    assert found.overlap["jaccard"] < found.overlap["jaccard_null"]
    assert found.overlap["pvalue"] == pytest.approx(1 / 20)


def test_donors_are_blocks(cells, human_model, quick, caplog):
    options = {"condition": "condition", "a": "sick", "b": "well", "n_permutations": 25} | quick
    found = gl.tl.compare_conditions(cells, human_model, units="donor", **options)
    assert found.a.provenance["n_cells"] == 30
    assert "only 20 ways" in caplog.text
    with pytest.raises(ValueError, match="more than one condition"):
        gl.tl.compare_conditions(cells, human_model, units="cell_type", **options)
    with pytest.raises(ValueError, match="units='mouse' is not a column"):
        gl.tl.compare_conditions(cells, human_model, units="mouse", **options)
    with pytest.raises(ValueError, match=r"a='ill' is not in adata.obs\['condition'\]"):
        gl.tl.compare_conditions(cells, human_model, **options | {"a": "ill"})
    with pytest.raises(ValueError, match="n_blocks=50 must be from 2 to"):
        gl.tl.compare_conditions(cells, human_model, n_blocks=50, **options)


def test_settings_are_those_of_infer_networks_and_checked_before_the_model_runs(cells, human_model, quick, monkeypatch):
    options = {"condition": "condition", "a": "sick", "b": "well", "n_blocks": 3, "n_permutations": 2} | quick
    by_default, chosen = (
        gl.tl.compare_conditions(cells, human_model, **options, **extra).a for extra in ({}, {"symmetrize": None})
    )
    assert chosen.provenance["symmetrize"] is True
    assert chosen.edges.equals(by_default.edges)
    monkeypatch.setattr("grnlab.tl._conditions.attention", None)
    with pytest.raises(TypeError, match="topk"):
        gl.tl.compare_conditions(cells, human_model, topk=3, **options)
    with pytest.raises(ValueError, match="null must be one of edge, pooled, got 'egde'"):
        gl.tl.compare_conditions(cells, human_model, null="egde", **options)
    with pytest.raises(ValueError, match="per='gene' is unknown"):
        gl.tl.bootstrap_networks(cells, human_model, per="gene")
    with pytest.raises(ValueError, match="n_bootstraps=0"):
        gl.tl.bootstrap_networks(cells, human_model, n_bootstraps=0)


def test_strata(cells, human_model, quick):
    found = gl.tl.compare_conditions(
        *(cells, human_model), condition="condition", a="sick", b="well", strata="cell_type", n_blocks=3,
        n_permutations=5, **quick,
    )  # fmt: skip
    assert found.a.provenance["n_cells"] == 30


def test_bootstrap_networks(cells, human_model, quick):
    nets = gl.tl.bootstrap_networks(
        cells, human_model, groupby="cell_type", n_blocks=5, n_bootstraps=8, min_cells=10, **quick
    )
    assert list(nets) == ["B cell", "T cell"]
    for net in nets.values():
        assert net.edges["confidence"].between(0, 1).all()
        assert 0 < net.edges["confidence"].mean() <= 1
        assert net.provenance["n_cells"] == 30
    by_donor = gl.tl.bootstrap_networks(cells, human_model, units="donor", n_bootstraps=3, **quick)
    assert by_donor["all"].provenance["n_cells"] == 60


def test_signatures_are_bootstrapped_as_cells_are(tiny_vocab):
    values = np.random.default_rng(0).normal(size=(12, 30)).astype(np.float32)
    adata = ad.AnnData(values, var=pd.DataFrame(index=tiny_vocab.symbols))
    model = DrugBert(tiny_vocab, DrugBertConfig(n_layers=1, d_model=16, n_heads=2, d_decoder=8)).eval()
    nets = gl.tl.bootstrap_networks(adata, model, n_blocks=3, n_bootstraps=2, min_cells=10, regulators="all")
    assert nets["all"].provenance["n_cells"] == 12
    assert nets["all"].edges["confidence"].between(0, 1).all()


def test_random_blocks_are_alike():
    group = np.repeat([0, 1, 2], [40, 90, 21])
    block = random_blocks(group, 4, seed=0)
    sizes = np.bincount(block)
    assert sizes.min() >= 5
    assert sizes.max() <= 6
    assert all(len(set(group[block == number])) == 1 for number in range(len(sizes)))
    assert (block == random_blocks(group, 4, seed=0)).all()
