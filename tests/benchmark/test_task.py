import numpy as np
import pandas as pd
import pytest

import grnlab as gl
from grnlab.benchmark.elsewhere import Elsewhere, without_edges
from grnlab.benchmark.task import NotApplicableError, Task, select_heads, untrained_like
from grnlab.evaluate import GoldStandard


@pytest.fixture
def task(make_cells, human_model):
    cells = make_cells()
    genes = tuple(name for name in human_model.vocab.symbols if name in cells.var_names)[:20]
    every = np.arange(len(genes))
    return Task("d", "g", cells, genes, genes, every[:5], every, lambda: human_model, seed=1)


def gold(*pairs):
    return GoldStandard.from_frame(pd.DataFrame(pairs, columns=["source", "target"]), name="toy")


def test_expression_is_normalised_by_the_counts_of_all_genes(task):
    counts = task.cells.X.toarray()
    expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    columns = task.cells.var_names.get_indexer(task.genes)
    np.testing.assert_allclose(task.expression, expected[:, columns], rtol=1e-6)


def test_measurements_are_taken_as_they_are(task):
    task.cells.layers["expression"] = np.random.default_rng(0).normal(size=task.cells.shape)
    columns = task.cells.var_names.get_indexer(task.genes)
    np.testing.assert_array_equal(task.expression, task.cells.layers["expression"][:, columns])


def test_dense_is_the_map_of_the_genes_regulator_by_target(task, human_model):
    maps = gl.tl.attention(task.cells, human_model, genes=list(task.genes))
    rows = maps.genes.index.get_indexer(task.genes)
    np.testing.assert_allclose(task.dense(), maps.dense("all", rows=rows).T, rtol=1e-5)


def test_shuffled_genes_score_what_they_would_under_the_other_names(task, human_model):
    renamed, order = task._shuffled()
    assert sorted(order) == list(range(20))
    assert (order != np.arange(20)).any()
    counts = pd.DataFrame(task.cells.X.toarray(), columns=task.cells.var_names)
    for place, gene in enumerate(task.genes):  # this name now has the counts of another gene
        column = renamed.X.toarray()[:, renamed.var_names.get_loc(gene)]
        np.testing.assert_array_equal(column, counts[task.genes[order[place]]])
    maps = gl.tl.attention(renamed, human_model, genes=list(task.genes))
    rows = maps.genes.index.get_indexer(task.genes)
    by_name = maps.dense("all", rows=rows).T
    shuffled = task.dense("shuffled")
    for one in range(20):
        assert shuffled[order[one], order[3]] == pytest.approx(by_name[one, 3], rel=1e-5)


def test_untrained_has_the_same_shape_and_other_weights(human_model):
    one, two = untrained_like(human_model, 1), untrained_like(human_model, 2)
    assert one.config == human_model.config
    assert (one.gene_embedding.weight != two.gene_embedding.weight).any()
    assert (untrained_like(human_model, 1).gene_embedding.weight == one.gene_embedding.weight).all()


def test_edges_of_the_judge_and_their_reverse_are_not_learned_from():
    left = without_edges(gold(("A", "B"), ("C", "D"), ("E", "F")), gold(("A", "B"), ("D", "C")))
    assert left.edges[["source", "target"]].values.tolist() == [["E", "F"]]


def test_heads_are_fitted_on_training_cells_once_by_another_gold_standard(data_folder, human_model, edges):
    asked = []

    def golds(name):
        asked.append(name)
        return GoldStandard.from_frame(edges, name=name)

    judge = GoldStandard.from_frame(edges[:20], name="judge")
    elsewhere = Elsewhere(lambda: human_model, golds, data_folder, {"judge": "teacher"})
    heads = elsewhere.fit(judge, select_heads)
    assert (heads.weights_LH > 0).any()
    assert elsewhere.fit(judge, select_heads) is heads
    assert asked == ["teacher"]
    with pytest.raises(NotApplicableError, match="--data"):
        Elsewhere(lambda: human_model, golds, None, {}).fit(judge, select_heads)


def test_what_is_learned_is_kept_for_each_judge_and_each_way_of_learning(data_folder, human_model, edges):
    calls = []

    def learn(cells, model, maps, gold):
        calls.append(gold)
        return len(calls)

    elsewhere = Elsewhere(lambda: human_model, lambda name: GoldStandard.from_frame(edges, name=name), data_folder, {})
    one, two = (GoldStandard.from_frame(edges[:size], name=name) for name, size in (("one", 20), ("two", 30)))
    assert [elsewhere.fit(gold, learn) for gold in (one, two, one)] == [1, 2, 1]
    assert [len(gold.edges) for gold in calls] == [len(edges) - 20, len(edges) - 30]
    assert elsewhere.fit(one, select_heads) is not elsewhere.fit(one, learn)
    assert elsewhere.fit(one, select_heads) is elsewhere.fit(one, select_heads)


def test_consensus_of_selected_heads_and_cosine(task, human_model, monkeypatch):
    from scipy.stats import rankdata

    from grnlab.benchmark import METHODS

    heads = gl.HeadSet.layer(human_model.attention, -1)
    monkeypatch.setattr(Task, "heads", lambda self: heads)
    selected, cosine, both = (
        METHODS[name].score(task) for name in ("selected_heads", "cosine_centred", "selected_consensus")
    )
    last = np.where(np.isnan(cosine), -np.inf, cosine)
    expected = (rankdata(np.where(np.isnan(selected), -np.inf, selected)) + rankdata(last)) / 2
    np.testing.assert_allclose(both.ravel(), expected)
    assert len(np.unique(both)) > 10
