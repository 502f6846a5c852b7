import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import grnlab as gl
from grnlab.backbones import Backbone, XTrimoGene, XTrimoGeneConfig, load_model, save_model
from grnlab.backbones.xtrimogene_tokens import POOLINGS, DepthTokens, pool
from grnlab.data import CellTokens

SETTINGS = ["paper", "released"]
LENGTHS = [(9, 9, 9), (9, 4, 7)]


@pytest.fixture(scope="module")
def make(tiny_vocab):
    """Tiny models whose every weight and bias is random."""

    def build(settings="paper", vocab=tiny_vocab, **config):
        torch.manual_seed(0)
        sizes = {"n_layers": 2, "d_model": 16, "n_heads": 4, "d_decoder": 8, "n_decoder_heads": 2, "n_bins": 7}
        model = XTrimoGene(vocab, XTrimoGeneConfig(settings=settings, **sizes | config)).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
        return model

    return build


def expressed(tokens):
    """The same cells with a count in every place."""
    return dataclasses.replace(tokens, values_BT=torch.where(tokens.real_BT, tokens.values_BT + 1, 0))


def recorded(model, tokens):
    layers = []
    model.encode(tokens, record=lambda _, q, k, v, out: layers.append(SimpleNamespace(q=q, k=k, v=v, out=out)))
    return layers


def with_special(pad_BT):
    return torch.cat([torch.zeros(len(pad_BT), 2, dtype=torch.bool), pad_BT], dim=1)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "padded"])
@torch.no_grad()
def test_rebuilt_softmax_attention_of_the_encoder_is_its_output(make, make_tokens, settings, lengths):
    model, tokens = make(settings), expressed(make_tokens(lengths))
    spec, pad = model.attention, with_special(~tokens.real_BT)
    assert isinstance(model, Backbone)
    assert (spec.kind, spec.n_prefix, spec.n_layers, spec.d_head) == ("softmax", 2, 2, 4)
    for layer in recorded(model, tokens):
        logits = spec.scale * torch.einsum("bthd,bshd->bhts", layer.q, layer.k)
        rebuilt = torch.einsum(
            "bhts,bshd->bthd", logits.masked_fill(pad[:, None, None], -torch.inf).softmax(-1), layer.v
        )
        torch.testing.assert_close(rebuilt[~pad], layer.out[~pad], rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "padded"])
@torch.no_grad()
def test_rebuilt_kernel_attention_of_the_decoder_is_its_output(make, make_tokens, settings, lengths):
    model, tokens = make(settings).part("decoder"), make_tokens(lengths, hidden=True)
    spec, pad = model.attention, with_special(~tokens.real_BT)
    assert (spec.kind, spec.n_prefix, spec.n_layers, spec.scale) == ("kernel", 2, 2, 1.0)
    layers = recorded(model, tokens)
    for layer in layers:
        kernel = torch.einsum("bthr,bshr->bhts", layer.q.double(), layer.k.double())
        torch.testing.assert_close(kernel.sum(-1), torch.ones_like(kernel[..., 0]), rtol=0, atol=1e-5)
        rebuilt = torch.einsum("bhts,bshd->bthd", kernel, layer.v.double()).float()
        torch.testing.assert_close(rebuilt[~pad], layer.out[~pad], rtol=0, atol=1e-5)
    short = []
    model.record_qk(tokens, record=lambda _, q, k, *rest: short.append((q, k)))
    for (q, k), layer in zip(short, layers, strict=True):
        torch.testing.assert_close(q, layer.q)
        torch.testing.assert_close(k, layer.k)


