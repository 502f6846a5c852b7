import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from grnlab.backbones import Backbone, ScPrint, ScPrintConfig, load_model
from grnlab.data.tokens import CellTokens

CONFIGS = [
    {},
    {"positions": False},
    {"value_scale": "fraction"},
    {"decoder": "nb", "classes": {}},
    {"decoder": "mse", "n_layers": 3, "n_heads": 2},
]
LENGTHS = [(9, 9, 9), (9, 4, 7)]


def recorded(run):
    """Layer → (q, k, v, out) of one call."""
    layers = {}

    def record(layer, *rest):
        assert layer not in layers
        layers[layer] = rest

    run(record)
    return layers


def attention(q, k, v, scale, pad_BT):
    """Attention times values from the recorded tensors, in their precision."""
    logits = scale * torch.einsum("bthd,bshd->bhts", q, k)
    if pad_BT is not None:
        logits = logits.masked_fill(pad_BT[:, None, None, :], -torch.inf)
    return torch.einsum("bhts,bshd->bthd", logits.softmax(-1), v)


def with_prefix(pad_BT, n_prefix):
    if pad_BT is None:
        return None
    return torch.cat([torch.zeros(len(pad_BT), n_prefix, dtype=torch.bool), pad_BT], dim=1)


def outputs(encoded):
    return {"genes": encoded.genes_BTM, "cell": encoded.cell_BM, **encoded.classes_BM}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "padded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_rebuilt_attention_equals_the_output_of_the_module(make_model, make_tokens, config, lengths, dtype):
    """The invariant: from what is recorded, the attention that gives the module's own output can be rebuilt."""
    model, tokens = make_model(**config), make_tokens(lengths, hidden=True)
    projected = []
    for block in model.transformer.layers:
        block.attention.register_forward_hook(lambda *args: projected.append(args[-1]))
    layers = recorded(lambda record: model.encode(tokens, record=record))
    spec = model.attention
    pad = with_prefix(tokens.pad_BT, spec.n_prefix)
    assert list(layers) == list(range(spec.n_layers))
    assert (spec.n_prefix, spec.d_head) == (2 + len(model.config.classes), 16 // spec.n_heads)
    for layer, (q, k, v, out) in layers.items():
        assert q.shape == (3, spec.n_prefix + 9, spec.n_heads, spec.d_head)
        rebuilt = attention(q.to(dtype), k.to(dtype), v.to(dtype), spec.scale, pad)
        real = slice(None) if pad is None else ~pad
        torch.testing.assert_close(rebuilt[real], out[real].to(dtype), rtol=0, atol=1e-5)
        projection = model.transformer.layers[layer].attention.out
        torch.testing.assert_close(projection(rebuilt.float().flatten(-2))[real], projected[layer][real])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "padded"])
@torch.no_grad()
def test_record_qk_equals_encode(make_model, make_tokens, config, lengths):
    model, tokens = make_model(**config), make_tokens(lengths)
    whole = recorded(lambda record: model.encode(tokens, record=record))
    short = recorded(lambda record: model.record_qk(tokens, record=record))
    assert list(short) == list(whole)
    for layer, (q, k, *_) in short.items():
        torch.testing.assert_close(q, whole[layer][0])
        torch.testing.assert_close(k, whole[layer][1])


@torch.no_grad()
def test_record_qk_stops_at_the_keys_of_the_last_layer(tiny_model, make_tokens):
    tokens = make_tokens((9, 4, 7))
    expected = recorded(lambda record: tiny_model.record_qk(tokens, record=record))
    last = tiny_model.transformer.layers[-1]
    last.attention.qkv.weight[32:] = torch.nan  # the rows that would make values
    last.attention.qkv.bias[32:] = torch.nan
    for module in (last.attention.out, last.norm2, last.mlp, tiny_model.transformer.norm):
        module.register_forward_pre_hook(lambda *_: pytest.fail("ran beyond the last keys"))
    got = recorded(lambda record: tiny_model.record_qk(tokens, record=record))
    for layer, rest in got.items():
        for mine, theirs in zip(rest, expected[layer], strict=True):
            assert (mine is None) == (theirs is None) == (layer == 1 and mine is None)
            if mine is not None:
                torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert got[1][2] is None


@torch.no_grad()
def test_recording_changes_nothing(tiny_model, make_tokens):
    tokens = make_tokens((9, 4, 7))
    plain = tiny_model.encode(tokens)
    with_record = tiny_model.encode(tokens, record=lambda *_: None)
    assert torch.equal(plain.genes_BTM, with_record.genes_BTM)


