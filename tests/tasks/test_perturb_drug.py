import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from grnlab.backbones import DrugBert, DrugBertConfig, ScPrint, load_model
from grnlab.data import collect_signatures
from grnlab.tasks import ResponseConfig, draw_responses, fit_responses, nearest_drugs, predict_responses
from grnlab.training import PretrainConfig, pretrain

FAST = ResponseConfig(
    max_steps=24, batch_size=16, n_tokens=20, lr=5e-3, weight_decay=0.01, val_every=8, warmup=4, val_fraction=0.15
)


@pytest.fixture(scope="module")
def simulated(tiny_vocab):
    """40 drugs of 5 features in two cell lines and two doses; declared as simulated: linear in the features."""
    rng = np.random.default_rng(0)
    names = [f"drug{number}" for number in range(40)]
    features = pd.DataFrame(rng.normal(size=(40, 5)), index=names, columns=[f"f{number}" for number in range(5)])
    features = features.div(np.linalg.norm(features, axis=1), axis=0)
    effects, level, of_cell = rng.normal(size=(5, 30)), rng.normal(size=30), rng.normal(size=(2, 30))
    obs = pd.DataFrame(
        [(drug, cell, dose) for drug in names for cell in ("A375", "MCF7") for dose in (0.1, 10.0)],
        columns=["drug", "cell", "dose"],
    )
    cell = (obs["cell"] == "MCF7").to_numpy(int)
    changes = level + 2 * features.loc[obs["drug"]].to_numpy() @ effects + of_cell[cell]
    changes = changes * (1 + 0.3 * np.log10(obs["dose"].to_numpy()))[:, None] + 0.3 * rng.normal(size=changes.shape)
    obs.index = [f"s{number}" for number in range(len(obs))]
    return ad.AnnData(changes.astype(np.float32), obs=obs, var=pd.DataFrame(index=tiny_vocab.symbols)), features


@pytest.fixture(scope="module")
def parts(simulated):
    """Signatures of known drugs, of drugs to predict, and the features of all."""
    adata, features = simulated
    unseen = adata.obs["drug"].isin(features.index[32:])
    return adata[~unseen].copy(), adata[unseen].copy(), features


@pytest.fixture(scope="module")
def make(tiny_vocab, simulated):
    def make(**config):
        torch.manual_seed(0)
        sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_decoder": 16, "feature_dropout": 0.0}
        given = {"features": tuple(simulated[1].columns), "cells": ("A375", "MCF7"), "dose": True}
        return DrugBert(tiny_vocab, DrugBertConfig(**{**sizes, **given, **config}), name="tiny").eval()

    return make


@pytest.fixture(scope="module")
def fitted(make, parts):
    known, _, features = parts
    return fit_responses(known, make(decoder="mlp", additive_rank=5), features=features, config=FAST)


def agreement(model, adata, features):
    made = predict_responses(
        model, features.loc[adata.obs["drug"]], cell=adata.obs["cell"].tolist(), dose=adata.obs["dose"].tolist()
    )
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(adata.X, made[:, adata.var_names].X, strict=True)])


def test_drugs_never_seen_are_predicted_better_than_by_the_mean(fitted, parts):
    known, unseen, features = parts
    mean = np.mean([np.corrcoef(row, known.X.mean(axis=0))[0, 1] for row in unseen.X])
    assert agreement(fitted, unseen, features) > mean + 0.1
    said = fitted.provenance["responses"]
    assert said["n_signatures"] + said["n_held_out"] == known.n_obs
    assert set(said["held_out_drugs"]) < set(known.obs["drug"])
    assert said["n_held_out"] == 4 * len(said["held_out_drugs"])  # whole drugs are held out


def test_the_linear_path_alone_is_ridge_regression(make, parts):
    known, unseen, features = parts
    known, unseen = (x[(x.obs["cell"] == "A375") & (x.obs["dose"] == 10)].copy() for x in (known, unseen))
    config = ResponseConfig(max_steps=1, n_tokens=30, lr=1e-12, val_every=1, val_fraction=0.15)
    model = fit_responses(known, make(cells=(), dose=False, additive_rank=5), features=features, config=config)
    said = set(model.provenance["responses"]["held_out_drugs"])
    rows = ~known.obs["drug"].isin(said).to_numpy()
    x, at = (features.loc[names].to_numpy() for names in (known.obs["drug"][rows], unseen.obs["drug"]))
    mean = known.X[rows].mean(axis=0)
    expected = [
        mean + at @ np.linalg.solve(x.T @ x + penalty * np.eye(5), x.T @ (known.X[rows] - mean))
        for penalty in (1.0, 2.0, 5.0, 10.0, 20.0)
    ]
    made = predict_responses(model, features.loc[unseen.obs["drug"]]).X
    assert min(np.abs(made - one).max() for one in expected) < 1e-4


