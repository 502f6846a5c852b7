import dataclasses
import math

import anndata as ad
import numpy as np
import pytest
import torch

import grnlab as gl
from grnlab.backbones import Backbone, CellLM, CellLMConfig, load_model, save_model
from grnlab.data import CellCollection, CellTokens
from grnlab.training import PretrainConfig, pretrain

CLASSES = {"tissue": ("normal", "tumour")}
SMALL = {"n_layers": 2, "d_model": 16, "n_heads": 4, "n_features": 7, "classes": CLASSES}


@pytest.fixture
def make_celllm(tiny_vocab):
    """Tiny models whose every weight and bias is random."""

    def make(*, seed=0, vocab=tiny_vocab, **config):
        torch.manual_seed(seed)
        model = CellLM(vocab, CellLMConfig(**(SMALL | config)), name="tiny").eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
        return model

    return make


@pytest.fixture
def model(make_celllm):
    return make_celllm()


def recorded(run):
    layers = {}
    run(lambda layer, *rest: layers.setdefault(layer, rest))
    return layers


@pytest.mark.parametrize("lengths", [(9, 9, 9), (9, 4, 7)], ids=["full", "padded"])
@pytest.mark.parametrize("zeros", [False, True])
@torch.no_grad()
def test_rebuilt_attention_equals_the_output_of_the_module(model, make_tokens, lengths, zeros):
    """The invariant, with genes that are not expressed among the tokens or without."""
    tokens = make_tokens(lengths, hidden=True)
    if not zeros:
        tokens = dataclasses.replace(tokens, values_BT=tokens.values_BT + tokens.real_BT)
    projected = []
    for block in model.transformer.layers:
        block.attention.register_forward_hook(lambda *args: projected.append(args[-1]))
    layers = recorded(lambda record: model.encode(tokens, record=record))
    spec = model.attention
    assert isinstance(model, Backbone)
    assert (spec.kind, spec.n_prefix, spec.d_head, len(layers)) == ("kernel", 1, 7, 2)
    real = torch.nn.functional.pad(tokens.real_BT & (tokens.values_BT > 0), (1, 0), value=True)
    for layer, (q, k, v, out) in layers.items():
        assert q.shape == (3, 10, 4, 7)
        maps = torch.einsum("bthr,bshr->bhts", q, k)
        torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]), rtol=0, atol=1e-5)
        rebuilt = torch.einsum("bhts,bshd->bthd", maps, v)
        torch.testing.assert_close(rebuilt[real], out[real], rtol=0, atol=1e-5)
        projection = model.transformer.layers[layer].attention.out
        torch.testing.assert_close(projection(rebuilt.flatten(-2))[real], projected[layer][real])
    short = recorded(lambda record: model.record_qk(tokens, record=record))
    for layer, (q, k, *_) in short.items():
        torch.testing.assert_close(q, layers[layer][0])
        torch.testing.assert_close(k, layers[layer][1])


@torch.no_grad()
def test_genes_that_are_not_expressed_are_not_read(model, make_tokens):
    tokens = make_tokens((9, 4, 7), width=12, hidden=True)
    tokens = dataclasses.replace(tokens, values_BT=(tokens.values_BT - 2).clamp(min=0))
    got = model.encode(tokens)
    shown = tokens.real_BT & (tokens.values_BT > 0)
    assert (tokens.real_BT & ~shown).any()
    assert torch.equal(got.pad_BT, ~shown)
    assert not got.genes_BTM[~shown].any()
    for cell in range(3):
        keep = shown[cell]
        genes, values, hidden = (
            x[cell : cell + 1, keep] for x in (tokens.genes_BT, tokens.values_BT, tokens.hidden_BT)
        )
        alone = CellTokens(genes, values, tokens.totals_B[cell : cell + 1], hidden_BT=hidden)
        expected = model.encode(alone)
        torch.testing.assert_close(got.genes_BTM[cell, keep], expected.genes_BTM[0])
        torch.testing.assert_close(got.cell_BM[cell], expected.cell_BM[0])
    with_record = model.encode(tokens, record=lambda *_: None)
    torch.testing.assert_close(with_record.genes_BTM, got.genes_BTM)
    torch.testing.assert_close(with_record.cell_BM, got.cell_BM)


@torch.no_grad()
def test_order_of_genes_and_hidden_counts_change_nothing(model, make_tokens):
    tokens = make_tokens((9, 9, 9), hidden=True)
    before = model.encode(tokens)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    mixed = CellTokens(tokens.genes_BT[:, order], tokens.values_BT[:, order], tokens.totals_B,
                       hidden_BT=tokens.hidden_BT[:, order])  # fmt: skip
    after = model.encode(mixed)
    torch.testing.assert_close(after.genes_BTM, before.genes_BTM[:, order])
    torch.testing.assert_close(after.cell_BM, before.cell_BM)
    hidden = tokens.hidden_BT & (tokens.values_BT > 0)
    changed = dataclasses.replace(tokens, values_BT=tokens.values_BT.masked_fill(hidden, 1234.0))
    assert torch.equal(model.encode(changed).cell_BM, before.cell_BM)
    seen = model.encode(dataclasses.replace(tokens, hidden_BT=None))
    assert not torch.allclose(seen.cell_BM, before.cell_BM, atol=1e-3)


