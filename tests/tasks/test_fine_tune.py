import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lightning")

from grnlab import tl
from grnlab.backbones import CellLMConfig, ExceiverConfig, ScPrint, ScPrintConfig, XTrimoGeneConfig
from grnlab.backbones.registry import build_model
from grnlab.datasets import planted
from grnlab.tasks import FineTuneConfig, FineTuned, few_shot
from grnlab.tasks._rates import blocks_above, parameter_groups
from grnlab.tasks._targets import split_cells

FAST = {"max_epochs": 10, "batch_size": 16, "lr": 0.02, "backbone_lr": 0.003, "dropout": 0.0, "patience": 12}


@pytest.fixture(scope="module")
def data():
    """Cells with a value that twelve genes follow, and the class it makes."""
    simulated = planted(n_cells=120, seed=0)
    adata = simulated.adata
    value = np.random.default_rng(0).normal(size=adata.n_obs)
    counts = adata.X.toarray()
    counts[:, 8:20] = np.rint((1 + counts[:, 8:20]) * np.exp(value)[:, None])
    adata.X = sp.csr_matrix(counts)
    adata.obs["value"] = 5 + 3 * value
    adata.obs["kind"] = np.where(value > 0, "high", "low")
    return simulated


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    config = ScPrintConfig(n_layers=2, d_model=16, n_heads=2, decoder="mse", positions=False, dropout=0.0)
    return ScPrint(data.vocab, config, name="tiny").eval()


def tune(model, adata, *, freeze=True, target="kind", kind="auto", **options):
    config = FineTuneConfig(**(FAST | options))
    return tl.fine_tune(adata, model, target=target, kind=kind, freeze=freeze, config=config, progress=False)


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("freeze", [True, False])
def test_classes_are_learned_and_probabilities_sum_to_one(data, model, freeze):
    train, test = data.adata[:90].copy(), data.adata[90:].copy()
    before = weights(model)
    tuned = tune(model, train, freeze=freeze, hidden=16)
    found = tuned.predict(test)
    assert list(found.columns) == ["high", "low"]
    assert list(found.index) == list(test.obs_names)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert tuned.evaluate(test)["auroc"] > 0.75
    assert same(before, weights(model))
    assert same(before, weights(tuned.backbone)) is freeze
    assert not tuned.backbone.training
    assert not tuned.head.training


@pytest.mark.parametrize(
    "config",
    [
        ExceiverConfig(d_model=8, n_latents=4, n_layers=1, n_heads=2),
        CellLMConfig(n_layers=1, d_model=8, n_heads=2),
        XTrimoGeneConfig(n_layers=1, d_model=8, n_heads=2, n_decoder_layers=1, d_decoder=8, n_decoder_heads=2),
    ],
    ids=lambda config: type(config).__name__,
)
def test_other_backbones_learn_too_and_are_saved(data, config, tmp_path):
    torch.manual_seed(0)
    backbone = build_model(data.vocab, config, name="other").eval()
    adata = data.adata[:40].copy()
    tuned = tune(backbone, adata, freeze=False, max_epochs=1, batch_size=20)
    assert not same(weights(backbone), weights(tuned.backbone))
    found = tuned.predict(adata)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    pd.testing.assert_frame_equal(FineTuned.load(tuned.save(tmp_path / "tuned")).predict(adata), found, atol=1e-6)


def test_values_are_learned_on_their_own_scale(data, model):
    train, test = data.adata[:90].copy(), data.adata[90:].copy()
    tuned = tune(model, train, target="value", max_epochs=30, lr=0.05)
    assert tuned.target.kind == "regression"
    scores = tuned.evaluate(test)
    assert scores["pearson"] > 0.3
    assert scores["rmse"] < test.obs["value"].std() * 1.1
    np.testing.assert_allclose(tuned.predict(test)["value"].mean(), test.obs["value"].mean(), atol=1)
    assert {"epoch", "train_loss", "val_loss"} == set(tuned.history.columns)


def test_the_best_epoch_is_kept_and_a_run_ends_when_it_gets_worse(data, model):
    adata = data.adata.copy()
    adata.obs["noise"] = np.random.default_rng(0).choice(["a", "b"], adata.n_obs)
    tuned = tune(model, adata, target="noise", max_epochs=60, lr=0.3, patience=2, hidden=64, val_fraction=0.3)
    losses = tuned.history["val_loss"]
    assert len(losses) < 60
    assert losses.idxmin() == len(losses) - 3