@pytest.mark.parametrize("decoder", ["mlp", "lstm"])
def test_fitting_learns_is_repeatable_and_leaves_the_model_as_it_was(make, parts, decoder):
    known, _, features = parts
    model = make(decoder=decoder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runs = [fit_responses(known, model, features=features, config=FAST) for _ in range(2)]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])
    for name, value in runs[0].state_dict().items():
        torch.testing.assert_close(value, runs[1].state_dict()[name])
    said = runs[0].provenance["responses"]
    assert said["pearson_held_out"] == max(score for _, _, score in said["curve"])
    held_out = known[known.obs["drug"].isin(said["held_out_drugs"])]
    assert agreement(runs[0], held_out, features) == pytest.approx(said["pearson_held_out"], abs=1e-3)
    assert not runs[0].training


def test_cell_and_dose_change_the_prediction(fitted, parts):
    features = parts[2].iloc[:2]
    base = predict_responses(fitted, features, cell="A375", dose=0.1)
    assert base.obs[["drug", "cell", "dose"]].to_numpy().tolist() == [["drug0", "A375", 0.1], ["drug1", "A375", 0.1]]
    assert not np.allclose(base.X, predict_responses(fitted, features, cell="MCF7", dose=0.1).X)
    assert not np.allclose(base.X, predict_responses(fitted, features, cell="A375", dose=10.0).X)
    some = predict_responses(fitted, features, cell="A375", dose=0.1, genes=["G7", "G2"])
    assert some.var_names.tolist() == ["G7", "G2"]


def test_draws_scatter_as_neighbours_do_around_the_prediction(fitted, parts):
    known, _, features = parts
    one = known[(known.obs["cell"] == "A375") & (known.obs["dose"] == 10)].copy()
    predicted = predict_responses(fitted, features.iloc[32:], cell="A375", dose=10.0)
    draws = draw_responses(predicted, one, features, n_draws=4, spread=0.5)
    assert list(draws) == features.index[32:].tolist()
    for row, drug in enumerate(draws):
        np.testing.assert_allclose(draws[drug].mean(axis=0), predicted.X[row], atol=1e-5)
        near = nearest_drugs(features, [drug], one.obs["drug"], k=4)[0]
        np.testing.assert_allclose(np.ptp(draws[drug], axis=0), 0.5 * np.ptp(one.X[near], axis=0), atol=1e-4)
    with pytest.raises(ValueError, match="spread=-1"):
        draw_responses(predicted, one, features, spread=-1)
    with pytest.raises(ValueError, match="measured lacks 25 genes"):
        draw_responses(predicted, one[:, :5], features)
    sparse = one.copy()
    sparse.X = sp.csr_matrix(sparse.X)
    for drug, values in draw_responses(predicted, sparse, features, n_draws=4, spread=0.5).items():
        np.testing.assert_array_equal(values, draws[drug])
    twice = predict_responses(fitted, features.iloc[[32, 32]], cell="A375", dose=[1.0, 10.0])
    with pytest.raises(ValueError, match="predicted names drugs more than once, as 'drug32'"):
        draw_responses(twice, one, features)
    one.obs = one.obs.rename(columns={"drug": "compound"})
    with pytest.raises(ValueError, match=r"measured\.obs has no column 'drug'"):
        draw_responses(predicted, one, features)


def test_pretraining_comes_first_and_carries_over(make, parts, tmp_path, tiny_vocab):
    known, _, features = parts
    cells = collect_signatures(known, tiny_vocab, features=features, cells=("A375", "MCF7"))
    config = make(drugs=cells.label_values["drug"]).config
    settings = PretrainConfig(
        objectives=("mask_values", "tell_conditions"), n_tokens=24, batch_size=8, max_steps=4, val_every=2, warmup=2,
        val_fraction=0.1, label=("drug",),
    )  # fmt: skip
    pretrain(tiny_vocab, cells, model=config, config=settings, out=tmp_path / "base", progress=False)
    base = load_model(tmp_path / "base")
    assert base.provenance["settings"]["objectives"] == ["mask_values", "tell_conditions"]
    tuned = fit_responses(known, base, features=features, config=ResponseConfig(max_steps=2, val_every=1, n_tokens=9))
    assert tuned.provenance["settings"] == base.provenance["settings"]
    assert tuned.provenance["responses"]["settings"]["n_tokens"] == 9


