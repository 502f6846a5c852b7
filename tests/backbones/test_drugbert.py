import copy
import dataclasses

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import grnlab as gl
from grnlab.backbones import Backbone, DrugBert, DrugBertConfig, load_model, save_model
from grnlab.data import CellTokens, SignatureTokens

FEATURES = pd.DataFrame({"a": [1.0, 0.0], "b": [0.5, 2.0]}, index=["x", "y"])
CONDITIONS = {"features": ("a", "b"), "drugs": ("x", "y"), "cells": ("A375", "MCF7"), "dose": True}


@pytest.fixture(scope="module")
def make(tiny_vocab):
    """Tiny models whose every weight and bias is random."""

    def make(**config):
        torch.manual_seed(0)
        config = DrugBertConfig(**{"d_model": 16, "n_heads": 4, "d_decoder": 8} | CONDITIONS | config)
        model = DrugBert(tiny_vocab, config, name="tiny").eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
        return model

    return make


@pytest.fixture(scope="module")
def model(make):
    return make()


@pytest.fixture
def signed(make_tokens):
    """Signed values with padding, and the conditions of each signature, given."""
    tokens = make_tokens((9, 6, 8))
    values = torch.where(tokens.real_BT, torch.randn(tokens.values_BT.shape, generator=torch.Generator()), 0.0)
    return SignatureTokens(
        **vars(tokens) | {"values_BT": values, "labels": {"cell": torch.tensor([0, 1, -1])}},
        drug_BF=torch.tensor([[1.0, 0.5], [0.0, 2.0], [float("nan")] * 2]),
        log_dose_B=torch.tensor([0.0, float("nan"), 1.0]),
        given=True,
    )


@pytest.fixture
def adata(tiny_vocab):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"drug": np.repeat(["x", "y"], 6)}, index=[f"s{number}" for number in range(12)])
    values = rng.normal(size=(12, 30)).astype(np.float32)
    return ad.AnnData(values, obs=obs, var=pd.DataFrame(index=rng.permutation(tiny_vocab.symbols)))


def test_it_is_a_backbone(model):
    assert isinstance(model, Backbone)


@pytest.mark.parametrize("given", [True, False])
def test_attention_rebuilt_from_queries_and_keys_is_the_modules_own(model, signed, given):
    layers, spec = [], model.attention
    tokens = dataclasses.replace(signed, given=given)
    model.encode(tokens, record=lambda *recorded: layers.append(recorded))
    pad = torch.cat([torch.zeros(3, 1, dtype=torch.bool), tokens.pad_BT], dim=1)
    assert len(layers) == spec.n_layers
    for _, q, k, v, out in layers:
        logits = spec.scale * torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double())
        weights = torch.softmax(logits.masked_fill(pad[:, None, None], -torch.inf), dim=-1)
        rebuilt = torch.einsum("bhqk,bkhd->bqhd", weights, v.double())
        assert (rebuilt - out)[~pad].abs().max() <= 1e-5
    only = []
    model.record_qk(tokens, record=lambda *recorded: only.append(recorded))
    for (_, q, k, _, _), (_, q_only, k_only, _, _) in zip(layers, only, strict=True):
        torch.testing.assert_close(q_only, q)
        torch.testing.assert_close(k_only, k)
    assert only[-1][3] is None


@pytest.mark.parametrize("decoder", ["lstm", "mlp"])
def test_permuted_tokens_and_padding_change_nothing(make, signed, decoder):
    model = make(decoder=decoder)
    order = torch.randperm(signed.genes_BT.shape[1], generator=torch.Generator().manual_seed(1))
    names = ("genes_BT", "values_BT", "pad_BT")
    permuted = dataclasses.replace(signed, **{name: getattr(signed, name)[:, order] for name in names})
    expected = model.decode_values(model.encode(signed), signed)
    found = model.decode_values(model.encode(permuted), permuted)
    torch.testing.assert_close(found[~permuted.pad_BT], expected[:, order][~permuted.pad_BT])


def test_the_sign_of_a_value_is_seen_and_a_hidden_one_is_not(model, signed):
    flipped = dataclasses.replace(signed, values_BT=-signed.values_BT)
    first, second = (model.encode(tokens).genes_BTM for tokens in (signed, flipped))
    assert not torch.allclose(first, second)
    first, second = (
        model.encode(dataclasses.replace(tokens, hidden_BT=tokens.real_BT)).cell_BM for tokens in (signed, flipped)
    )
    torch.testing.assert_close(first, second)


def test_conditions_count_only_when_given_and_known(model, signed):
    given = model.encode(signed).cell_BM
    hidden = model.encode(dataclasses.replace(signed, given=False)).cell_BM
    plain = model.encode(CellTokens(signed.genes_BT, signed.values_BT, signed.totals_B, signed.pad_BT)).cell_BM
    torch.testing.assert_close(hidden, plain)
    assert not torch.allclose(given[0], hidden[0])
    unknown = dataclasses.replace(
        signed,
        drug_BF=torch.full((3, 2), torch.nan),
        log_dose_B=torch.full((3,), torch.nan),
        labels={"cell": torch.full((3,), -1)},
    )
    torch.testing.assert_close(model.encode(unknown).cell_BM, plain)
    assert model.encode(unknown).cell_BM.isfinite().all()