@pytest.mark.parametrize("value_scale", ["log2", "fraction"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "padded"])
@torch.no_grad()
def test_hidden_counts_never_reach_the_model(make_model, make_tokens, value_scale, lengths):
    model, tokens = make_model(value_scale=value_scale), make_tokens(lengths, hidden=True)
    changed = dataclasses.replace(tokens, values_BT=tokens.values_BT.masked_fill(tokens.hidden_BT, 1234.0))
    assert not torch.equal(changed.values_BT, tokens.values_BT)
    before, after = outputs(model.encode(tokens)), outputs(model.encode(changed))
    for name in before:
        assert torch.equal(before[name], after[name])
    seen = dataclasses.replace(tokens, hidden_BT=None)
    assert not torch.allclose(model.encode(seen).genes_BTM, before["genes"], atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@torch.no_grad()
def test_padding_changes_nothing(make_model, make_tokens, config):
    model, tokens = make_model(**config), make_tokens((9, 4, 7), width=12, hidden=True)
    pad = tokens.pad_BT
    dirty = dataclasses.replace(
        tokens,
        genes_BT=tokens.genes_BT.masked_fill(pad, 17),
        values_BT=tokens.values_BT.masked_fill(pad, 99.0),
    )
    depth = torch.tensor([40.0, 20.0, 30.0])
    padded = model.encode(dirty)
    decoded = model.decode(padded, depth).log_mean_BT, model.decode_from_cell(padded, depth).log_mean_BT
    for cell, length in enumerate((9, 4, 7)):
        alone = model.encode(
            CellTokens(
                tokens.genes_BT[cell : cell + 1, :length],
                tokens.values_BT[cell : cell + 1, :length],
                tokens.totals_B[cell : cell + 1],
                hidden_BT=tokens.hidden_BT[cell : cell + 1, :length],
            )
        )
        expected = outputs(alone)
        got = {name: x[cell : cell + 1] for name, x in outputs(padded).items()}
        got["genes"] = got["genes"][:, :length]
        for name in expected:
            torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-5)
        one = depth[cell : cell + 1]
        alone_decoded = model.decode(alone, one).log_mean_BT, model.decode_from_cell(alone, one).log_mean_BT
        for mine, theirs in zip(decoded, alone_decoded, strict=True):
            torch.testing.assert_close(mine[cell, :length], theirs[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@torch.no_grad()
def test_a_cell_is_a_set_of_genes(make_model, make_tokens, config):
    model, tokens = make_model(**config), make_tokens()
    order = torch.from_numpy(np.random.default_rng(0).permutation(9))
    permuted = dataclasses.replace(tokens, genes_BT=tokens.genes_BT[:, order], values_BT=tokens.values_BT[:, order])
    before, after = outputs(model.encode(tokens)), outputs(model.encode(permuted))
    before["genes"] = before["genes"][:, order]
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_input_reaches_the_output(tiny_model, make_tokens):
    tokens = make_tokens()
    before = tiny_model.encode(tokens)
    for change in (
        {"genes_BT": (tokens.genes_BT + 2) % 30},
        {"values_BT": tokens.values_BT + 5},
        {"totals_B": tokens.totals_B * 10},
    ):
        after = tiny_model.encode(dataclasses.replace(tokens, **change))
        for name, x in outputs(after).items():
            assert not torch.allclose(x, outputs(before)[name], atol=1e-3), (change, name)


@torch.no_grad()
def test_token_is_the_sum_of_gene_value_and_position(tiny_model, make_tokens):
    tokens = make_tokens((9, 4, 7))
    gene, x, pad = tiny_model.embed(tokens)
    expected = (
        tiny_model.gene_embedding.weight[tokens.genes_BT]
        + tiny_model.value_encoder(tokens.values_BT)
        + tiny_model.position(tokens.genes_BT)
    )
    torch.testing.assert_close(x[:, 4:], expected)
    torch.testing.assert_close(x[:, 0], tiny_model.depth_encoder(tokens.totals_B))
    torch.testing.assert_close(x[:, 1:4], tiny_model.special.expand(3, -1, -1))
    torch.testing.assert_close(gene, tiny_model.gene_embedding.weight[tokens.genes_BT])
    assert torch.equal(pad, with_prefix(tokens.pad_BT, 4))


@torch.no_grad()
def test_special_tokens_are_told_apart(tiny_model, make_tokens):
    tokens, layers = make_tokens(), {}
    encoded = tiny_model.encode(tokens, record=lambda layer, *rest: layers.update({layer: rest}))
    assert encoded.genes_BTM.shape == (3, 9, 16)
    assert encoded.cell_BM.shape == (3, 16)
    assert list(encoded.classes_BM) == ["cell_type", "sex"]
    logits = tiny_model.classify(encoded)
    assert {name: tuple(x.shape) for name, x in logits.items()} == {"cell_type": (3, 3), "sex": (3, 2)}
    for name, x in logits.items():
        torch.testing.assert_close(x, tiny_model.class_decoders[name](encoded.classes_BM[name]))
    _, x, _ = tiny_model.embed(tokens)
    after = tiny_model.transformer(x)
    torch.testing.assert_close(encoded.cell_BM, after[:, 1])
    torch.testing.assert_close(encoded.classes_BM["cell_type"], after[:, 2])
    torch.testing.assert_close(encoded.classes_BM["sex"], after[:, 3])
    torch.testing.assert_close(encoded.genes_BTM, after[:, 4:])


@torch.no_grad()
def test_decode_from_cell_uses_all_cell_embeddings(tiny_model, make_tokens):
    encoded, depth = tiny_model.encode(make_tokens()), torch.tensor([10.0, 20.0, 30.0])
    total = encoded.cell_BM + encoded.classes_BM["cell_type"] + encoded.classes_BM["sex"]
    expected = tiny_model.cell_decoder(encoded.input_BTM, total, depth)
    torch.testing.assert_close(tiny_model.decode_from_cell(encoded, depth).log_mean_BT, expected.log_mean_BT)


def test_same_seed_same_weights(tiny_vocab):
    models = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        models.append(ScPrint(tiny_vocab, ScPrintConfig(n_layers=1, d_model=8, n_heads=2)))
    first, same, other = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["gene_embedding.weight"], other["gene_embedding.weight"])


def test_choosing_the_attention(tiny_model, make_tokens):
    tiny_model.use_attention("flash")
    with pytest.raises((ImportError, RuntimeError), match=r"flash"):
        tiny_model.encode(make_tokens())
    tiny_model.use_attention("sdpa")
    tiny_model.encode(make_tokens())


def test_config_survives_json_and_refuses_unknown_keys():
    groups = {"kind": {"any": ("a", "b"), "some": ("b",)}}
    config = ScPrintConfig(n_layers=3, classes={"sex": ("f", "m"), "kind": ("a", "b")}, groups=groups, decoder="nb")
    plain = json.loads(json.dumps(config.to_dict()))
    assert plain["groups"] == {"kind": {"any": ["a", "b"], "some": ["b"]}}
    assert ScPrintConfig.from_dict(plain) == config
    assert config.labels("kind") == ("a", "b", "any", "some")
    assert config.labels("sex") == ("f", "m")
    with pytest.raises(TypeError, match="width"):
        ScPrintConfig.from_dict({"width": 3})


def test_configs_written_before_there_were_groups():
    config = ScPrintConfig.from_dict({"classes": {"sex": ["f", "m"]}, "n_heads": 4})
    assert config == ScPrintConfig(classes={"sex": ("f", "m")}, n_heads=4)
    assert not load_model("grnlab-small").config.groups


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"colour": {"any": ("f",)}}, r"groups names the classes \['colour'\]"),
        ({"sex": {"any": ("f", "x")}}, r"group 'any' of class 'sex' has the leaves \['f', 'x'\]"),
        ({"sex": {"any": ()}}, r"group 'any' of class 'sex' has the leaves \[\]"),
        ({"sex": {"f": ("f", "m")}}, r"class 'sex' has the labels \['f'\] twice"),
    ],
)
def test_groups_that_do_not_fit_the_classes(groups, message):
    with pytest.raises(ValueError, match=message):
        ScPrintConfig(classes={"sex": ("f", "m")}, groups=groups)


