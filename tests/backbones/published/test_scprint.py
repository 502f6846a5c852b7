"""scPRINT checkpoints against the publisher's class, by the fixtures of make_scprint.py."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import grnlab as gl

VARIANTS = ["scprint_v1", "scprint_v15", "scprint_gqa"]


class SomebodysClass:
    """What a Lightning checkpoint may hold beside tensors."""

    def __init__(self, value):
        self.value = value


@pytest.fixture
def make_checkpoint(fixtures, tmp_path):
    """A .ckpt as Lightning saves it."""

    def make(name="scprint_v1", change=None, **hyper_parameters):
        content = json.loads((fixtures / name / "rest.json").read_text())
        content["state_dict"] = load_file(fixtures / name / "state_dict.safetensors")
        content["hyper_parameters"] |= hyper_parameters
        if change is not None:
            change(content)
        torch.save(content, tmp_path / f"{name}.ckpt")
        return tmp_path / f"{name}.ckpt"

    return make


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_hidden_states_and_attention_equal_the_publishers(make_checkpoint, fixtures, recorded, softmax_map, name):
    model = gl.load_model(make_checkpoint(name))
    expected = load_file(fixtures / name / "expected.safetensors")
    values = expected["values"].float()
    tokens = gl.data.CellTokens(expected["tokens"].long(), values, expected["totals"])
    encoded, layers = recorded(model, tokens)
    torch.testing.assert_close(encoded.genes_BTM, expected["genes"], rtol=0, atol=1e-5)
    extra = model.config.depth_token + model.config.metacell_token  # the publisher has them first, here they are last
    torch.testing.assert_close(encoded.cell_BM, expected["special"][:, extra], rtol=0, atol=1e-5)
    for place, x_BM in enumerate(encoded.classes_BM.values(), start=extra + 1):
        torch.testing.assert_close(x_BM, expected["special"][:, place], rtol=0, atol=1e-5)
    n_classes = len(model.config.classes)
    assert (model.n_prefix, len(encoded.classes_BM)) == (expected["special"].shape[1], n_classes)
    for layer in layers:
        attention = softmax_map(layer, model.attention, None)
        rebuilt = torch.einsum("bhts,bshd->bthd", attention, layer.v.double()).float()
        torch.testing.assert_close(rebuilt, layer.out, rtol=0, atol=1e-5)
    p = model.n_prefix
    place = [*range(p - extra, p), *range(p - extra), *range(p, p + values.shape[1])]
    attention = softmax_map(layers[-1], model.attention, None)[0, 1].float()
    torch.testing.assert_close(attention[place[:8]][:, place], expected["attention"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_padding_changes_nothing(make_checkpoint, real_cells, shown, name):
    model = gl.load_model(make_checkpoint(name))
    counts, tokens, totals = shown(model, real_cells)
    batch = model.tokenize(counts, tokens, totals, context="expressed")
    assert batch.pad_BT.any()
    encoded = model.encode(batch)
    for cell in (0, 2):
        alone = model.encode(model.tokenize(counts[cell], tokens, totals[cell : cell + 1], context="expressed"))
        torch.testing.assert_close(encoded.genes_BTM[cell][batch.real_BT[cell]], alone.genes_BTM[0], rtol=0, atol=1e-5)


def test_tokens_are_counts_by_name(make_checkpoint, real_cells, shown):
    model = gl.load_model(make_checkpoint())
    counts, tokens, totals = shown(model, real_cells)
    batch = model.tokenize(counts, tokens, totals, context="shared")
    names = model.vocab.symbols[batch.genes_BT[0].numpy()]
    np.testing.assert_array_equal(batch.values_BT, real_cells[:, names].X.toarray())
    np.testing.assert_array_equal(batch.totals_B, totals)
    assert model.vocab.species == ["Homo sapiens", "Mus musculus"]


def test_without_the_hparam_values_are_fractions(make_checkpoint):
    path = make_checkpoint("scprint_v15", change=lambda content: content["hyper_parameters"].pop("normalization"))
    assert gl.load_model(path).config.value_scale == "fraction"


def test_other_objects_need_leave_and_become_stand_ins(make_checkpoint):
    plain = gl.load_model(make_checkpoint())
    path = make_checkpoint(change=lambda content: content.update(callbacks={"a": SomebodysClass(3)}))
    with pytest.raises(ValueError, match=r"is a pickle: .* pass allow_pickle=True"):
        gl.load_model(path)
    model = gl.load_model(path, allow_pickle=True)
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in plain.state_dict().items())


def test_old_names_of_the_gene_table(make_checkpoint):
    def rename(content):
        weights = content["state_dict"]
        weights["gene_encoder.embedding.weight"] = weights.pop("gene_encoder.embeddings.weight")

    gl.load_model(make_checkpoint(change=rename))


@pytest.mark.parametrize(
    ("hyper_parameters", "names"),
    [
        ({"classes": {"type": 3, "sex": 2}}, ("type", "sex")),
        ({"classes": None, "label_counts": {"type": 3, "sex": 2}}, ("type", "sex")),
        ({"classes": [], "label_counts": {}}, ("class_0", "class_1")),
    ],
)
def test_names_of_the_classes(make_checkpoint, hyper_parameters, names):
    assert gl.load_model(make_checkpoint(**hyper_parameters)).config.classes == names


@pytest.mark.parametrize("missing", ["mixer.Wqkv.bias", "mixer.out_proj.weight", "norm1.bias"])
def test_every_key_of_the_attention_must_be_there(make_checkpoint, missing):
    name = f"transformer.blocks.1.{missing}"
    with pytest.raises(ValueError, match=rf"lacks the weights '{name}'"):
        gl.load_model(make_checkpoint(change=lambda content: content["state_dict"].pop(name)))


def test_other_architectures_are_refused(make_checkpoint):
    extra = {"cell_transformer.blocks.0.norm1.weight": torch.ones(3)}
    with pytest.raises(ValueError, match=r"weights that this architecture does not have.*cell_transformer"):
        gl.load_model(make_checkpoint(change=lambda content: content["state_dict"].update(extra)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attn_bias": "full"}, "trained with attn_bias='full'"),
        ({"normalization": "raw"}, r"normalization='raw'; only \['sum', 'log'\]"),
        ({"genes": ["ENSG00000000003"]}, r"names 1 genes and holds embeddings of 52"),
        ({"nhead": 3}, r"(heads cannot share|must be a multiple)"),
    ],
)
def test_hyper_parameters_that_cannot_be_read(make_checkpoint, change, message):
    with pytest.raises(ValueError, match=message):
        gl.load_model(make_checkpoint(**change))


def test_a_checkpoint_of_something_else(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="is no checkpoint of scPRINT"):
        gl.load_model(tmp_path / "other.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {"nhead": 2}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"lack \['genes', 'd_model', 'nlayers'\]"):
        gl.load_model(tmp_path / "other.ckpt")
    (tmp_path / "other.ckpt").write_bytes(b"PK\x03\x04 not a file")
    with pytest.raises(ValueError, match="is not a complete file of PyTorch weights"):
        gl.load_model(tmp_path / "other.ckpt")
