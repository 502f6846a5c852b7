import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from grnlab.objectives import Classify


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


def test_no_known_label_adds_nothing(tiny_model, tokens):
    unknown = {name: torch.full((4,), -1) for name in tokens.labels}
    target = dataclasses.replace(tokens, labels=unknown)
    assert Classify().loss(tiny_model, tiny_model.encode(tokens), seen=tokens, target=target).item() == 0.0
    target = dataclasses.replace(tokens, labels=tokens.labels | {"sex": unknown["sex"]})
    loss = Classify().loss(tiny_model, tiny_model.encode(tokens), seen=tokens, target=target)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in tiny_model.parameters() if p.grad is not None)


def test_sees_all(tokens):
    assert Classify().corrupt(tokens, generator=torch.Generator()) is tokens