@torch.no_grad()
def test_bins_by_hand(model):
    """Equal widths of ln(1 + counts per 10,000), whatever the depth of the cell."""
    tokens = CellTokens(torch.zeros(2, 4).long(), torch.tensor([[0.0, 1, 10, 1000], [0, 2, 20, 2000]]),
                        torch.tensor([1000.0, 2000.0]))  # fmt: skip
    by_hand = [int(math.log1p(x) / math.log1p(1e4) * 32) for x in (0.0, 10.0, 100.0)]
    assert model.bins(tokens).tolist() == [[*by_hand, 31]] * 2
    empty = CellTokens(torch.zeros(1, 2).long(), torch.zeros(1, 2), torch.zeros(1))
    assert torch.isfinite(model.encode(empty).cell_BM).all()


@torch.no_grad()
def test_pooling_is_a_linear_map_of_the_gene_list(model, make_tokens):
    tokens = make_tokens((9, 4, 7))
    encoded = model.encode(tokens)
    score = model.pool_score(encoded.genes_BTM).squeeze(-1) * ~encoded.pad_BT
    scattered = torch.zeros(3, 30).scatter_add(1, tokens.genes_BT, score)
    pooled = scattered @ (model.gene_embedding.weight + model.pool_embedding.weight)
    torch.testing.assert_close(encoded.cell_BM, encoded.classes_BM["tissue"] + model.pool_norm(pooled))


def test_checkpoint(model, make_tokens, tmp_path):
    loaded = load_model(save_model(model, tmp_path / "celllm"))
    assert (type(loaded), loaded.config) == (CellLM, model.config)
    tokens = make_tokens((9, 4, 7))
    with torch.no_grad():
        assert torch.equal(loaded.encode(tokens).cell_BM, model.encode(tokens).cell_BM)
    loaded = load_model(save_model(model, tmp_path / "half", half=True))
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(tokens).cell_BM, model.encode(tokens).cell_BM, rtol=0, atol=0.02)


def test_zeros_are_not_shown(model, make_cells):
    with pytest.raises(ValueError, match='use context="expressed"'):
        model.tokenize(make_cells().X[:, :3], np.arange(3), np.ones(20), context="shared")


def test_what_is_no_size():
    with pytest.raises(ValueError, match="n_bins=0 must be 1 or more"):
        CellLMConfig(n_bins=0)
    with pytest.raises(ValueError, match="d_model=10 must be a multiple of n_heads=4"):
        CellLMConfig(d_model=10, n_heads=4)
    config = CellLMConfig(classes=CLASSES)
    assert CellLMConfig.from_dict(config.to_dict()) == config


def test_networks_do_not_depend_on_the_order_of_columns(make_celllm, human_vocab, make_cells):
    model, cells = make_celllm(vocab=human_vocab), make_cells()
    order = np.random.default_rng(1).permutation(cells.n_vars)
    nets = [
        gl.tl.infer_networks(gl.tl.attention(one, model, groupby="cell_type", genes=30), top_k=5)
        for one in (cells, cells[:, order].copy())
    ]
    for name in ("B cell", "T cell"):
        first, second = (net[name].edges.sort_values(["source", "target"]).reset_index(drop=True) for net in nets)
        assert len(first) > 50
        assert first[["source", "target"]].equals(second[["source", "target"]])
        np.testing.assert_allclose(first["weight"], second["weight"], rtol=1e-5)


@pytest.fixture(scope="module")
def two_kinds():
    """Cells of two kinds, half of their genes five times as high in one, as a collection and as AnnData."""
    data = gl.datasets.planted(n_cells=120, seed=1)
    counts = np.asarray(data.adata.X.todense())
    kind = np.arange(120) % 2
    half = counts.shape[1] // 2
    counts[kind == 1, :half] *= 5
    cells = CellCollection.from_counts(type(data.adata.X)(counts))
    cells.labels["tissue"] = kind
    return data.vocab, cells, ad.AnnData(type(data.adata.X)(counts), var=data.adata.var.copy())


def test_trains_saves_adapts(two_kinds, tmp_path):
    """All three tasks of the paper in the ordinary loop, and what came of it in the ordinary verbs."""
    vocab, cells, adata = two_kinds
    config = PretrainConfig(
        objectives=("mask_bins", "classify", {"name": "dropout_contrast", "at_once": 8}),
        n_tokens=40, batch_size=32, max_steps=20, val_every=10, warmup=2, val_fraction=0.2, label="tissue", lr=1e-2,
    )  # fmt: skip
    model = pretrain(vocab, cells, model=CellLMConfig(**SMALL), config=config, out=tmp_path / "m", progress=False)
    curve = model.provenance["loss_curve"]
    first, last = curve[0], curve[-1]
    assert last["val/classify"] < 0.5 < math.log(2)
    for name in ("mask_bins", "dropout_contrast"):
        assert last[f"val/{name}"] < first[f"train/{name}"]
    loaded = load_model(tmp_path / "m")
    tokens = cells.batch(np.arange(8), 40, generator=np.random.default_rng(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(tokens).cell_BM, model.encode(tokens).cell_BM, rtol=0, atol=0.05)
    assert len(gl.tl.infer_networks(gl.tl.attention(adata, loaded), top_k=3)) == 1
    adapted = gl.tl.adapt(adata, loaded, max_steps=1, progress=False)
    assert type(adapted) is CellLM
    assert not torch.equal(adapted.gene_embedding.weight, loaded.gene_embedding.weight)
