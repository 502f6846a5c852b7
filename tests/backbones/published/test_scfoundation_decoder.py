"""The decoder of scFoundation against a reference by the formula of Choromanski et al. 2021, one cell at a time."""

import json

import numpy as np
import pytest
import torch

import grnlab as gl
from grnlab.attention import pool_queries_keys
from grnlab.backbones import save_model


@pytest.fixture(scope="module")
def genes(real_cells):
    """The fixed list of the model: genes of the cells but two, and three that the data lacks."""
    known = [name for number, name in enumerate(real_cells.var_names[:-1]) if number not in (3, 40)]
    return np.random.default_rng(0).permutation([*known, "OTHER1", "OTHER2", "OTHER3"]).tolist()


@pytest.fixture(scope="module")
def written(genes, tmp_path_factory, scfoundation_reference):
    folder = tmp_path_factory.mktemp("scfoundation") / "files"
    return folder, scfoundation_reference(genes, folder)["gene"]


@pytest.fixture(scope="module")
def model(written):
    return gl.load_model(written[0], part="decoder")


def publishers_row(cell, genes):
    counts = np.array([cell[:, gene].X.sum() if gene in cell.var_names else 0.0 for gene in genes])
    return torch.tensor(np.r_[np.log1p(counts / counts.sum() * 1e4), 4.0, np.log10(counts.sum())]).float()