def test_bad_input_of_the_fit_is_named(make, parts, tiny_vocab):
    known, _, features = parts
    model = make()
    with pytest.raises(ValueError, match="features must be given"):
        fit_responses(known, model)
    with pytest.raises(ValueError, match=r"drugs have no features: \['drug0'"):
        fit_responses(known, model, features=features.iloc[5:])
    with pytest.raises(ValueError, match="lacks 1 of the 5 features"):
        fit_responses(known, model, features=features.iloc[:, 1:])
    with pytest.raises(ValueError, match=r"holds \['HeLa'\], which the model does not know"):
        fit_responses(_with(known, cell="HeLa"), model, features=features)
    with pytest.raises(ValueError, match="dose must be above 0"):
        fit_responses(_with(known, dose=0.0), model, features=features)
    with pytest.raises(ValueError, match="at least four are needed"):
        fit_responses(known[known.obs["drug"].isin(["drug0", "drug1"])].copy(), model, features=features)
    bare = known.copy()
    bare.obs = bare.obs[["drug"]]
    with pytest.raises(ValueError, match="nothing to predict from"):
        fit_responses(bare, make(features=()))
    with pytest.raises(ValueError, match="must be a DrugBert"):
        fit_responses(known, ScPrint(tiny_vocab), features=features)
    with pytest.raises(ValueError, match="max_steps=0 must be a whole number"):
        ResponseConfig(max_steps=0)
    for options in ({"warmup": -1}, {"weight_decay": -1.0}, {"average": 1.0}):
        with pytest.raises(ValueError, match="must be 0 or more, average="):
            ResponseConfig(**options)


def test_no_warm_up_and_doses_of_any_type(make, parts, fitted):
    known, _, features = parts
    config = ResponseConfig(max_steps=1, batch_size=4, n_tokens=5, warmup=0, val_fraction=0.15)
    assert fit_responses(known, make(), features=features, config=config).provenance["responses"]["curve"]
    with pytest.raises(ValueError, match="features has no rows"):
        predict_responses(fitted, features.iloc[:0], cell="A375", dose=1.0)
    one = predict_responses(fitted, features.iloc[:2], cell="A375", dose=1.0)
    other = predict_responses(fitted, features.iloc[:2], cell="A375", dose=np.int64(1))
    np.testing.assert_array_equal(one.X, other.X)


def _with(adata, **values):
    changed = adata.copy()
    for column, value in values.items():
        changed.obs[column] = value
    return changed


def test_bad_input_of_the_prediction_is_named(fitted, parts):
    features = parts[2].iloc[:3]
    for arguments, message in (
        ({"cell": "HeLa"}, "cell='HeLa' is unknown"),
        ({"dose": 0.0}, "dose=0.0 must be above 0"),
        ({"dose": [1.0, -2.0, 1.0]}, "dose=-2.0 must be above 0"),
        ({"cell": ["A375", "MCF7"]}, "name 2 and 0 conditions for 3 drugs"),
        ({"genes": ["G1", "X"]}, r"genes holds \['X'\]"),
        ({"genes": ["G1", "G1"]}, "a gene twice"),
    ):
        with pytest.raises(ValueError, match=message):
            predict_responses(fitted, features, **arguments)
    with pytest.raises(ValueError, match="name a condition"):
        predict_responses(fitted)
    with pytest.raises(ValueError, match="drugs have no features"):
        nearest_drugs(features, ["drug0"], ["nobody"], k=1)
    with pytest.raises(ValueError, match="k=3 neighbours"):
        nearest_drugs(features, ["drug0"], list(features.index), k=3)


def test_a_model_without_drugs_predicts_from_cell_and_dose(make, parts):
    known = parts[0]
    model = fit_responses(known, make(features=()), config=FAST)
    made = predict_responses(model, cell=["A375", "MCF7"], dose=10.0)
    assert made.shape == (2, 30)
    assert "drug" not in made.obs