@torch.no_grad()
def test_the_encoder_sees_neither_zeros_nor_hidden_counts(make, make_tokens):
    """What it makes of a cell is what it makes of the visible genes alone, in whatever company."""
    model, tokens = make(), make_tokens((9, 4, 7), hidden=True)
    encoded = model.encode(tokens)
    for cell in range(3):
        keep = tokens.real_BT[cell] & ~tokens.hidden_BT[cell] & (tokens.values_BT[cell] > 0)
        alone = CellTokens(
            tokens.genes_BT[cell][keep][None], tokens.values_BT[cell][keep][None], tokens.totals_B[cell][None]
        )
        expected = model.encode(alone)
        torch.testing.assert_close(encoded.genes_BTM[cell, keep], expected.genes_BTM[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoded.special_BPM[cell], expected.special_BPM[0], rtol=1e-4, atol=1e-5)
        zeros = tokens.real_BT[cell] & ~tokens.hidden_BT[cell] & (tokens.values_BT[cell] == 0)
        torch.testing.assert_close(encoded.genes_BTM[cell, zeros], model.zero.expand(int(zeros.sum()), -1))
        hidden = tokens.hidden_BT[cell]
        torch.testing.assert_close(encoded.genes_BTM[cell, hidden], model.mask.expand(int(hidden.sum()), -1))
    other = dataclasses.replace(tokens, values_BT=torch.where(tokens.hidden_BT, 77.0, tokens.values_BT))
    torch.testing.assert_close(model.values(model.encode(other)), model.values(encoded), rtol=0, atol=0)


@torch.no_grad()
def test_released_settings_embed_zero_as_a_value(make):
    model = make("released")
    assert model.zero is None
    torch.testing.assert_close(model._zero(), model.value_encoder(torch.zeros(1, 1))[0, 0])
    assert isinstance(model.value_encoder.alpha, float)
    assert make("paper").value_encoder.alpha.requires_grad
    assert make("paper").value_encoder.first.bias is None


@torch.no_grad()
def test_the_order_of_genes_padding_and_company_change_nothing(make, make_tokens):
    model, tokens = make(), make_tokens((9, 4, 7), width=12, hidden=True)
    values = model.values(model.encode(tokens))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    parts = ("genes_BT", "values_BT", "pad_BT", "hidden_BT")
    moved = dataclasses.replace(tokens, **{name: getattr(tokens, name)[:, order] for name in parts})
    real = tokens.real_BT[:, order]
    torch.testing.assert_close(model.values(model.encode(moved))[real], values[:, order][real], rtol=1e-4, atol=1e-5)
    one = dataclasses.replace(tokens, totals_B=tokens.totals_B[1:2], **{n: getattr(tokens, n)[1:2, :4] for n in parts})
    torch.testing.assert_close(model.values(model.encode(one))[0], values[1, :4], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_decoder_is_shown_every_gene_of_the_data(make):
    """Reading a few genes of a cell gives what reading all gives there: the others are zeros, and always shown."""
    model, rng = make().part("decoder"), np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(0.6, (3, 20)).astype(np.float32))
    tokens, totals = np.arange(5, 25), np.full(3, 50.0)
    whole = model.tokenize(counts, tokens, totals, context="shared")
    few = model.tokenize(counts, tokens, totals, context="expressed")
    every, some = recorded(model, whole), recorded(model, few)
    values, shown = model.values(model.encode(whole)), model.values(model.encode(few))
    for cell in range(3):
        real = few.real_BT[cell]
        at = few.genes_BT[cell, real] - 5
        torch.testing.assert_close(shown[cell, real], values[cell, at], rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(some, every, strict=True):
            keep = torch.cat([torch.ones(2, dtype=torch.bool), real])
            rows = torch.cat([torch.arange(2), 2 + at])
            torch.testing.assert_close(mine.q[cell, keep], theirs.q[cell, rows], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_total_asked_for_moves_the_values(make, make_tokens):
    model, tokens = make(), make_tokens()
    plain = model.values(model.encode(tokens))
    base = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(CellTokens)}
    same = DepthTokens(**base, target_B=tokens.totals_B)
    torch.testing.assert_close(model.values(model.encode(same)), plain)
    deeper = dataclasses.replace(same, target_B=10 * tokens.totals_B).to("cpu")
    assert (model.values(model.encode(deeper)) - plain).abs().max() > 1e-3
    counts = model.decode(model.encode(deeper), tokens.totals_B).mean_BT
    expected = model.values(model.encode(deeper)).clamp(0, 12).expm1() * 10 * tokens.totals_B[:, None] / 1e4
    torch.testing.assert_close(counts, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("settings", SETTINGS)
def test_recomputing_gives_the_same_gradients(make, make_tokens, settings):
    tokens, found = make_tokens((9, 4, 7), hidden=True), []
    for recompute in (False, True):
        model = make(settings, recompute=recompute).double()
        cells = dataclasses.replace(tokens, values_BT=tokens.values_BT.double(), totals_B=tokens.totals_B.double())
        values = model.values(model.encode(cells))
        values[tokens.real_BT].square().sum().backward()
        found.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-6, atol=1e-9)
        assert gradient is not None, name


@torch.no_grad()
def test_poolings(make, make_tokens):
    model, tokens = make(), make_tokens((9, 4, 7), hidden=True)
    encoded = model.encode(tokens)
    parts = {name: pool(encoded, name) for name in POOLINGS}
    torch.testing.assert_close(parts["all"], torch.cat([parts[name] for name in POOLINGS[:-1]], dim=1))
    seen = tokens.real_BT & ~tokens.hidden_BT & (tokens.values_BT > 0)
    for cell in range(3):
        rows = encoded.genes_BTM[cell, seen[cell]]
        torch.testing.assert_close(parts["max"][cell], rows.amax(0))
        torch.testing.assert_close(parts["mean"][cell], rows.mean(0))
    nothing = model.encode(dataclasses.replace(tokens, hidden_BT=tokens.real_BT))
    assert all(torch.isfinite(pool(nothing, name)).all() for name in POOLINGS)
    with pytest.raises(ValueError, match="pooling='sum' is unknown; choose one of"):
        pool(encoded, "sum")


def test_checkpoints_keep_the_part(make, make_tokens, tmp_path):
    model, tokens = make(), make_tokens()
    save_model(model, tmp_path / "whole")
    save_model(model.part("decoder"), tmp_path / "kept")
    decoders = [load_model(tmp_path / "whole", part="decoder"), load_model(tmp_path / "kept")]
    for loaded in (load_model(tmp_path / "whole"), *decoders):
        with torch.no_grad():
            torch.testing.assert_close(
                loaded.values(loaded.encode(tokens)), model.values(model.encode(tokens)), rtol=0, atol=0
            )
    for loaded in decoders:
        assert (loaded.attention.kind, loaded.name) == ("kernel", "xtrimogene-decoder")
        assert loaded.part("encoder").attention == model.attention
    with pytest.raises(ValueError, match="part='top' is unknown"):
        load_model(tmp_path / "whole", part="top")
    assert model.config.part == "encoder"


def test_networks_of_both_parts_are_called_what_they_are(make, human_vocab, make_cells):
    cells = make_cells()
    shuffled = cells[:, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    for part, kind in (("encoder", "softmax"), ("decoder", "kernel")):
        model = make(vocab=human_vocab).part(part)
        maps, again = (gl.tl.attention(x, model, groupby="cell_type", genes="all") for x in (cells, shuffled))
        assert maps.spec.kind == maps.provenance["attention_kind"] == kind
        networks = [gl.tl.infer_networks(x, top_k=3, min_fraction=0)["B cell"].edges for x in (maps, again)]
        assert len(networks[0])
        np.testing.assert_allclose(networks[0]["weight"], networks[1]["weight"], rtol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_trains_and_adapts(make, human_vocab, make_cells, tmp_path, settings):
    pytest.importorskip("lightning")
    from grnlab.data import CellCollection
    from grnlab.training import PretrainConfig, pretrain

    counts = sp.csr_matrix(np.random.default_rng(0).poisson(40, (60, 60)).astype(np.float32))
    config = PretrainConfig(
        objectives=("read_depth",), n_tokens=40, batch_size=8, max_steps=12, lr=0.01, warmup=1, val_every=6
    )
    cells, sizes = CellCollection.from_counts(counts), make(settings, vocab=human_vocab).config
    model = pretrain(human_vocab, cells, model=sizes, config=config, out=tmp_path / "model", progress=False)
    first, last = (point["val/loss"] for point in model.provenance["loss_curve"])
    assert last < first
    loaded = load_model(tmp_path / "model")
    adapted = gl.tl.adapt(make_cells(), loaded, max_steps=2, progress=False)
    assert "val/loss" in adapted.provenance["adapted"]["loss_curve"][-1]
    assert not torch.equal(adapted.to_decoder.weight, loaded.to_decoder.weight)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_read_outs_it_can_serve_and_the_one_it_cannot(make, human_vocab, make_cells, part):
    model, options = make(vocab=human_vocab).part(part), {"genes": 30, "max_cells": 2, "min_fraction": 0}
    for method in ("attention_cells", "value_norm", "jacobian", "perturbation"):
        assert np.isfinite(gl.tl.read_out(make_cells(), model, method, **options).group("all")).any()
    with pytest.raises(ValueError, match="no maps that its predictions of hidden genes flow through"):
        gl.tl.read_out(make_cells(), model, "attention_gradient", **options)


def test_wrong_use_is_told(make, make_tokens):
    model = make()
    counts = sp.csr_matrix(np.ones((1, 3), dtype=np.float32))
    with pytest.raises(ValueError, match=r"the encoder of xTrimoGene sees no zeros.*model.part"):
        model.tokenize(counts, np.arange(3), np.full(1, 3.0), context="shared")
    with pytest.raises(ValueError, match="its attention is recorded of expressed genes only"):
        model.record_qk(make_tokens(hidden=True), record=lambda *_: None)
    for wrong in ({"settings": "theirs"}, {"part": "top"}, {"d_model": 10}, {"d_decoder": 9}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            XTrimoGeneConfig(**wrong)
