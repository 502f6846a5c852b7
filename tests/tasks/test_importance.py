import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import grnlab as gl
from grnlab.backbones import CellLM, CellLMConfig
from grnlab.tasks.importance import against_matched


@pytest.fixture(scope="module")
def celllm(human_vocab):
    torch.manual_seed(0)
    model = CellLM(human_vocab, CellLMConfig(n_layers=2, d_model=16, n_heads=2, n_features=9)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def by_hand(model, cells, token):
    """Mean over cells that express a gene; a cell, a layer and a head at a time."""
    spec, found = model.attention, {}
    known = [name for name in cells.var_names if name in set(model.vocab.symbols)]
    counts = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
    for row in range(cells.n_obs):
        shown = [name for name in sorted(known, key=model.vocab.token) if counts[name][row] > 0]
        tokens = gl.data.CellTokens(
            torch.tensor([[model.vocab.token(name) for name in shown]]),
            torch.tensor([[counts[name][row] for name in shown]]),
            torch.tensor([counts.iloc[row].sum()]),
        )
        layers = {}
        with torch.no_grad():
            model.encode(tokens, record=lambda layer, q, k, v, out, layers=layers: layers.setdefault(layer, (q, k)))
        total = np.zeros(len(shown))
        for q, k in layers.values():
            for head in range(spec.n_heads):
                product = (k[0, spec.n_prefix :, head] @ q[0, token, head]).numpy().astype(float)
                weight = np.exp(spec.scale * product) if spec.kind == "softmax" else product
                total += weight / weight.sum() / spec.n_heads / spec.n_layers
        for name, value in zip(shown, total * len(shown), strict=True):
            found.setdefault(name, []).append(value)
    return {name: np.mean(values) for name, values in found.items()}


@pytest.mark.parametrize(("which", "token"), [("kernel", 0), ("softmax", 1)])
def test_importance_by_hand(celllm, human_model, make_cells, which, token):
    model, cells = celllm if which == "kernel" else human_model, make_cells(n_each=4)
    assert model.attention.kind == which
    table = gl.tl.gene_importance(cells, model, genes="all", min_fraction=0.0).set_index("gene")
    expected = by_hand(model, cells, token)
    assert len(table) > 15
    np.testing.assert_allclose(table["importance"], [expected[name] for name in table.index], rtol=1e-4)


def test_groups_and_order_of_columns(celllm, make_cells):
    cells = make_cells()
    table = gl.tl.gene_importance(cells, celllm, groupby="cell_type")
    assert list(table.groupby("group").size().index) == ["B cell", "T cell"]
    assert (table.groupby("group")["z"].diff().dropna() <= 0).all()
    alone = gl.tl.gene_importance(cells[cells.obs["cell_type"] == "B cell"].copy(), celllm)
    mine = table[table["group"] == "B cell"].set_index("gene")["importance"]
    np.testing.assert_allclose(alone.set_index("gene")["importance"][mine.index], mine, rtol=1e-5)
    mixed = cells[:, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    again = gl.tl.gene_importance(mixed, celllm, groupby="cell_type")
    pd.testing.assert_frame_equal(again, table, rtol=1e-4)
    assert table.attrs["attention_kind"] == "kernel"


def test_what_is_expressed_alike_is_the_null():
    """Importance that follows expression: nothing stands out but the three genes that were lifted."""
    rng = np.random.default_rng(0)
    mean = np.exp(rng.normal(size=2_000))
    importance = mean**1.5 * np.exp(0.1 * rng.normal(size=2_000))
    lifted = [3, 700, 1_500]
    importance[lifted] *= 2.5
    table = pd.DataFrame({"importance": importance, "mean_counts": mean}, index=[f"g{n}" for n in range(2_000)])
    found = against_matched(table)
    assert spearmanr(table["importance"], table["mean_counts"]).statistic > 0.95
    assert abs(spearmanr(found["z"], found["mean_counts"]).statistic) < 0.1
    assert {f"g{n}" for n in lifted} <= set(found.index[:6])
    assert 3 <= (found["padj"] < 0.05).sum() < 12
    null = against_matched(table.drop(index=[f"g{n}" for n in lifted]))
    assert (null["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.025)


def test_what_cannot_be_ranked(celllm, make_cells, monkeypatch):
    with pytest.raises(ValueError, match="n_matched=3 must be 10 or more"):
        gl.tl.gene_importance(make_cells(), celllm, n_matched=3)
    with pytest.raises(ValueError, match="group 'all' has 8 genes to compare"):
        gl.tl.gene_importance(make_cells(), celllm, genes=8, min_fraction=0.0)
    monkeypatch.setattr(CellLM, "cell_token", 1)
    with pytest.raises(ValueError, match="has 1 special tokens, so none of the cell"):
        gl.tl.gene_importance(make_cells(), celllm)
