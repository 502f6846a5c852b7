import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import grnlab as gl

RECIPE = """
name: tiny
model: {n_layers: 1, d_model: 16, n_heads: 2, dropout: 0.0, drop_path: 0.0}
data:
  labels: {cell_type: cell_type}
  rules: {min_genes: 5}
training: {n_tokens: 32, batch_size: 4, max_steps: 6, val_every: 3, objectives: [{name: mask, rate: 0.3}, classify]}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Working folder with a recipe and a folder of cells."""
    monkeypatch.chdir(tmp_path)
    vocab = gl.load_model("grnlab-small").vocab
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"cell_type": rng.choice(["B cell", "T cell"], 60)}, index=[f"c{i}" for i in range(60)])
    (tmp_path / "cells").mkdir()
    cells = ad.AnnData(sp.csr_matrix(rng.poisson(1.0, (60, 50)).astype(np.float32)), obs=obs)
    cells.var_names = list(vocab.symbols[:50])
    cells.write_h5ad(tmp_path / "cells/a.h5ad")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


def test_from_a_recipe_to_a_model_that_infers(place, grnlab):
    status, out, _ = grnlab("pretrain", "tiny.yaml", "--data", "cells", "--out", "model")
    assert status == 0
    assert "tiny: 6 steps, 24 cells, validation loss" in out
    model = gl.load_model("model")
    assert model.config.classes == {"cell_type": ("B cell", "T cell")}
    assert model.provenance["steps"] == 6
    status, _, err = grnlab("infer", "cells/a.h5ad", "--model", "model", "--out", "networks", "--regulators", "all")
    assert status == 0, err
    assert (place / "networks/network.html").is_file()


def test_a_dry_run_says_what_is_needed_and_writes_nothing(place, grnlab):
    before = sorted(place.rglob("*"))
    status, out, _ = grnlab("pretrain", "tiny.yaml", "--data", "cells", "--dry-run")
    assert status == 0
    for word in ("60 cells of 1 files", "cell_type (2 labels)", "M parameters", "memory per process", "cells/s"):
        assert word in out
    assert sorted(place.rglob("*")) == before


def test_a_finished_run_is_not_written_over(place, grnlab):
    arguments = ("pretrain", "tiny.yaml", "--data", "cells", "--out", "model")
    assert grnlab(*arguments)[0] == 0
    weights = (place / "model/model.safetensors").read_bytes()
    for more in ([], ["--resume"]):
        status, _, err = grnlab(*arguments, *more)
        assert status == 2
        assert "model" in err
    assert (place / "model/model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny.yaml", "--data", "cells"], "--out is missing"),
        (["desktop", "--data", "cells", "--out", "m"], "neither a recipe"),
        (["tiny.yaml", "--data", "nowhere", "--out", "m"], "is no folder"),
        (["tiny.yaml", "--data", "cells", "--out", "m", "--resume"], "no run to resume"),
        (["tiny.yaml", "--data", "cells", "--out", "m", "--max-minutes", "0"], "not a number above 0"),
        (["tiny.yaml", "--data", "cells", "--out", "m", "--max-steps", "0"], "at least 1"),
    ],
)
def test_mistakes_are_named(place, grnlab, arguments, message):
    status, _, err = grnlab("pretrain", *arguments)
    assert status == 2
    assert message in err
    assert not (place / "m").exists()
