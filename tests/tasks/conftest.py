import numpy as np
import pandas as pd
import pytest
import torch

from grnlab.backbones import ScPrint, ScPrintConfig
from grnlab.tasks import _cells

TYPES = {"cell_type": ("B cell", "T cell", "NK cell", "monocyte"), "disease": ("healthy", "sick")}


@pytest.fixture(scope="session")
def class_model(human_vocab):
    """An untrained model with classes, one with a group, and every weight random."""
    torch.manual_seed(1)
    groups = {"cell_type": {"lymphocyte": ("B cell", "T cell", "NK cell")}}
    config = ScPrintConfig(n_layers=2, d_model=16, n_heads=2, classes=TYPES, groups=groups)
    model = ScPrint(human_vocab, config, name="with classes").eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks of cells in a small data set."""
    monkeypatch.setattr(_cells, "CELLS_PER_BLOCK", 7)


@pytest.fixture
def unknown_genes():
    """Names no model knows."""
    return pd.Index([f"UNHEARD{number}" for number in range(3)])


@pytest.fixture(scope="session")
def same():
    def same(a, b):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=2e-5)

    return same
