import json

import pytest
import torch

from grnlab.backbones import AttentionSpec
from grnlab.heads import HeadSet

SPEC = AttentionSpec(n_layers=3, n_heads=2, d_head=4, scale=0.5, n_prefix=1)


def test_mean_takes_every_head_alike():
    heads = HeadSet.mean(SPEC)
    assert torch.equal(heads.weights_LH, torch.ones(3, 2))
    assert heads.origin == "unsupervised"
    assert len(heads.pairs()) == 6


def test_of_pairs_and_weights():
    heads = HeadSet.of(SPEC, [(2, 1), (0, 0)])
    assert heads.weights_LH.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert heads.pairs() == [(0, 0), (2, 1)]
    assert heads.name == "2 heads"
    heads = HeadSet.of(SPEC, {(1, 0): 0.25, (2, 1): 0.75}, name="mine")
    assert heads.weights_LH.tolist() == [[0, 0], [0.25, 0], [0, 0.75]]
    assert heads.name == "mine"
    assert HeadSet.of(SPEC, iter([(1, 1)])).pairs() == [(1, 1)]


@pytest.mark.parametrize(("layer", "number"), [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_layer(layer, number):
    heads = HeadSet.layer(SPEC, layer)
    assert heads.pairs() == [(number, 0), (number, 1)]
    assert heads.name == f"layer {number}"


@pytest.mark.parametrize("layer", [3, -4])
def test_layer_that_does_not_exist(layer):
    with pytest.raises(ValueError, match=f"layer={layer} does not exist; the model has 3 layers"):
        HeadSet.layer(SPEC, layer)


@pytest.mark.parametrize("head", [(3, 0), (0, 2), (-1, 0), (0, -1)])
def test_head_that_does_not_exist(head):
    with pytest.raises(ValueError, match=r"the model has 3 layers of 2 heads"):
        HeadSet.of(SPEC, [head])


@pytest.mark.parametrize(
    "weights",
    [torch.zeros(3, 2), torch.tensor([[1.0, -1.0]]), torch.ones(3), torch.tensor([[1.0, float("nan")]])],
    ids=["all zero", "negative", "one row", "NaN"],
)
def test_bad_weights(weights):
    with pytest.raises(ValueError, match="head set 'mine' needs a finite weight"):
        HeadSet("mine", weights)


def test_no_head():
    with pytest.raises(ValueError, match="one above 0"):
        HeadSet.of(SPEC, [])


def test_to_dict_is_json():
    heads = HeadSet.of(SPEC, {(1, 0): 0.25, (2, 1): 0.75}, name="mine")
    expected = {"name": "mine", "origin": "chosen by the user", "weights": {"1.0": 0.25, "2.1": 0.75}}
    assert json.loads(json.dumps(heads.to_dict())) == expected


def test_a_saved_set_is_the_same(tmp_path):
    heads = HeadSet("mine", torch.tensor([[0.0, 0.25], [0.0, 0.0], [1.0, 0.0]]), "ridge on trrust")
    loaded = HeadSet.load(heads.save(tmp_path / "heads.json"))
    assert (loaded.name, loaded.origin) == (heads.name, heads.origin)
    assert torch.equal(loaded.weights_LH, heads.weights_LH)
    with pytest.raises(FileExistsError, match="overwrite"):
        heads.save(tmp_path / "heads.json")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"name": 1}', "\udcff", "[" * 100_000]
    + [
        f'{{"name": "x", "origin": "", "shape": {shape}, "weights": {weights}}}'
        for shape, weights in (
            ("[2]", '{"0.0": 1}'),
            ("[2, 2]", '{"7.0": 1}'),
            ("[2, 2]", '{"zero": 1}'),
            ("[2, 2]", '{"0.0": NaN}'),
            ("[2, 2]", "{}"),
            ("[-1, 2]", '{"0.0": 1}'),
            ("[1e9, 1e9]", '{"0.0": 1}'),
            ('["a", 2]', '{"0.0": 1}'),
        )
    ],
)
def test_a_file_without_a_head_set_is_told(tmp_path, content):
    path = tmp_path / "heads.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="holds no head set"):
        HeadSet.load(path)
