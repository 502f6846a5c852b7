import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import grnlab as gl
from grnlab.backbones import ScPrint, ScPrintConfig, save_model
from grnlab.cli import main
from grnlab.compare_models import compare_models
from grnlab.genes import GeneVocab


@pytest.fixture(scope="module")
def other_model(human_vocab):
    """Knows 40 of the genes in another order, and two of them by the old name."""
    table = human_vocab.table.iloc[np.random.default_rng(0).permutation(60)[:48]].copy()
    for row in table.index[table["symbol"].isin(["GENE0", "TF0"])]:
        new, old = table.loc[row, ["symbol", "aliases"]]
        table.loc[row, ["symbol", "aliases"]] = old, new
    torch.manual_seed(5)
    return ScPrint(GeneVocab(table), ScPrintConfig(n_layers=1, d_model=16, n_heads=2), name="other").eval()


@pytest.fixture(scope="module")
def found(make_cells, human_model, other_model):
    models = {"one": human_model, "other": other_model, "again": human_model}
    return compare_models(make_cells(), models, groupby="cell_type", genes="all", top_k=3)


def test_networks_are_those_of_each_model_on_the_genes_all_know(found, make_cells, human_model, other_model):
    adata = make_cells()
    shared = [
        name for name in adata.var_names if all(m.vocab.token(name) is not None for m in (human_model, other_model))
    ]
    seen = np.asarray(adata[:, shared].X.sum(0)).ravel() > 0
    for name, model in (("one", human_model), ("other", other_model)):
        symbols = [str(model.vocab.symbols[model.vocab.token(gene)]) for gene in np.array(shared)[seen]]
        maps = gl.tl.attention(adata, model, groupby="cell_type", genes=symbols)
        expected = gl.tl.infer_networks(maps, top_k=3)
        for group, network in expected.items():
            got = found.networks[name][group]
            names = network.genes["name_in_data"]
            assert set(got.genes.index) == set(names) <= set(adata.var_names)
            pairs = set(zip(network.edges["source"].map(names), network.edges["target"].map(names), strict=True))
            assert pairs == set(zip(got.edges["source"], got.edges["target"], strict=True))


def test_pairs(found):
    table = found.pairs.set_index(["group", "a", "b"])
    assert len(table) == 6
    for group in ("B cell", "T cell"):
        same = table.loc[(group, "one", "again")]
        assert (same["jaccard"], round(same["rank_correlation"], 6)) == (1.0, 1.0)
        assert same["shared"] == same["edges_a"] == same["edges_b"]
        row = table.loc[(group, "one", "other")]
        nets = [found.networks[name][group] for name in ("one", "other")]
        edges = [set(zip(net.edges["source"], net.edges["target"], strict=True)) for net in nets]
        genes = set(nets[0].genes.index) & set(nets[1].genes.index)
        edges = [{edge for edge in of_one if set(edge) <= genes} for of_one in edges]
        assert row["n_genes"] == len(genes)
        assert (row["edges_a"], row["edges_b"], row["shared"]) == (*map(len, edges), len(edges[0] & edges[1]))
        assert row["jaccard"] == pytest.approx(len(edges[0] & edges[1]) / len(edges[0] | edges[1]))
        assert 0 < row["shared_by_chance"] < row["edges_a"]


def test_rank_correlation_is_that_of_the_maps(make_cells, human_model, other_model):
    adata = make_cells(groups=("B cell",), n_each=12)
    adata.X = adata.X.toarray() + 1  # every gene has cells enough
    models = {"one": human_model, "other": other_model}
    found = compare_models(adata, models, genes=20, regulators="all", min_fraction=0)
    values = []
    for name, model in models.items():
        network = found.networks[name]["all"]
        genes = sorted(network.genes.index)
        symbols = [str(model.vocab.symbols[model.vocab.token(gene)]) for gene in genes]
        maps = gl.tl.attention(adata, model, genes=symbols)
        order = [maps.genes.index.get_loc(symbol) for symbol in symbols]
        dense = maps.dense("all", symmetrize=True)[order][:, order]
        values.append(dense[~np.eye(len(genes), dtype=bool)])
    assert found.pairs["n_genes"].tolist() == [20]
    assert found.pairs["rank_correlation"][0] == pytest.approx(spearmanr(*values).statistic, abs=1e-6)


def test_consensus_needs_two_models(found):
    for group, network in found.consensus.items():
        assert (network.edges["n_networks"] >= 2).all()
        one, again = (found.networks[name][group].edges for name in ("one", "again"))
        assert set(zip(one["source"], one["target"], strict=True)) <= set(
            zip(network.edges["source"], network.edges["target"], strict=True)
        )
        assert one.equals(again)


def test_the_order_of_columns_changes_nothing(found, make_cells, human_model, other_model):
    adata = make_cells()
    adata = adata[:, np.random.default_rng(1).permutation(adata.n_vars)].copy()
    models = {"one": human_model, "other": other_model, "again": human_model}
    other = compare_models(adata, models, groupby="cell_type", genes="all", top_k=3)
    pd.testing.assert_frame_equal(found.pairs, other.pairs)


def test_errors(make_cells, human_model, other_model):
    with pytest.raises(ValueError, match="models holds 1; a comparison needs two or more"):
        compare_models(make_cells(), {"one": human_model})
    with pytest.raises(ValueError, match="top_k=0 must be"):
        compare_models(make_cells(), {"one": human_model, "other": other_model}, top_k=0)
    with pytest.raises(ValueError, match="regulators='TF' is unknown"):
        compare_models(make_cells(), {"one": human_model, "other": other_model}, regulators="TF")
    with pytest.raises(TypeError, match="topk"):
        compare_models(make_cells(), {"one": human_model, "other": other_model}, topk=3)
    adata = make_cells()
    names = [name for name in adata.var_names if other_model.vocab.token(name) is None][:5]
    names += [name for name in adata.var_names if other_model.vocab.token(name) is not None][:1]
    with pytest.raises(ValueError, match="know only 1 genes of the data in common"):
        compare_models(adata[:, names].copy(), {"one": human_model, "other": other_model})


def test_the_command(make_cells, human_model, other_model, tmp_path, capsys):
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    folders = [str(save_model(model, tmp_path / model.name)) for model in (human_model, other_model)]
    command = ["compare-models", str(tmp_path / "cells.h5ad"), "--models", *folders, "--groupby", "cell_type"]
    command += ["--genes", "20", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["0_untrained.grns", "1_other.grns", "consensus.grns", "network.html", "pairs.tsv"]
    pairs = pd.read_csv(tmp_path / "out/pairs.tsv", sep="\t")
    assert pairs["group"].tolist() == ["B cell", "T cell"]
    assert "rank_correlation" in capsys.readouterr().out
    assert list(gl.NetworkSet.load(tmp_path / "out/consensus.grns")) == ["B cell", "T cell"]
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command[:3], folders[0], folders[0], "--out", str(tmp_path / "two"), "--genes", "12"]) == 0
    assert pd.read_csv(tmp_path / "two/pairs.tsv", sep="\t")["jaccard"].tolist() == [1.0]
