import logging
import pickle
import warnings

import numpy as np
import pytest

from grnlab.backbones import ScPrintConfig
from grnlab.data import CellCollection
from grnlab.datasets import planted
from grnlab.training import PretrainConfig, pretrain

MODEL = ScPrintConfig(n_layers=1, d_model=16, n_heads=2, dropout=0.1)
SHORT = {"n_tokens": 20, "batch_size": 8, "max_steps": 4, "val_every": 2, "warmup": 2, "val_fraction": 0.1}


@pytest.fixture(scope="session")
def planted_cells():
    """Vocabulary and 150 cells of two data sets and three types, from a planted network."""
    simulated = planted(n_cells=150, seed=0)
    counts = simulated.adata.X
    n_cells, n_genes = counts.shape
    cells = CellCollection(
        counts=counts,
        datasets=np.arange(n_cells) % 2,
        names=["one", "two"],
        available=[np.arange(n_genes)] * 2,
        totals=np.asarray(counts.sum(axis=1)).ravel(),
        labels={"cell_type": np.arange(n_cells) % 3},
    )
    return simulated.vocab, cells


@pytest.fixture(scope="session")
def tiny():
    """Architecture and settings of :func:`short_run`."""
    return MODEL, SHORT


@pytest.fixture(scope="session")
def write_job(planted_cells):
    """Write all that :func:`short_run` gives to `pretrain`, for a script that runs as a process of its own."""

    def write(path, **options):
        path.write_bytes(pickle.dumps((*planted_cells, MODEL, SHORT | options)))
        return path

    return write


@pytest.fixture
def short_run(planted_cells):
    """Pretrain a tiny model for a few steps."""

    def run(out=None, *, data=planted_cells, model=MODEL, resume=False, loggers=(), **options):
        config = PretrainConfig(**(SHORT | options))
        return pretrain(
            *data, model=model, config=config, name="planted", out=out, resume=resume, loggers=loggers, progress=False
        )

    return run


@pytest.fixture
def recorder():
    """Lightning logger that keeps the metrics of each step."""
    from lightning.pytorch.loggers.logger import DummyLogger

    class Recorder(DummyLogger):
        def __init__(self):
            super().__init__()
            self.rows = {}
            self.at = {}

        def log_metrics(self, metrics, step=None):
            timeless = {name: value for name, value in metrics.items() if name not in {"cells/s", "minutes"}}
            self.rows.setdefault(step, {}).update(timeless)
            self.at.pop(step, lambda: None)()

    return Recorder


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        yield
