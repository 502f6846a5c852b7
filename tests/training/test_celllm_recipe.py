import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from grnlab.backbones import CellLMConfig
from grnlab.training import read_recipe

RECIPE = """
architecture: celllm
model: {n_layers: 1, d_model: 16, n_heads: 2}
data:
  files: ["*.h5ad"]
  labels: {tissue: {column: dataset, classes: {normal: [blood, gut], tumour: [line]}}}
  rules: {min_genes: 5}
training: {n_tokens: 32, batch_size: 4, objectives: [mask_bins, classify]}
"""


def test_no_cells_it_is_judged_by():
    recipe = read_recipe("celllm-small")
    files = " ".join(recipe.data.files)
    assert "*" not in files
    for kept_out in ("pbmc3k", "kang2018", "zheng68k", "yan2013", "mccalla", "beeline", "read_depth", "lamanno"):
        assert kept_out not in files
    for annotated in ("zheng2017", "celseq2", "baron2016"):
        assert annotated not in files


def test_values_that_stand_for_a_label(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    recipe = read_recipe(path)
    vocab = recipe.vocab()
    obs = pd.DataFrame({"dataset": ["line", "gut", "other", "blood"] * 5}, index=[f"c{n}" for n in range(20)])
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(1.0, (20, 40)).astype(np.float32))
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(vocab.symbols[:40]))).write_h5ad(tmp_path / "a.h5ad")
    cells = recipe.cells(tmp_path, vocab)
    assert cells.label_values == {"tissue": ("normal", "tumour")}
    assert cells.labels["tissue"].tolist() == [1, 0, -1, 0] * 5
    config = recipe.model_config(cells, tmp_path)
    assert config == CellLMConfig(n_layers=1, d_model=16, n_heads=2, classes={"tissue": ("normal", "tumour")})
    path.write_text(RECIPE.replace("[line]", "[line, gut]"))
    with pytest.raises(ValueError, match=r"classes names the values \['gut'\] under more than one label"):
        read_recipe(path)