def test_which_leaves_a_label_stands_for(tiny_vocab):
    groups = {"kind": {"any": ("a", "b", "c"), "some": ("c", "a")}}
    config = ScPrintConfig(n_layers=1, d_model=8, n_heads=2, classes={"kind": ("a", "b", "c")}, groups=groups)
    model = ScPrint(tiny_vocab, config)
    assert model.members("kind").int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 0, 1]]
    assert not any("members" in name for name in model.state_dict())


@torch.no_grad()
def test_regenerate_takes_the_embeddings_in_the_place_of_the_special_tokens(tiny_model, make_tokens):
    """Values of 0 for the value encoder and the embeddings as special tokens: the first pass is then the second."""
    tokens = make_tokens((9, 4, 7))
    encoded = tiny_model.encode(tokens)
    again = tiny_model.regenerate(encoded, tokens)
    for row in range(3):
        tiny_model.special.copy_(torch.stack([x[row] for x in (encoded.cell_BM, *encoded.classes_BM.values())]))
        for weight in tiny_model.value_encoder.parameters():
            weight.zero_()
        first = outputs(tiny_model.encode(tokens))
        for name, x in outputs(again).items():
            torch.testing.assert_close(x[row], first[name][row])


def test_is_a_backbone(tiny_model):
    assert isinstance(tiny_model, Backbone)
    assert tiny_model.device == torch.device("cpu")
    assert tiny_model.attention.scale == 0.5


def test_importing_a_backbone_imports_no_trainer():
    code = (
        "import sys, grnlab.backbones, grnlab.objectives, grnlab.attention, grnlab.training;"
        "print([name for name in ('lightning', 'pytorch_lightning', 'matplotlib', 'igraph') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