def test_the_scale_of_the_features_does_not_matter(model, signed):
    scaled = dataclasses.replace(signed, drug_BF=7 * signed.drug_BF)
    torch.testing.assert_close(model.encode(scaled).cell_BM, model.encode(signed).cell_BM)


def test_a_conditioned_model_shares_its_weights_and_leaves_the_first_alone(model):
    view = model.conditioned(drug=FEATURES.loc["y"], cell="MCF7", dose=10.0)
    assert view.name == "tiny (drug y, cell MCF7, dose 10)"
    assert view.transformer is model.transformer
    assert model.condition == {}
    values = np.array([[1.0, -2.0]], dtype=np.float32)
    import scipy.sparse as sp

    tokens = view.tokenize(sp.csr_matrix(values), np.array([3, 5]), np.ones(1), context="shared")
    assert tokens.given
    assert tokens.drug_BF.tolist() == [[0.0, 2.0]]
    assert tokens.labels["cell"].tolist() == [1]
    assert tokens.log_dose_B.tolist() == [1.0]
    again = view.conditioned(cell="A375").under_condition(tokens)
    assert again.labels["cell"].tolist() == [0]
    assert again.drug_BF is None


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({}, "name a condition"),
        ({"cell": "HeLa"}, "cell='HeLa' is unknown to tiny; it knows"),
        ({"dose": 0.0}, "dose=0.0 must be above 0"),
        ({"dose": -1.0}, "dose=-1.0 must be above 0"),
        ({"drug": {"a": 1.0}}, r"features lacks 1 of the 2 features of tiny, the first \['b'\]"),
        ({"drug": {"a": 1.0, "b": np.nan}}, "NaN or infinite"),
    ],
)
def test_conditions_that_do_not_fit_are_named(model, condition, message):
    with pytest.raises(ValueError, match=message):
        model.conditioned(**condition)


def test_a_model_without_conditions_says_so(make):
    bare = make(features=(), drugs=(), cells=(), dose=False)
    for condition in ({"cell": "A375"}, {"dose": 1.0}, {"drug": FEATURES.loc["x"]}):
        with pytest.raises(ValueError, match=f"made without {next(iter(condition))} as a condition"):
            bare.conditioned(**condition)
    assert bare.tell(bare.encode(CellTokens(torch.tensor([[0]]), torch.tensor([[1.0]]), torch.ones(1)))) == {}


@pytest.mark.parametrize("wrong", [{"cells": ("A", "A")}, {"dropout": 1.0}, {"decoder": "gru"}, {"d_model": 18}])
def test_a_configuration_that_cannot_be(make, wrong):
    with pytest.raises(ValueError, match=r"twice|must be|unknown"):
        make(**wrong)


def test_a_checkpoint_gives_the_same(model, signed, tmp_path):
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, DrugBert)
    assert loaded.config == model.config
    torch.testing.assert_close(
        loaded.decode_values(loaded.encode(signed), signed), model.decode_values(model.encode(signed), signed)
    )


def test_networks_through_the_ordinary_verbs(model, adata):
    maps = gl.tl.attention(adata, model, groupby="drug")
    networks = gl.tl.infer_networks(maps, top_k=5, regulators="all")
    assert list(networks) == ["x", "y"]
    table = networks.edge_table()
    assert len(table) > 100
    permuted = gl.tl.infer_networks(
        gl.tl.attention(adata[:, ::-1].copy(), model, groupby="drug"), top_k=5, regulators="all"
    )
    pd.testing.assert_frame_equal(permuted.edge_table(), table, check_exact=True)


def test_networks_of_two_drugs_from_the_same_signatures_differ(model, adata):
    edges = []
    for drug in ("x", "y", "x"):
        maps = gl.tl.attention(adata, model.conditioned(drug=FEATURES.loc[drug]), genes=20)
        assert f"drug {drug}" in maps.provenance["model"]
        edges.append(gl.tl.infer_networks(maps, top_k=5, regulators="all").edge_table())
    pd.testing.assert_frame_equal(edges[0], edges[2])
    assert not edges[0].equals(edges[1])


def test_counts_are_refused_with_the_mend(model, make_cells, tiny_vocab, human_model, adata):
    counts = ad.AnnData(abs(adata.X).round() + 1, var=adata.var)
    with pytest.raises(ValueError, match="cell_signatures"):
        gl.tl.attention(counts, model)
    with pytest.raises(ValueError, match="negative values"):
        gl.tl.attention(adata, human_model)


def test_weights_are_not_shared_by_a_deep_copy(model):
    other = copy.deepcopy(model.conditioned(cell="A375"))
    assert other.transformer is not model.transformer
