import dataclasses
import os
import signal

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import settings

from grnlab.backbones import ScPrint, ScPrintConfig, save_model
from grnlab.data import CellTokens
from grnlab.genes import GeneVocab

settings.register_profile("grnlab", deadline=None, derandomize=True)  # no time limit on a busy machine, no luck
settings.load_profile("grnlab")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell; some tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:  # workers side by side, and what they start: threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

CLASSES = {"cell_type": ("B", "T", "NK"), "sex": ("f", "m")}


@pytest.fixture(scope="session")
def tiny_vocab():
    """30 genes; pairs share a genome position."""
    names = [f"G{number}" for number in range(30)]
    table = {"symbol": names, "ensembl_id": "", "aliases": "", "position": np.arange(30) // 2, "species": "test"}
    return GeneVocab(pd.DataFrame(table).assign(is_tf=[number < 6 for number in range(30)]))


@pytest.fixture(scope="session")
def make_model(tiny_vocab):
    """Tiny models whose every weight and bias is random, so that a dropped bias or norm shows."""

    def make(*, seed=0, **config):
        torch.manual_seed(seed)
        config = ScPrintConfig(**{"n_layers": 2, "d_model": 16, "n_heads": 4, "classes": CLASSES} | config)
        model = ScPrint(tiny_vocab, config, name="tiny").eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
        return model

    return make


@pytest.fixture
def tiny_model(make_model):
    return make_model()


@pytest.fixture(scope="session")
def make_tokens():
    """Random cells: distinct genes, counts with zeros, optionally padding and hidden places."""

    def make(lengths=(9, 9, 9), *, width=None, hidden=False, seed=0):
        rng = np.random.default_rng(seed)
        width = width or max(lengths)
        genes, values = np.zeros((2, len(lengths), width))
        pad = np.arange(width) >= np.array(lengths)[:, None]
        for row, length in enumerate(lengths):
            genes[row, :length] = rng.permutation(30)[:length]
            values[row, :length] = rng.poisson(3.0, length)
        tokens = CellTokens(
            torch.tensor(genes, dtype=torch.int64),
            torch.tensor(values, dtype=torch.float32),
            torch.tensor(rng.integers(100, 5_000, len(lengths)), dtype=torch.float32),
            torch.from_numpy(pad) if pad.any() else None,
            labels={"cell_type": torch.arange(len(lengths)) % 3, "sex": torch.arange(len(lengths)) % 3 - 1},
        )
        if hidden:
            tokens = dataclasses.replace(tokens, hidden_BT=torch.from_numpy((rng.random(pad.shape) < 0.4) & ~pad))
        return tokens

    return make


@pytest.fixture(scope="session")
def brute_map():
    """Weighted mean of softmax maps, (genes, genes) in float64, from the definition."""

    def brute(q_HND, k_HND, weights_H, scale, *, symmetrize=False, apc=False, transpose=False):
        q, k, weights = (np.asarray(x, dtype=np.float64) for x in (q_HND, k_HND, weights_H))
        total = np.zeros((q.shape[1], q.shape[1]))
        for head, weight in enumerate(weights):
            logits = scale * q[head] @ k[head].T
            exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
            total += weight / weights.sum() * exponential / exponential.sum(axis=1, keepdims=True)
        if symmetrize:
            total = (total + total.T) / 2
        if transpose:
            total = total.T
        if apc:
            total = total - total.sum(1, keepdims=True) * total.sum(0, keepdims=True) / total.sum()
        return total

    return brute


@pytest.fixture(scope="session")
def human_vocab():
    """60 genes with Ensembl ids and aliases; TF0 … TF9 are transcription factors."""
    names = [f"TF{number}" for number in range(10)] + [f"GENE{number}" for number in range(50)]
    table = pd.DataFrame({"symbol": names, "ensembl_id": [f"ENSG{number:011d}" for number in range(60)]})
    table["aliases"] = [f"OLD{number}" for number in range(60)]
    return GeneVocab(table.assign(position=np.arange(60), species="Homo sapiens", is_tf=[n < 10 for n in range(60)]))


@pytest.fixture(scope="session")
def human_model(human_vocab):
    """An untrained model over `human_vocab`."""
    torch.manual_seed(0)
    return ScPrint(human_vocab, ScPrintConfig(n_layers=2, d_model=16, n_heads=2), name="untrained").eval()


@pytest.fixture(scope="session")
def checkpoint(human_model, tmp_path_factory):
    """Folder with `human_model`, for ``--model``."""
    return save_model(human_model, tmp_path_factory.mktemp("checkpoint") / "untrained")


@pytest.fixture(scope="session")
def make_cells(human_vocab):
    """Counts of 50 genes of `human_vocab` in a mixed order, and of 2 it does not know; groups of 10 cells."""

    def make(*, groups=("B cell", "T cell"), n_each=10, seed=0):
        rng = np.random.default_rng(seed)
        names = [*rng.permutation(human_vocab.symbols)[:48], "TF0", "GENE0", "UNKNOWN1", "UNKNOWN2"]
        names = list(dict.fromkeys(names))
        rates = rng.gamma(0.7, 2.0, (len(groups), len(names)))
        counts = rng.poisson(np.repeat(rates, n_each, axis=0)).astype(np.float32)
        counts[:, 0] += 1  # no empty cell
        obs = pd.DataFrame({"cell_type": pd.Categorical(np.repeat(list(groups), n_each))})
        obs.index = [f"cell{number}" for number in range(len(obs))]
        return ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names))

    return make
