import pytest
import torch

from grnlab.backbones import ScPrint, ScPrintConfig, load_model
from grnlab.training import PretrainConfig, estimate


@pytest.fixture(scope="module")
def model():
    config = ScPrintConfig(n_layers=2, d_model=32, n_heads=2, classes={"cell_type": ("a", "b")}, dropout=0.0)
    return ScPrint(load_model("grnlab-small").vocab, config)


def needs(model, **settings):
    return estimate(model, PretrainConfig(objectives=("mask", "mvc", "classify"), **settings))


def test_parameters_are_counted_with_gradients_and_moments(model):
    found = needs(model, n_tokens=32, batch_size=4)
    n = sum(p.numel() for p in model.parameters())
    assert found.n_parameters == n
    assert found.parameter_mb == pytest.approx(n * 16 / 1e6)
    assert needs(model, n_tokens=32, batch_size=4, average=0.99).parameter_mb == pytest.approx(n * 20 / 1e6)


def test_activations_grow_with_the_batch_and_the_context(model):
    small = needs(model, n_tokens=64, batch_size=8).activation_mb
    assert needs(model, n_tokens=64, batch_size=32).activation_mb == pytest.approx(4 * small, rel=0.15)
    assert needs(model, n_tokens=128, batch_size=8).activation_mb == pytest.approx(2 * small, rel=0.25)


def test_activations_are_what_the_step_keeps(model):
    """At least the inputs of every linear layer of the stack, at most a few hundred numbers per token and dimension."""
    n_cells, n_tokens = 8, 64
    tokens = n_cells * (n_tokens + 3)
    found = needs(model, n_tokens=n_tokens, batch_size=n_cells).activation_mb * 1e6
    linear_inputs = 4 * tokens * model.config.n_layers * 32 * (1 + 1 + 1 + 4)
    assert linear_inputs < found < 30 * linear_inputs


def test_nothing_of_the_model_changes(model):
    before = {name: x.clone() for name, x in model.state_dict().items()}
    needs(model, n_tokens=16, batch_size=2)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_text_names_all(model):
    text = str(needs(model, n_tokens=16, batch_size=2))
    for word in ("M parameters", "memory per process", "cells/s on"):
        assert word in text
