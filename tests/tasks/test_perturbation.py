import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grnlab.backbones import ScPrint, ScPrintConfig
from grnlab.tasks import (
    PerturbationConfig,
    baseline_effects,
    fit_perturbation,
    gene_embeddings,
    perturbation_scores,
)

FAST = PerturbationConfig(max_epochs=80, dropout=0.0, hidden=16, lr=0.02, patience=30)


@pytest.fixture(scope="module")
def world():
    """Genes in a graph; a perturbed gene changes what its targets, by their embedding, stand for."""
    rng = np.random.default_rng(0)
    names = [f"G{n}" for n in range(150)]
    embeddings = pd.DataFrame(rng.normal(size=(150, 3)), index=names)
    targets = [rng.choice(150, 2, replace=False) for _ in names]
    graph = pd.DataFrame(
        [(names[source], names[target]) for source, some in enumerate(targets) for target in some],
        columns=["source", "target"],
    )
    around = np.stack([embeddings.to_numpy()[some].mean(axis=0) for some in targets])
    effects = pd.DataFrame(around @ rng.normal(size=(3, 30)), index=names, columns=names[:30])
    return effects, embeddings, graph


def error(truth, predicted):
    return float(((truth - predicted) ** 2).to_numpy().mean())


def test_messages_along_the_graph_predict_genes_never_perturbed(world):
    effects, embeddings, graph = world
    train, test = effects.iloc[:130], effects.iloc[130:]
    with_graph = fit_perturbation(train, embeddings, graph=graph, config=FAST).predict(list(test.index))
    without = fit_perturbation(train, embeddings, config=FAST).predict(list(test.index))
    mean = baseline_effects(train, embeddings, list(test.index), kind="mean")
    assert error(test, with_graph) < 0.3 * error(test, mean)
    assert error(test, with_graph) < 0.3 * error(test, without)


def test_seeds_repeat_and_rows_edges_and_columns_may_come_in_any_order(world):
    effects, embeddings, graph = world
    config = PerturbationConfig(max_epochs=5, dropout=0.0, val_fraction=0.0)
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    one = fit_perturbation(effects, embeddings, graph=graph, config=config).predict(["G3", "G5"])
    assert torch.equal(torch.random.get_rng_state(), state)
    mixed = fit_perturbation(
        effects.sample(frac=1, axis=1, random_state=0),
        embeddings.sample(frac=1, random_state=0),
        graph=pd.concat([graph, graph]).sample(frac=1, random_state=0),
        config=config,
    ).predict(["G3", "G5"])
    other = fit_perturbation(effects, embeddings, graph=graph, config=PerturbationConfig(max_epochs=5, seed=1))
    assert list(one.columns) == list(effects.columns)
    pd.testing.assert_frame_equal(mixed[one.columns], one, atol=1e-3)
    assert not np.allclose(other.predict(["G3", "G5"]), one)


def test_dropout_does_not_ask_for_the_order_of_the_columns(world):
    effects, embeddings, _ = world
    config = PerturbationConfig(max_epochs=3, dropout=0.5)
    mixed = effects.sample(frac=1, axis=1, random_state=0)
    one, other = (fit_perturbation(table, embeddings, config=config).predict(["G3"]) for table in (effects, mixed))
    assert list(other.columns) == list(mixed.columns)
    pd.testing.assert_frame_equal(other[one.columns], one, atol=1e-6)
    with pytest.raises(ValueError, match=r"perturbed='G3' must be a list of names, as \['G3'\]"):
        fit_perturbation(effects, embeddings, config=config).predict("G3")


def test_two_genes_at_once_and_the_history(world):
    effects, embeddings, _ = world
    fitted = fit_perturbation(effects, embeddings, config=PerturbationConfig(max_epochs=3))
    found = fitted.predict(["G1+G2", "G2+G1", "G1"])
    np.testing.assert_allclose(found.iloc[0], found.iloc[1], rtol=1e-5)
    assert not np.allclose(found.iloc[0], found.iloc[2])
    assert fitted.history["epoch"].tolist() == [0, 1, 2, 3]
    assert fitted.history["val_loss"].notna().all()


