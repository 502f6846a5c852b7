import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from grnlab.backbones import ScPrint, ScPrintConfig
from grnlab.objectives import Classify

GROUPS = {"lymphocyte": ("B", "T"), "any": ("B", "T", "NK")}


@pytest.fixture
def tokens(make_tokens):
    tokens = make_tokens((9,) * 4)
    labels = {"cell_type": torch.tensor([2, -1, 0, 2]), "sex": torch.tensor([-1, -1, 1, -1])}
    return dataclasses.replace(tokens, labels=labels)


@torch.no_grad()
def test_cross_entropy_of_the_known_labels(tiny_model, tokens):
    encoded = tiny_model.encode(tokens)
    logits = {name: log_softmax(x.double().numpy(), axis=-1) for name, x in tiny_model.classify(encoded).items()}
    expected = -np.mean(logits["cell_type"][[0, 2, 3], [2, 0, 2]]) - logits["sex"][2, 1]
    got = Classify().loss(tiny_model, encoded, seen=tokens, target=tokens)
    assert got.item() == pytest.approx(expected, rel=1e-5)


def loss_of(codes, logits):
    """Loss of labels over the leaves A, B, C with the coarse labels AB (3), C alone (4) and any (5)."""
    members = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1]]).bool()
    model = SimpleNamespace(classify=lambda _: {"kind": logits}, members=lambda _: members)
    encoded = SimpleNamespace(cell_BM=torch.zeros(len(codes), 2))
    tokens = SimpleNamespace(labels={"kind": torch.tensor(codes)})
    return Classify().loss(model, encoded, seen=tokens, target=tokens)


@pytest.mark.parametrize(("code", "p"), [(0, 1 / 6), (1, 2 / 6), (2, 3 / 6), (3, 3 / 6), (4, 3 / 6), (5, 1.0)])
def test_coarse_labels_by_hand(code, p):
    """Logits log 1, log 2, log 3: a coarse label has the sum of the probabilities of its leaves, the root has 1."""
    logits = torch.tensor([[1.0, 2.0, 3.0]]).log().requires_grad_()
    loss = loss_of([code], logits)
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(p), abs=1e-6)
    leaves = {0: [0], 1: [1], 2: [2], 3: [0, 1], 4: [2], 5: [0, 1, 2]}[code]
    shares = np.array([1, 2, 3]) / 6
    expected = shares - np.where(np.isin(range(3), leaves), shares / p, 0)  # p of the leaf, less its share of the label
    np.testing.assert_allclose(logits.grad[0], expected, atol=1e-6)


def test_is_the_papers_cross_entropy_of_lse_and_the_other_leaves():
    logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    concatenated = torch.cat([torch.logsumexp(logits[:, :2], -1, keepdim=True), logits[:, 2:]], dim=-1)
    expected = torch.nn.functional.cross_entropy(concatenated, torch.tensor([0]))
    torch.testing.assert_close(loss_of([3], logits), expected)


def test_mean_over_known_cells_of_any_level():
    logits = torch.tensor([[1.0, 2.0, 3.0]]).log().expand(4, 3)
    assert loss_of([0, 3, -1, 5], logits).item() == pytest.approx((np.log(6) + np.log(2) + 0) / 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits(dtype):
    logits = torch.tensor([[3e4, -3e4, 0.0]] * 3, dtype=dtype, requires_grad=True)
    loss = loss_of([0, 3, 2], logits)
    loss.backward()
    assert loss.item() == pytest.approx(logits[0, 0].item() / 3)
    assert torch.isfinite(logits.grad).all()


def test_a_model_with_coarse_labels(tiny_vocab, tokens):
    torch.manual_seed(0)
    config = ScPrintConfig(n_layers=1, d_model=8, n_heads=2, classes={"cell_type": ("B", "T", "NK")})
    model = ScPrint(tiny_vocab, dataclasses.replace(config, groups={"cell_type": GROUPS}))
    assert model.config.labels("cell_type") == ("B", "T", "NK", "lymphocyte", "any")
    assert model.members("cell_type").tolist()[3:] == [[True, True, False], [True, True, True]]
    target = dataclasses.replace(tokens, labels={"cell_type": torch.tensor([3, 4, -1, 2])})
    encoded = model.eval().encode(target)
    p = torch.softmax(model.classify(encoded)["cell_type"].double(), -1)
    expected = -(torch.log(p[0, 0] + p[0, 1]) + 0.0 + torch.log(p[3, 2])) / 3
    got = Classify().loss(model, encoded, seen=target, target=target)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    flat = ScPrint(tiny_vocab, config)
    flat.load_state_dict(model.state_dict())  # coarse labels add no weights


def test_no_known_label_adds_nothing(tiny_model, tokens):
    unknown = {name: torch.full((4,), -1) for name in tokens.labels}
    target = dataclasses.replace(tokens, labels=unknown)
    assert Classify().loss(tiny_model, tiny_model.encode(tokens), seen=tokens, target=target).item() == 0.0
    target = dataclasses.replace(tokens, labels=tokens.labels | {"sex": unknown["sex"]})
    loss = Classify().loss(tiny_model, tiny_model.encode(tokens), seen=tokens, target=target)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in tiny_model.parameters() if p.grad is not None)


def test_labels_that_are_missing(tiny_model, tokens):
    target = dataclasses.replace(tokens, labels={"sex": tokens.labels["sex"]})
    with pytest.raises(ValueError, match=r"class 'cell_type', but the cells have labels for \['sex'\] only"):
        Classify().loss(tiny_model, tiny_model.encode(tokens), seen=tokens, target=target)


def test_a_model_without_classes(make_model, tokens):
    model = make_model(classes={})
    with pytest.raises(ValueError, match="the model has no classes"):
        Classify().loss(model, model.encode(tokens), seen=tokens, target=tokens)


def test_sees_all(tokens):
    assert Classify().corrupt(tokens, generator=torch.Generator()) is tokens
