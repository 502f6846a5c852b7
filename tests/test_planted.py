"""Recover a planted network: simulate cells, pretrain a tiny model on them, read its attention, score it.

Two settings, as in `grnlab.datasets.planted`: one cell state, and four states that shift the regulators and so confound
correlation. The universe is every regulator × other gene (hubs included), direction by the list of regulators.
"""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

pytest.importorskip("lightning")

from grnlab import tl
from grnlab.backbones import ScPrintConfig
from grnlab.data import CellCollection
from grnlab.datasets import planted
from grnlab.evaluate import BASELINES, score_edges
from grnlab.evaluate.baselines import log_normalise
from grnlab.training import PretrainConfig, pretrain

SETTINGS = {"one state": {"n_states": 1}, "confounded": {"n_states": 4, "state_shift": 2.0}}
MODEL = ScPrintConfig(n_layers=2, d_model=48, n_heads=4, decoder="mse", positions=False, dropout=0.0, drop_path=0.0)


def trained(data, *, seed):
    cells = CellCollection.from_counts(sp.csr_matrix(data.adata.X), name="simulated")
    run = PretrainConfig(
        objectives=("mask",),
        n_tokens=data.adata.n_vars,
        batch_size=64,
        lr=3e-3,
        warmup=50,
        max_steps=1_200,
        val_every=1_200,
        seed=seed,
    )
    return pretrain(data.vocab, cells, model=MODEL, config=run, progress=False)


def scores(data, model):
    """AUPRC of the network and of every baseline on the same candidate edges."""
    names = list(data.adata.var_names)
    tfs, others = data.tfs, data.others
    true = set(zip(data.edges["source"], data.edges["target"], strict=True))
    truth = np.array([[(tf, gene) in true for gene in others] for tf in tfs])
    expression = log_normalise(data.adata.X.toarray())
    rows, columns = [names.index(tf) for tf in tfs], [names.index(gene) for gene in others]
    found = {name: score_edges(truth, score(expression, rows, columns)).auprc for name, score in BASELINES.items()}
    maps = tl.attention(data.adata, model, genes="all")
    network = tl.infer_networks(maps, top_k=len(tfs))["all"]
    weight = network.edges.set_index(["source", "target"])["weight"]
    score = np.array([[weight.get((tf, gene), 0.0) for gene in others] for tf in tfs])
    found["attention"] = score_edges(truth, score).auprc
    random = np.random.default_rng(0)
    found["random"] = float(np.mean([score_edges(truth, random.random(truth.shape)).auprc for _ in range(20)]))
    return found | {"base rate": float(truth.mean())}


@pytest.mark.parametrize("setting", SETTINGS)
def test_recovers_planted_network(setting, capsys):
    torch.set_num_threads(1)
    data = planted(seed=0, **SETTINGS[setting])
    found = scores(data, trained(data, seed=0))
    with capsys.disabled():
        print(f"\nplanted network, {setting}: AUPRC " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    assert found["attention"] > 1.5 * found["random"]
    assert found["attention"] > 1.5 * found["mean_expression"]
    if setting == "confounded":
        assert found["attention"] > found["pearson"]