def test_equal_seeds_give_equal_weights_and_columns_may_come_in_any_order(data, model):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    adata = data.adata[:60]
    first = tune(model, adata.copy(), freeze=False, max_epochs=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    order = np.random.default_rng(0).permutation(adata.n_vars)
    second = tune(model, adata[:, order].copy(), freeze=False, max_epochs=2)
    other = tune(model, adata.copy(), freeze=False, max_epochs=2, seed=1)
    assert same(weights(first.head), weights(second.head))
    assert same(weights(first.backbone), weights(second.backbone))
    assert not same(weights(first.head), weights(other.head))


def test_predictions_do_not_depend_on_the_other_cells_nor_on_unknown_genes(data, model):
    tuned = tune(model, data.adata.copy(), max_epochs=2)
    whole = tuned.predict(data.adata)
    extra = data.adata[[7, 3]].copy()
    extra.var_names = [f"unknown {name}" if place > 40 else name for place, name in enumerate(extra.var_names)]
    few = data.adata[[7, 3]].copy()
    pd.testing.assert_frame_equal(tuned.predict(few), whole.iloc[[7, 3]], atol=1e-5)
    assert tuned.predict(extra).shape == (2, 2)


@pytest.mark.parametrize("freeze", [True, False])
def test_saved_and_loaded_it_predicts_the_same(data, model, tmp_path, freeze):
    tuned = tune(model, data.adata.copy(), freeze=freeze, max_epochs=2, hidden=4)
    path = tuned.save(tmp_path / "tuned")
    again = FineTuned.load(path)
    pd.testing.assert_frame_equal(again.predict(data.adata), tuned.predict(data.adata), atol=1e-6)
    assert again.provenance == json.loads(json.dumps(tuned.provenance))
    pd.testing.assert_frame_equal(again.history, tuned.history)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        tuned.save(path)
    assert tuned.save(path, overwrite=True) == path
    (path / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no complete fine-tuned model"):
        FineTuned.load(path)
    with pytest.raises(FileNotFoundError, match=r"FineTuned\.save"):
        FineTuned.load(tmp_path / "nowhere")


def test_few_shot_uses_a_share_of_every_class(data, model):
    tuned = tune(model, data.adata.copy(), share=0.1, val_fraction=0.0)
    about = tuned.provenance["fine_tuned"]
    assert (about["n_cells_given"], about["n_cells_trained"], about["n_cells_validated"]) == (120, 12, 0)
    assert tuned.history["val_loss"].isna().all()
    assert len(tuned.history) == FAST["max_epochs"]


def test_rates_fall_with_depth_and_every_weight_is_in_one_group(model):
    head = torch.nn.Linear(2, 2)
    groups = parameter_groups(head, model, lr=1e-2, backbone_lr=1e-3, layer_decay=0.5, weight_decay=0.1)
    assert sum(len(group["params"]) for group in groups) == len([*head.parameters(), *model.parameters()])
    assert {group["lr"] for group in groups[1:]} == {1e-3, 5e-4, 2.5e-4}
    assert blocks_above(model, "gene_embedding.weight") == 2
    assert blocks_above(model, "transformer.blocks.0.attention.out.weight") == 1
    assert blocks_above(model, "transformer.blocks.1.attention.out.weight") == 0


def labelled(data, labels, n=None):
    n = len(labels) if n is None else n
    adata = data.adata[:n].copy()
    adata.obs["bad"] = labels
    return adata


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (["a"] * 20 + ["b"], "auto", r"1 classes .* have one member: \['b'\]"),
        (["a"] * 20, "auto", "one class only"),
        (["a"] * 10 + [None] * 10, "auto", "10 of 20 cells have no value"),
        ([1.5] * 10 + [np.nan] * 10, "auto", "10 of 20 cells have no value"),
        ([1.5] * 19 + [np.inf], "auto", "infinite"),
        ([1.5] * 20, "auto", "1.5 for all cells"),
        ([1, 2] * 10, "auto", "whole numbers"),
        (["a", "b"] * 10, "regression", "needs numbers"),
        (["a", "b"] * 10, "ranking", "kind='ranking' is unknown"),
    ],
)
def test_columns_nothing_can_be_learned_from_are_refused(data, model, labels, kind, message):
    with pytest.raises(ValueError, match=message):
        tune(model, labelled(data, labels), target="bad", kind=kind)


def test_other_bad_input_is_told(data, model):
    adata = data.adata.copy()
    with pytest.raises(ValueError, match="did you mean 'kind'"):
        tune(model, adata, target="kinds")
    with pytest.raises(ValueError, match="must be a backbone"):
        tune("grnlab-small", adata)
    tuned = tune(model, adata, max_epochs=1)
    other = adata[:20].copy()
    other.obs["kind"] = ["high"] * 19 + ["middle"]
    with pytest.raises(ValueError, match=r"not trained on, \['middle'\] \(1 cells\)"):
        tuned.evaluate(other)
    assert tuned.predict(other).shape == (20, 2)
    strange = adata[:20].copy()
    strange.var_names = [f"unknown {name}" for name in strange.var_names]
    with pytest.raises(ValueError, match="None of the 44 gene names is known"):
        tuned.predict(strange)
    blank = ad.AnnData(np.eye(2, 44, 43, dtype=np.float32), var=adata.var)
    blank.X[:, 43] = 1
    with pytest.raises(ValueError, match="express none of the"):
        tl.fine_tune(with_kind(blank, adata), model, target="kind", genes=["TF0", "TF1"], progress=False)


def with_kind(blank, adata):
    cells = ad.concat([blank, adata])
    cells.obs["kind"] = ["high", "low", *adata.obs["kind"]]
    cells.obs_names_make_unique()
    return cells


@pytest.mark.parametrize(
    "options",
    [{"share": 0.0}, {"lr": -1.0}, {"batch_size": 0}, {"val_fraction": 1.0}, {"hidden": -1}, {"max_minutes": 0.0}],
)
def test_settings_out_of_range_are_told(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FineTuneConfig(**options)


@pytest.mark.parametrize("labels", [[], ["a", None, "a"], [1.0, np.nan, np.nan]])
def test_missing_labels_are_not_dropped_from_a_draw(labels):
    with pytest.raises(ValueError, match=r"\d of \d labels are missing"):
        few_shot(np.array(labels, dtype=object if None in labels else None), 0.5)


@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=5),
    st.floats(0, 0.9),
    st.floats(0.01, 1),
    st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_every_class_is_trained_on_whatever_is_held_out(sizes, fraction, share, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    used = few_shot(labels, share, seed=seed)
    assert len(set(used)) == len(used)
    assert (np.bincount(labels[used]) >= 2).all()
    train, val = split_cells(labels[used], fraction, seed=seed)
    assert sorted([*train, *val]) == list(range(len(used)))
    assert set(labels[used][train]) == set(labels)
    assert len(val) >= (fraction > 0)
