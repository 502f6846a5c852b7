"""Read-outs of a model with linear attention and a decoder: kernel maps in the place of softmax maps."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import grnlab as gl
from grnlab.attention import ReadOutConfig, cell_maps
from grnlab.attention.cell import Cell
from grnlab.backbones import AttentionSpec, ScPrint
from grnlab.data.tokens import CellTokens
from grnlab.nn import PerformerStack, performer
from grnlab.objectives.base import count_loss

N_FEATURES = 9


class LinearScPrint(ScPrint):
    """The architecture with other blocks."""

    @property
    def attention(self):
        spec = super().attention
        return AttentionSpec(spec.n_layers, spec.n_heads, N_FEATURES, 1.0, spec.n_prefix, "kernel")


@pytest.fixture
def model(tiny_model):
    tiny_model.__class__ = LinearScPrint
    tiny_model.transformer = PerformerStack(2, 16, 4, n_features=N_FEATURES).eval()
    return tiny_model


@pytest.fixture
def cell():
    values = torch.tensor([[3.0, 1, 0, 2, 7, 0, 4, 1]]).double()
    tokens = CellTokens(torch.tensor([[4, 9, 0, 21, 13, 29, 7, 2]]), values, torch.tensor([500.0]).double())
    return Cell(tokens, np.arange(8), np.array([0, 2, 5, 6]), np.array([0, 1, 3, 5, 6, 7]), (5, 1, 0))


def test_gradient_of_the_kernel_map_against_a_changed_map(monkeypatch, model, cell):
    """∂ℓ/∂A by finite differences: the map is made whole and one entry is moved."""
    model, config = model.double(), ReadOutConfig(mask_rate=0.4)
    spec, moved, layers = model.attention, {}, []
    (masked,) = cell.masks(config.mask_rate, 1)
    hidden = torch.isin(torch.arange(8), torch.from_numpy(masked.targets))[None]

    def whole(q, k, v):
        weights = torch.einsum("bihr,bjhr->bhij", q, k)
        weights = weights / weights.sum(-1, keepdim=True)
        number = moved["calls"]
        moved["calls"] += 1
        if number == moved.get("layer"):
            weights = weights.clone()
            weights[0, moved["head"], moved["row"], moved["column"]] += moved["by"]
        return torch.einsum("bhij,bjhd->bihd", weights, v)

    def likelihood(**where):
        moved.clear()
        moved.update(calls=0, **where)
        with torch.no_grad():
            distribution = model.decode(model.encode(masked.tokens), masked.tokens.values_BT.sum(-1))
            return -float(count_loss(distribution, masked.tokens, hidden)) * len(masked.targets)

    with torch.no_grad():
        model.encode(masked.tokens, record=lambda layer, q, k, v, out: layers.append((q[0], k[0])))
    ((_, _, scores),) = cell_maps.attention_gradient(model, cell, config)
    monkeypatch.setattr(performer, "linear_attention", whole)
    target, regulator = masked.targets[0], masked.regulators[-1]
    want = 0.0
    for layer, (q, k) in enumerate(layers):
        for head in range(spec.n_heads):
            row, column = target + spec.n_prefix, regulator + spec.n_prefix
            where = {"layer": layer, "head": head, "row": row, "column": column}
            slope = (likelihood(by=1e-3, **where) - likelihood(by=-1e-3, **where)) / 2e-3
            want += max(float(q[row, head] @ k[column, head]) * slope, 0) / (spec.n_heads * spec.n_layers)
    assert want > 0
    np.testing.assert_allclose(scores[-1, 0], want, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("method", sorted(gl.attention.READOUTS))
def test_every_read_out_serves_it(model, method):
    """Whatever the order of the columns."""
    names = [str(name) for name in model.vocab.symbols[[4, 9, 0, 21, 13, 29, 7, 2]]]
    counts = np.random.default_rng(0).poisson(4.0, (8, 8)) + 1.0
    cells = ad.AnnData(counts, var=pd.DataFrame(index=names))
    settings = {"genes": "all", "regulators": names[:3], "targets": "all"}
    scores = gl.tl.read_out(cells, model, method, **settings)
    other = gl.tl.read_out(cells[:, ::-1].copy(), model, method, **settings)
    seen = np.isfinite(scores.groups["all"])
    assert seen.sum() > 10  # which counts are hidden is drawn
    np.testing.assert_allclose(scores.groups["all"][seen], other.groups["all"][seen], rtol=1e-3, atol=1e-6)
    assert scores.provenance["attention_kind"] == "kernel"


def test_invariant(model, cell):
    """What is recorded is the attention that makes the output of every layer."""
    tokens = replace(cell.tokens, values_BT=cell.tokens.values_BT.float(), totals_B=cell.tokens.totals_B.float())
    layers = []
    with torch.no_grad():
        model.encode(tokens, record=lambda layer, q, k, v, out: layers.append((q, k, v, out)))
    for q, k, v, out in layers:
        weights = torch.einsum("bihr,bjhr->bhij", q, k)
        torch.testing.assert_close(torch.einsum("bhij,bjhd->bihd", weights, v), out, rtol=0, atol=1e-5)
