"""Every adapter through the whole chain: files, tokens, pooled attention, heads, networks, page, and back to a file."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import grnlab as gl
from grnlab.backbones import Backbone, save_model
from grnlab.backbones.published import LAYOUTS
from grnlab.benchmark import METHODS, BenchmarkConfig, outside, run_benchmark
from grnlab.cli import main
from grnlab.compare_models import compare_models
from grnlab.evaluate import GoldStandard
from grnlab.heads import SelectionConfig

NAMES = ["geneformer_v1", "geneformer_v2", "scgpt", "scprint_v1", "scprint_v15", "scfoundation", "scfoundation_decoder"]
TOP_K = 3


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def path(name, publishers_files):
    return publishers_files[name.removesuffix("_decoder")]


@pytest.fixture
def model(name, path):
    return gl.load_model(path, part="decoder" if name.endswith("_decoder") else None)


def attention_of(spec, products):
    """Attention among the tokens there are, from the products of queries and keys."""
    if spec.kind == "kernel":
        return products / products.sum(-1, keepdims=True)
    exponential = np.exp(spec.scale * (products - products.max(-1, keepdims=True)))
    return exponential / exponential.sum(-1, keepdims=True)


def known_to(model, adata):
    return [name for name in adata.var_names if model.vocab.token(name) is not None]


def by_hand(model, cells, genes):
    """Mean map over heads of mean queries and keys: one cell at a time, no padding, the whole model run."""
    spec, tokens = model.attention, np.array([model.vocab.token(gene) for gene in genes])
    order = np.argsort(tokens)
    counts, totals = cells[:, np.array(genes)[order]].X.tocsr(), np.asarray(cells.X.sum(1)).ravel()
    sums, seen = np.zeros((2, spec.n_layers, spec.n_heads, len(genes), spec.d_head)), np.zeros(len(genes))
    place = {token: number for number, token in enumerate(tokens)}
    for cell in range(cells.n_obs):
        batch = model.tokenize(counts[cell], tokens[order], totals[cell : cell + 1], context="expressed")
        places = [place[token] for token in batch.genes_BT[0].tolist()]

        def record(layer, q_BTHD, k_BTHD, v_BTHD, out_BTHD, places=places):
            for number, x_BTHD in enumerate((q_BTHD, k_BTHD)):
                sums[number, layer][:, places] += x_BTHD[0, spec.n_prefix :].double().numpy().transpose(1, 0, 2)

        with torch.no_grad():
            model.encode(batch, record=record)
        seen[places] += 1
    q, k = sums / seen.clip(1)[:, None]
    with np.errstate(invalid="ignore"):  # genes never seen have no features
        found = attention_of(spec, np.einsum("lhid,lhjd->lhij", q, k)).mean((0, 1))
    return np.nan_to_num(found), seen


def test_networks_equal_an_extraction_by_hand(model, real_cells):
    maps = gl.tl.attention(real_cells, model, groupby="cell_type", genes="all")
    regulators = list(maps.genes.index[::3])
    networks = gl.tl.infer_networks(maps, top_k=TOP_K, min_fraction=0, regulators=regulators)
    for name in ("Dendritic", "CD14+ Monocyte"):
        cells = real_cells[real_cells.obs["cell_type"] == name]
        genes = [gene for gene in maps.genes.index if maps.groups[name].count_G[maps.genes.index.get_loc(gene)] >= 5]
        dense, seen = by_hand(model, cells, list(maps.genes.index))
        np.testing.assert_array_equal(maps.groups[name].count_G, seen)
        np.testing.assert_allclose(maps.dense(name), dense, atol=1e-5)
        rows = [maps.genes.index.get_loc(gene) for gene in networks[name].genes.index]
        assert set(genes) <= set(networks[name].genes.index)
        small = maps.dense(name, rows=np.array(rows))
        small = (small + small.T) / 2
        tfs = np.flatnonzero(networks[name].genes.index.isin(regulators))
        assert len(tfs) > TOP_K
        expected = {}
        for row, target in enumerate(networks[name].genes.index):
            best = sorted((tf for tf in tfs if tf != row), key=lambda tf, row=row: -small[row, tf])[:TOP_K]
            expected |= {(networks[name].genes.index[tf], target): small[row, tf] * len(rows) for tf in best}
        edges = networks[name].edges
        got = dict(zip(zip(edges["source"], edges["target"], strict=True), edges["weight"], strict=True))
        assert set(got) == set(expected)
        np.testing.assert_allclose([got[pair] for pair in expected], list(expected.values()), rtol=1e-4)


def test_the_order_of_columns_changes_nothing(model, real_cells):
    order = np.random.default_rng(0).permutation(real_cells.n_vars)
    one, other = (gl.tl.attention(cells, model, genes="all") for cells in (real_cells, real_cells[:, order].copy()))
    pd.testing.assert_frame_equal(one.genes, other.genes)
    np.testing.assert_allclose(one.dense("all"), other.dense("all"), atol=1e-6)


def test_batches_change_nothing(model, real_cells, monkeypatch):
    whole = gl.tl.attention(real_cells, model, genes=30)
    monkeypatch.setattr("grnlab.attention.pool.TOKENS_PER_BATCH", 1)
    alone = gl.tl.attention(real_cells, model, genes=30)
    np.testing.assert_allclose(whole.dense("all"), alone.dense("all"), atol=1e-5)


def test_the_whole_chain(model, path, real_cells, tmp_path):
    assert isinstance(model, Backbone)
    maps = gl.tl.attention(real_cells, model, groupby="cell_type", genes="all")
    tfs = maps.genes.index[maps.genes["is_tf"]]
    rng = np.random.default_rng(0)
    pairs = [(tf, target) for tf in tfs for target in rng.permutation(maps.genes.index)[:12] if tf != target]
    gold = GoldStandard.from_frame(pd.DataFrame(pairs, columns=["source", "target"]), name="drawn")
    selection = gl.tl.select_heads(maps, gold, config=SelectionConfig(method="top", n_heads=2))
    networks = gl.tl.infer_networks(maps, selection.heads, top_k=TOP_K)
    assert list(networks) == ["CD14+ Monocyte", "Dendritic"]
    for network in networks.values():
        assert set(network.edges["source"]) <= set(tfs)
        assert network.provenance["weights_sha256"] == model.weights_hash != ""
    gl.pl.network_page(networks, tmp_path / "net.html")
    assert (tmp_path / "net.html").stat().st_size > 10_000
    gl.tl.store_networks(real_cells.copy(), networks)

    kept = gl.load_model(save_model(model, tmp_path / "kept"))
    again = gl.tl.attention(real_cells, kept, groupby="cell_type", genes="all")
    for name in maps.groups:
        np.testing.assert_array_equal(again.dense(name), maps.dense(name))
    assert kept.provenance == model.provenance
    assert load_file(tmp_path / "kept" / "model.safetensors")


def test_the_benchmark_judges_them(model, real_cells, tmp_path):
    known = known_to(model, real_cells)
    pairs = [(known[i], known[j]) for i in range(5) for j in range(5, 15) if (i + j) % 3]
    pd.DataFrame(pairs, columns=["source", "target"]).to_csv(tmp_path / "drawn.csv", index=False)
    real_cells.write_h5ad(tmp_path / "cells.h5ad")
    dataset, golds = outside(tmp_path / "cells.h5ad", [tmp_path / "drawn.csv"])
    methods = tuple(METHODS[name] for name in ("attention", "untrained", "embedding_cosine", "pearson"))
    config = BenchmarkConfig((dataset,), golds, methods, n_genes=40, min_cells=5)
    table = run_benchmark(tmp_path / "out", model, config).set_index("method")
    scored = table[table["error"] == ""]
    assert {"attention", "untrained", "pearson"} <= set(scored.index)
    assert scored["auprc_ratio"].gt(0).all()
    assert scored.loc["attention", "auprc"] != scored.loc["untrained", "auprc"]
    assert hasattr(model, "gene_embedding") or "no embedding per gene" in table.loc["embedding_cosine", "error"]


def test_names_are_found_as_symbols_and_as_ids(model, real_cells):
    by_id = real_cells.copy()
    by_id.var_names = [f"{name}.7" for name in by_id.var["ensembl_id"]]
    del by_id.var["ensembl_id"]
    one, other = (gl.tl.attention(cells, model, genes="all") for cells in (real_cells, by_id))
    assert list(one.genes.index) == list(other.genes.index)
    assert set(one.genes.index) == set(known_to(model, real_cells))
    np.testing.assert_array_equal(one.dense("all"), other.dense("all"))


def test_the_licence_is_shown_and_stays_with_the_weights(path, caplog, tmp_path):
    with caplog.at_level(logging.WARNING):
        model = gl.load_model(path)
    assert model.provenance["weights_licence"] in caplog.text
    folder = save_model(model, tmp_path / "converted")
    assert model.provenance["weights_licence"] in (folder / "README.md").read_text()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        gl.load_model(folder)
    assert model.provenance["weights_licence"] in caplog.text
    assert model.provenance["source"].startswith("https://")
    assert model.provenance["weights_licence"] in {layout.licence for layout in LAYOUTS}


def test_cells_without_a_gene_the_model_knows(model, real_cells):
    counts = real_cells.X.toarray()
    counts[0, :-1] = 0
    adata = ad.AnnData(counts, real_cells.obs, real_cells.var)
    maps = gl.tl.attention(adata, model, genes="all")
    assert maps.groups["all"].count_G.max() <= 11
    assert np.isfinite(maps.dense("all")).all()


def test_models_that_read_whole_cells_do(model, real_cells):
    every, some = (gl.tl.attention(real_cells, model, genes=genes) for genes in ("all", 20))
    rows = every.genes.index.get_indexer(some.genes.index)
    same = np.allclose(every.groups["all"].q_sum_LHGD[:, :, rows], some.groups["all"].q_sum_LHGD, atol=1e-5)
    assert same == model.whole_cells
    assert len(some.genes) == len(some.expression["all"]) == 20
    np.testing.assert_allclose(some.dense("all").sum(1), 1, atol=1e-5)


def test_read_outs_of_some_genes_read_whole_cells_too(model, real_cells):
    maps = gl.tl.attention(real_cells, model, genes=20)
    scores = gl.tl.read_out(real_cells, model, "attention_directed", genes=20, regulators="all", targets="all")
    assert list(maps.genes.index) == list(scores.genes.index) == list(scores.expression["all"].index)
    rows = np.flatnonzero(np.isfinite(scores.groups["all"]).any(0))
    dense = maps.dense("all", rows=rows)
    np.fill_diagonal(dense, np.nan)
    np.testing.assert_allclose(scores.groups["all"][np.ix_(rows, rows)], dense.T, atol=1e-5)


def test_the_read_outs_of_single_cells_see_the_tokens_of_the_model(model, real_cells):
    """The attention of each cell, from what its own tokeniser gives; genes that both cells express are scored."""
    cells, everybody = real_cells[:2].copy(), {"genes": "all", "regulators": "all", "targets": "all", "min_cells": 1}
    scores = gl.tl.read_out(cells, model, "attention_cells", **everybody, min_fraction=0)
    names = list(scores.genes.index)
    total, seen = np.zeros((2, len(names), len(names)))
    for cell in range(2):
        dense, shown = by_hand_maps(model, cells[cell], names)
        total += dense
        seen += np.outer(shown, shown)
    got = scores.groups["all"]
    scored = np.isfinite(got)
    assert scored.mean() > 0.5
    np.testing.assert_allclose(got[scored], ((total + total.T) / 2 / seen.clip(1))[scored], atol=1e-5)


def test_bootstrap_and_conditions(model, real_cells):
    """Genes that no cell of a group expresses are asked for there."""
    cells = real_cells.copy()
    counts = cells.X.toarray()
    counts[cells.obs["cell_type"] == "Dendritic", :5] = 0
    cells.X = counts
    options = {"n_blocks": 3, "n_bootstraps": 4, "min_cells": 5, "genes": "all", "regulators": "all"}
    networks = gl.tl.bootstrap_networks(cells, model, groupby="cell_type", **options)
    assert networks["Dendritic"].edges["confidence"].between(0, 1).all()
    assert not set(networks["Dendritic"].genes.index) & set(cells.var_names[:5])
    a, b = "Dendritic", "CD14+ Monocyte"
    options = {"n_blocks": 3, "n_permutations": 9, "genes": "all", "regulators": "all"}
    found = gl.tl.compare_conditions(cells, model, condition="cell_type", a=a, b=b, **options)
    assert (found.a.name, found.n_permutations) == (a, 9)


def test_value_norm_is_its_formula(model, real_cells):
    cell, everybody = real_cells[:1].copy(), {"genes": "all", "regulators": "all", "targets": "all", "min_cells": 1}
    scores = gl.tl.read_out(cell, model, "value_norm", **everybody, min_fraction=0)
    names, spec, total = list(scores.genes.index), model.attention, 0.0
    tokens = scores.genes["token"].to_numpy()
    batch = model.tokenize(
        cell[:, scores.genes["name_in_data"]].X.tocsr(), tokens, cell.X.sum(1).A1, context="expressed"
    )
    layers = []
    with torch.no_grad():
        model.encode(batch, record=lambda layer, q, k, v, out: layers.append((q[0], k[0], v[0])))
    for (q, k, v), block in zip(layers, model.stack.layers, strict=True):
        products = torch.einsum("ihd,jhd->hij", q, k)
        alpha = products if spec.kind == "kernel" else (spec.scale * products).softmax(-1)
        columns = block.attention.out.weight.unflatten(1, (spec.n_heads, -1))
        moved = torch.einsum("jhd,mhd->hjm", v, columns).norm(dim=-1)
        total = total + (alpha * moved[:, None]).mean(0) / len(layers)
    total = total[spec.n_prefix :, spec.n_prefix :].detach().numpy()
    places = [tokens.tolist().index(token) for token in batch.genes_BT[0].tolist()]
    got = scores.groups["all"][np.ix_(places, places)]  # row = regulator = key
    np.fill_diagonal(total, np.nan)
    assert len(places) == np.isfinite(scores.groups["all"]).any(0).sum() <= len(names)
    np.testing.assert_allclose(got, total.T, atol=1e-5)


def test_read_outs_that_need_a_decoder_are_refused(model, real_cells):
    with pytest.raises(ValueError, match=r"method='jacobian' needs a model that .* has no decode"):
        gl.tl.read_out(real_cells, model, "jacobian", genes=20)
    with pytest.raises(ValueError, match="read without its decoder, so it cannot be trained here"):
        gl.tl.adapt(real_cells, model, max_steps=1)


def by_hand_maps(model, cell, genes):
    """Mean over heads of the attention among the genes of one cell, 0 for those it is not shown."""
    tokens = np.array([model.vocab.token(gene) for gene in genes])
    order, layers = np.argsort(tokens), []
    totals = np.asarray(cell.X.sum(1)).ravel()
    counts = cell[:, np.array(genes)[order]].X.tocsr()
    batch = model.tokenize(counts, tokens[order], totals, context="expressed")
    with torch.no_grad():
        model.encode(batch, record=lambda layer, q, k, v, out: layers.append((q[0], k[0])))
    spec, places = model.attention, [tokens.tolist().index(token) for token in batch.genes_BT[0].tolist()]
    q, k = (torch.stack(parts)[:, spec.n_prefix :].double() for parts in zip(*layers, strict=True))
    dense, shown = np.zeros((len(genes), len(genes))), np.zeros(len(genes))
    products = torch.einsum("lihd,ljhd->lhij", q, k).numpy()
    dense[np.ix_(places, places)] = attention_of(spec, products).mean((0, 1))
    shown[places] = 1
    return dense, shown


def test_the_command_line_takes_the_publishers_files(publishers_files, real_cells, tmp_path, capsys):
    real_cells.write_h5ad(tmp_path / "cells.h5ad")
    command = ["infer", str(tmp_path / "cells.h5ad"), "--model", str(publishers_files["scgpt"])]
    assert main([*command, "--out", str(tmp_path / "out"), "--groupby", "cell_type", "--regulators", "all"]) == 0
    assert list(gl.NetworkSet.load(tmp_path / "out/networks.grns")) == ["CD14+ Monocyte", "Dendritic"]
    assert "model: scgpt, weights " in capsys.readouterr().out
    path = tmp_path / "broken.ckpt"
    path.write_bytes(publishers_files["scprint_v1"].read_bytes()[:1000])
    assert main([*command[:3], str(path), "--out", str(tmp_path / "other")]) == 2
    assert "broken.ckpt is not a complete file of PyTorch weights" in capsys.readouterr().err


def test_models_side_by_side(publishers_files, real_cells):
    names = ["geneformer_v2", "scgpt", "scprint_v1", "scfoundation"]
    models = {name: gl.load_model(publishers_files[name]) for name in names}
    models["scfoundation_decoder"] = gl.load_model(publishers_files["scfoundation"], part="decoder")
    found = compare_models(real_cells, models, groupby="cell_type", genes="all", top_k=TOP_K, regulators="all")
    assert len(found.pairs) == 2 * 10
    assert found.pairs["rank_correlation"].between(-1, 1).all()
    known = set.intersection(*(set(known_to(model, real_cells)) for model in models.values()))
    for networks in (*found.networks.values(), found.consensus):
        assert set(networks["Dendritic"].genes.index) <= known
    assert (found.consensus["Dendritic"].edges["n_networks"] >= 2).all()
