import json

import numpy as np
import pytest
import torch

import grnlab as gl
from grnlab.backbones import XTrimoGene, XTrimoGeneConfig
from grnlab.backbones.xtrimogene_tokens import DepthTokens, pool
from grnlab.data.tokens import expressed_context, shared_context
from grnlab.tasks import embed_at_depth, enhance_depth, gene_contexts


@pytest.fixture(scope="module")
def model(human_vocab):
    torch.manual_seed(0)
    config = XTrimoGeneConfig(n_layers=1, d_model=16, n_heads=2, d_decoder=8, n_decoder_heads=2)
    model = XTrimoGene(human_vocab, config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        model.to_value[-1].bias.add_(2.0)
    return model


@pytest.fixture
def cells(make_cells):
    return make_cells()


def by_hand(model, cells, cell, *, every_gene):
    """Tokens of one cell."""
    known = [model.vocab.token(name) for name in cells.var_names]
    order = sorted((token, column) for column, token in enumerate(known) if token is not None)
    tokens, columns = map(list, zip(*order, strict=True))
    total = np.asarray(cells.X[cell].sum(1)).ravel()
    context = shared_context if every_gene else expressed_context
    return context(cells.X[cell][:, columns].tocsr(), np.array(tokens), total), columns


@torch.no_grad()
def test_the_layer_is_what_the_decoder_says_at_the_total_asked_for(model, cells):
    totals = np.asarray(cells.X.sum(1)).ravel()
    enhance_depth(cells, model, target_total=3 * totals)
    layer, known = cells.layers["enhanced"], cells.var["enhanced"].to_numpy()
    assert known.sum() == cells.n_vars - 2
    np.testing.assert_allclose(layer[:, ~known], 3 * cells.X[:, ~known].toarray(), rtol=1e-5)
    for cell in (0, 7):
        shown, columns = by_hand(model, cells, cell, every_gene=True)
        target = torch.tensor([3 * totals[cell]])
        asked = DepthTokens(shown.genes_BT, shown.values_BT, shown.totals_B, target_B=target)
        expected = model.values(model.encode(asked)).clamp(min=0).expm1() * target / 1e4
        np.testing.assert_allclose(layer[cell, columns], expected[0].numpy(), rtol=1e-3, atol=1e-4)
    made = json.loads(cells.uns["enhanced"]["provenance"])
    assert made["task"] == "enhance_depth"
    assert made["target_total"][1] == pytest.approx(3 * totals.max())


def test_the_order_of_columns_and_the_company_change_nothing(model, cells):
    enhance_depth(cells, model, target_total=1e4)
    other = cells[::3, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    del other.layers["enhanced"]
    enhance_depth(other, model, target_total=1e4)
    same = other[:, cells.var_names].layers["enhanced"]
    np.testing.assert_allclose(same, cells[::3].layers["enhanced"], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_embeddings_are_pooled_from_the_encoder(model, cells):
    embed_at_depth(cells, model, target_total=1e4)
    embed_at_depth(cells, model, pooling="max", key_added="X_max")
    assert cells.obsm["X_depth"].shape == (20, 64)
    shown, _ = by_hand(model, cells, 5, every_gene=False)
    asked = DepthTokens(shown.genes_BT, shown.values_BT, shown.totals_B, target_B=torch.tensor([1e4]))
    np.testing.assert_allclose(cells.obsm["X_depth"][5], pool(model.encode(asked))[0].numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        cells.obsm["X_max"][5], pool(model.encode(shown), "max")[0].numpy(), rtol=1e-3, atol=1e-4
    )
    assert np.abs(cells.obsm["X_depth"][:, :16] - cells.obsm["X_max"]).max() > 1e-3  # the total asked for is read


@torch.no_grad()
def test_contexts_of_genes_are_those_of_the_decoder(model, cells):
    genes = [cells.var_names[3], cells.var_names[20]]
    found = gene_contexts(cells, model, genes)
    assert found.shape == (20, 2, 8)
    shown, columns = by_hand(model, cells, 4, every_gene=True)
    expected = model.contexts(model.encode(shown))[0, [columns.index(3), columns.index(20)]]
    np.testing.assert_allclose(found[4], expected.numpy(), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"genes names 1 that the data or the vocabulary of the model lack.*UNKNOWN1"):
        gene_contexts(cells, model, [*genes, "UNKNOWN1"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (0, "target_total=0.0 must be above 0 and finite"),
        (-5, "must be above 0"),
        (np.nan, "must be above 0 and finite"),
        (1.0, r"target_total=1 is below the total .* of the cell 'cell0' \(20 such cells\): depth is enhanced"),
        ([1e5, 1e5], r"has shape \(2,\); expected a number, or one for each of 20 cells"),
        ("deep", "must be a number, or one for each cell"),
    ],
)
def test_totals_that_cannot_be(model, cells, target, message):
    for verb in (enhance_depth, embed_at_depth):
        with pytest.raises(ValueError, match=message):
            verb(cells, model, target_total=target)
    assert not cells.layers
    assert not cells.obsm


def test_wrong_use_is_told(model, human_model, cells):
    with pytest.raises(ValueError, match="model='untrained' is told no total to predict at"):
        enhance_depth(cells, human_model, target_total=1e5)
    with pytest.raises(ValueError, match="pooling='sum' is unknown"):
        embed_at_depth(cells, model, pooling="sum")
    enhance_depth(cells, model, target_total=1e5)
    enhance_depth(cells, model, target_total=2e5)  # its own layer is made anew
    cells.layers["else"] = cells.X.copy()
    with pytest.raises(ValueError, match=r"layers\[.else.\]; choose another key_added"):
        enhance_depth(cells, model, target_total=1e5, key_added="else")
    with pytest.raises(ValueError, match=r"layers\[.enhanced.\]"):
        enhance_depth(cells, model, target_total=1e5, layer="enhanced", key_added="twice")
    empty = cells.copy()
    empty.X[3] = 0
    with pytest.raises(ValueError, match="cells have no counts, the first is 'cell3'"):
        enhance_depth(empty, model, target_total=1e5, key_added="again")


def test_they_are_verbs():
    assert gl.tl.enhance_depth is enhance_depth
    assert gl.tl.embed_at_depth is embed_at_depth
    assert gl.tl.gene_contexts is gene_contexts