@pytest.mark.parametrize("kind", ["knn", "ridge"])
def test_baselines_learn_from_embeddings(kind):
    rng = np.random.default_rng(1)
    centre = rng.normal(size=(4, 5))[np.arange(60) % 4]
    embeddings = pd.DataFrame(centre + 0.1 * rng.normal(size=centre.shape), index=[f"G{n}" for n in range(60)])
    effects = pd.DataFrame(centre @ rng.normal(size=(5, 7)), index=embeddings.index, columns=list("abcdefg"))
    test = effects.iloc[50:]
    found, mean = (baseline_effects(effects.iloc[:50], embeddings, list(test.index), kind=k) for k in (kind, "mean"))
    assert error(test, found) < 0.2 * error(test, mean)


def test_scores_of_a_perfect_an_opposite_and_a_constant_prediction(world):
    effects, _, _ = world
    truth = effects.where(effects.abs() > 1, 0.0)
    perfect = perturbation_scores(truth, truth)
    assert (perfect["mse_top"], perfect["mse"], perfect["auroc"]) == (0, 0, 1)
    assert perfect["pearson_top"] == pytest.approx(1)
    opposite = perturbation_scores(truth, -truth)
    assert opposite["auroc"] == 1
    assert opposite["pearson_top"] == pytest.approx(-1)
    constant = perturbation_scores(truth, truth * 0 + 1)
    assert (constant["auroc"], constant["pearson_top"]) == (0.5, 0)
    with pytest.raises(ValueError, match="nothing to score"):
        perturbation_scores(truth * 0, truth)


@given(st.integers(0, 100), st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_auroc_is_that_of_scikit_learn(seed, n_genes):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    truth = pd.DataFrame(rng.integers(-1, 2, (3, n_genes)).astype(float))
    predicted = pd.DataFrame(rng.integers(-3, 4, (3, n_genes)).astype(float))
    each = [
        roc_auc_score(truth.loc[row] != 0, predicted.loc[row].abs())
        for row in truth.index
        if 0 < (truth.loc[row] != 0).sum() < n_genes
    ]
    if each:
        assert perturbation_scores(truth, predicted)["auroc"] == pytest.approx(np.mean(each))


def test_embeddings_of_a_model_are_its_table(human_vocab):
    model = ScPrint(human_vocab, ScPrintConfig(n_layers=1, d_model=8, n_heads=2))
    found = gene_embeddings(model)
    assert found.index.is_unique
    np.testing.assert_array_equal(found.loc[human_vocab.symbols[3]], model.gene_embedding.weight[3].detach())
    with pytest.raises(ValueError, match="no table of gene embeddings"):
        gene_embeddings("grnlab-small")


def test_bad_input_is_told(world):
    effects, embeddings, graph = world
    for arguments, options, message in (
        ((effects, embeddings.iloc[1:]), {}, r"lacks, \['G0'\]"),
        ((effects.mask(effects > 2), embeddings), {}, "effects holds NaN"),
        ((pd.concat([effects, effects]), embeddings), {}, "effects has the rows .* more than once"),
        ((effects.iloc[:2], embeddings), {}, "2 perturbations"),
        ((effects.to_numpy(), embeddings), {}, "must be a data frame"),
        ((effects, embeddings), {"graph": graph[["source"]]}, r"lacks the columns \['target'\]"),
        ((effects, embeddings), {"graph": graph.assign(source="X")}, "no edge between two genes"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_perturbation(*arguments, **options)
    fitted = fit_perturbation(effects, embeddings, config=PerturbationConfig(max_epochs=1))
    with pytest.raises(ValueError, match=r"without an embedding: \['X'\]"):
        fitted.predict(["G1", "G2+X"])
    with pytest.raises(ValueError, match=r"without an embedding: \['X'\]"):
        baseline_effects(effects, embeddings, ["X"], kind="knn")
    with pytest.raises(ValueError, match="kind='median'"):
        baseline_effects(effects, embeddings, ["G1"], kind="median")
    for options in ({"hidden": 0}, {"dropout": 1.0}, {"n_hops": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            PerturbationConfig(**options)