@pytest.mark.parametrize("context", ["expressed", "shared"])
@torch.no_grad()
def test_hidden_states_and_kernel_maps_equal_the_reference(model, written, genes, real_cells, shown, recorded, context):
    cells = real_cells[:4]
    counts, tokens, totals = shown(model, cells)
    batch = model.tokenize(counts, tokens, totals, context=context)
    assert (batch.pad_BT is not None) == (context == "expressed")
    encoded, layers = recorded(model, batch)
    n = len(genes)
    for cell in range(4):
        hidden, maps = written[1].decode(publishers_row(cells[cell], genes))
        real = batch.real_BT[cell]
        places = batch.genes_BT[cell, real]
        assert len(places) == (len(tokens) if context == "shared" else int((counts[cell] > 0).sum()))
        torch.testing.assert_close(encoded.genes_BTM[cell, real], hidden[places], rtol=0, atol=1e-5)
        torch.testing.assert_close(encoded.cell_BM[cell], hidden[n + 1], rtol=0, atol=1e-5)  # S
        keep = torch.cat([torch.ones(2, dtype=torch.bool), real])
        at = torch.cat([torch.tensor([n + 1, n]), places])
        for layer, expected in zip(layers, maps, strict=True):
            kernel = torch.einsum("thr,shr->hts", layer.q[cell, keep], layer.k[cell, keep])
            torch.testing.assert_close(kernel.double(), expected[:, at][:, :, at], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_invariant_over_every_gene_of_the_list(model, genes, recorded, real_cells, shown):
    """Rebuilt map times values is the module's own output, once every token is asked for."""
    counts, tokens, totals = shown(model, real_cells[:3])
    whole = np.zeros((3, len(genes)), dtype=np.float32)
    whole[:, tokens] = counts.toarray()
    batch = model.tokenize(type(counts)(whole), np.arange(len(genes)), totals, context="shared")
    _, layers = recorded(model, batch)
    spec = model.attention
    assert (spec.kind, spec.n_prefix, spec.d_head) == ("kernel", 2, 11)
    for layer in layers:
        assert layer.q.shape == (3, 2 + len(genes), spec.n_heads, spec.d_head)
        kernel = torch.einsum("bthr,bshr->bhts", layer.q.double(), layer.k.double())
        torch.testing.assert_close(kernel.sum(-1), torch.ones_like(kernel[..., 0]), rtol=0, atol=1e-5)
        rebuilt = torch.einsum("bhts,bshd->bthd", kernel, layer.v.double())
        torch.testing.assert_close(rebuilt.float(), layer.out, rtol=0, atol=1e-5)


@pytest.mark.parametrize("context", ["expressed", "shared"])
def test_maps_are_those_of_mean_features_and_shards_add_up(model, real_cells, context):
    """The map of one cell is its own kernel map; maps of halves of the cells add up to that of all."""
    cell = real_cells[:1].copy()
    if context == "shared":
        cell.X = cell.X.toarray() + 1  # genes without any count are in no map, but each cell's own map has them
    one = gl.tl.attention(cell, model, genes="all", context=context, min_cells=1)
    scores = gl.tl.read_out(
        cell,
        model,
        "attention_cells",
        genes="all",
        regulators="all",
        targets="all",
        context=context,
        min_fraction=0,
        min_cells=1,
    ).groups["all"]
    own = one.dense("all", symmetrize=True)
    scored = np.isfinite(scores)
    assert scored.sum() > 1_000
    np.testing.assert_allclose(scores[scored], own[scored], atol=1e-6)
    first, second, whole = (
        gl.tl.attention(cells, model, genes="all", context=context, min_cells=1).groups["all"]
        for cells in (real_cells[:5], real_cells[5:], real_cells)
    )
    for name in ("q_sum_LHGD", "k_sum_LHGD", "count_G"):
        torch.testing.assert_close(getattr(first + second, name), getattr(whole, name), rtol=1e-4, atol=1e-6)


def test_it_is_never_called_softmax(model, real_cells, tmp_path):
    maps = gl.tl.attention(real_cells, model, groupby="cell_type", genes="all")
    assert maps.provenance["attention_kind"] == maps.spec.kind == "kernel"
    assert maps.kernel_path == "torch"
    networks = gl.tl.infer_networks(maps, regulators="all")
    for made in (maps.provenance, networks["Dendritic"].provenance):
        text = json.dumps(dict(made), default=str)
        assert text.count("softmax") == text.count("no softmax") > 0
    scores = gl.tl.read_out(real_cells, model, genes=20, regulators="all")
    assert scores.provenance["attention_kind"] == "kernel"
    folder = save_model(model, tmp_path / "kept")
    assert "2 layers, 2 heads of 11 features (kernel attention)" in (folder / "README.md").read_text()


def test_parts_are_chosen_by_name(written, tmp_path):
    encoder, again, decoder = (gl.load_model(written[0], part=part) for part in (None, "encoder", "decoder"))
    assert encoder.attention == again.attention != decoder.attention
    assert (encoder.name, decoder.name) == ("scfoundation", "scfoundation-decoder")
    with pytest.raises(ValueError, match=r"part='top' is no part of a model of scfoundation: choose one of \('enc"):
        gl.load_model(written[0], part="top")
    with pytest.raises(ValueError, match=r"part='decoder': .* is a checkpoint of grnlab, which is one model"):
        gl.load_model(save_model(decoder, tmp_path / "kept"), part="decoder")
    with pytest.raises(ValueError, match=r"part='decoder': grnlab-small is a checkpoint of grnlab"):
        gl.load_model(part="decoder")


@pytest.mark.parametrize("name", ["0.fn.fast_attention.projection_matrix", "0.fn.to_q.bias", "1.fn.fn.w2.weight"])
def test_every_key_must_be_there(written, tmp_path, name):
    content = torch.load(written[0] / "models.ckpt", weights_only=True)
    key = f"decoder.performer.net.layers.1.{name}"
    content["gene"]["state_dict"].pop(f"model.{key}")
    for path in written[0].glob("*.tsv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(content, tmp_path / "models.ckpt")
    with pytest.raises(ValueError, match=rf"lacks the weights '{key}'"):
        gl.load_model(tmp_path, part="decoder")
    gl.load_model(tmp_path)
    content["gene"]["state_dict"][f"model.{key}"] = torch.ones(1)
    content["gene"]["config"]["model_config"]["mae_autobin"]["decoder"]["module_type"] = "transformer"
    torch.save(content, tmp_path / "models.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of scFoundation with a FAVOR\\+ decoder"):
        gl.load_model(tmp_path, part="decoder")


@pytest.mark.parametrize("context", ["expressed", "shared"])
def test_batches_are_bounded_by_every_gene_of_the_list(model, real_cells, shown, monkeypatch, context):
    """A cell that expresses three genes costs as much as any other."""
    counts, tokens, totals = shown(model, real_cells)
    few, sizes = counts[:, :3].tocsr(), []
    monkeypatch.setattr("grnlab.attention.pool.TOKENS_PER_BATCH", 3 * model.tokens_per_cell)
    pool_queries_keys(model, few, tokens[:3], totals, context=context, on_batch=sizes.append)
    assert max(sizes) == 3
