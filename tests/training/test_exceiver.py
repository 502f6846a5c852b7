"""Exceiver through the training loop."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from grnlab.backbones import Exceiver, ExceiverConfig
from grnlab.data import CellCollection
from grnlab.objectives import DiscreteNoise
from grnlab.training import PretrainConfig, pretrain
from grnlab.training.adapt import adapt

SIZES = ExceiverConfig(n_latents=4, n_layers=1, d_model=16, n_heads=2, classes={"cell_type": ("a", "b")})


@pytest.fixture(scope="module")
def two_states():
    """80 cells of two states, in which half of 30 genes are seen four times as much as in the other."""
    rng = np.random.default_rng(0)
    state = np.arange(80) % 2
    rates = np.where((np.arange(30) % 2)[None] == state[:, None], 20.0, 5.0)
    cells = CellCollection.from_counts(sp.csr_matrix(rng.poisson(rates).astype(np.float32)))
    cells.labels["cell_type"] = state
    return cells


def test_training_and_going_on(two_states, tiny_vocab, tmp_path):
    """It learns what the level of a gene does not tell, with a class token; then on other cells."""
    config = PretrainConfig(
        objectives=("discrete_noise", "classify"), n_tokens=40, batch_size=16, max_steps=80, val_every=80, lr=1e-2,
        warmup=5, val_fraction=0.2,
    )  # fmt: skip
    model = pretrain(
        tiny_vocab, two_states, model=SIZES, config=config, name="small", out=tmp_path / "small", progress=False
    )
    assert (model.sd_G != 1).any()
    objective, target = DiscreteNoise(), two_states.batch(np.arange(80), 40, generator=np.random.default_rng(1))
    seen = objective.corrupt(target, generator=torch.Generator().manual_seed(0))
    untrained = Exceiver(tiny_vocab, SIZES).eval()
    untrained.fit_statistics(two_states, np.arange(80))
    with torch.no_grad():
        mine, theirs = (float(objective.loss(m, m.encode(seen), seen=seen, target=target)) for m in (model, untrained))
        right = model.classify(model.encode(target))["cell_type"].argmax(1) == target.labels["cell_type"]
    assert mine < 0.7 * theirs
    assert right.float().mean() > 0.9
    adata = ad.AnnData(two_states.counts[:40])
    adata.var_names = tiny_vocab.symbols
    adapted = adapt(adata, model.standardised(adata), max_steps=2, progress=False)
    assert list(adapted.provenance["adapted"]["settings"]["objectives"]) == ["discrete_noise"]
