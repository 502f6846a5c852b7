from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

import grnlab as gl
from grnlab.benchmark.elsewhere import Elsewhere
from grnlab.benchmark.task import NotApplicableError, Task
from grnlab.benchmark.translate import COMBINED, READ_OUTS, TRANSLATORS, combine, fit_for, read_outs, translate
from grnlab.evaluate import GoldStandard, candidate_universe
from grnlab.heads import Popularity


@pytest.fixture
def elsewhere(human_model, data_folder, edges):
    return Elsewhere(lambda: human_model, lambda name: GoldStandard.from_frame(edges, name=name), data_folder, {})


@pytest.fixture
def task(make_cells, human_model, elsewhere, edges):
    cells = make_cells(n_each=20)
    genes = tuple(name for name in human_model.vocab.symbols if name in cells.var_names)
    gold = GoldStandard.from_frame(edges[::2], name="judge")
    every = np.arange(len(genes))
    task = Task("d", "g", cells, genes, genes, every, every, lambda: human_model, fitted=elsewhere)
    return task.judged_by(gold, candidate_universe(gold, genes))


def test_features_are_the_read_outs(make_cells, human_model):
    cells = make_cells(n_each=40)
    maps = gl.tl.attention(cells, human_model, groupby="cell_type", genes="all")
    names = [name for name in maps.genes.index if name.startswith("TF")]
    found = read_outs(cells, human_model, maps, [*names, "STRANGER"], groupby="cell_type")
    assert tuple(one.method for one in found) == READ_OUTS
    for source in found:
        assert list(source.genes.index[source.regulators]) == names
        own = gl.tl.read_out(
            cells, human_model, source.method, groupby="cell_type", genes="all", regulators=names, max_cells=None
        )
        for group in maps.groups:
            seen = ~np.isnan(own.group(group)) & ~np.isnan(source.group(group))
            assert seen.mean() > 0.5
            one, two = (rankdata(scores.group(group)[seen]) for scores in (own, source))
            assert np.corrcoef(one, two)[0, 1] > 0.99


@pytest.mark.parametrize("method", TRANSLATORS)
def test_a_translator_scores_the_candidates(task, method):
    translators = fit_for(task, method)
    assert set(TRANSLATORS[method]) <= set(translators[0].names)
    assert "known regulators of the target, judge" in translators[0].names
    assert all(one is two for one, two in zip(fit_for(task, method), translators, strict=True))
    scores = translate(task, method)
    assert {task.genes[gene] for gene in task.regulators} <= set(scores.genes.index[scores.regulators])
    assert np.isfinite(scores.group("all")).mean() > 0.8


def _own_edges_changed(task, fold):
    """The same task, whose judge says other things of the regulators of a fold, and of them alone."""
    edges = task.gold.edges
    names = np.array(sorted(edges["target"].unique()))
    mine = Popularity((task.gold,)).fold(edges["source"]) == fold
    other = dict(zip(names, names[::-1], strict=True))
    changed = edges.assign(target=np.where(mine, edges["target"].map(other), edges["target"]))
    changed = changed[changed["source"] != changed["target"]].drop_duplicates(["source", "target"])
    gold = replace(task.gold, edges=changed.reset_index(drop=True))
    return replace(task, gold=gold), mine


@pytest.mark.parametrize("method", [*TRANSLATORS, *COMBINED])
def test_no_score_of_a_regulator_depends_on_its_edges_in_the_judge(task, method, monkeypatch):
    monkeypatch.setattr("grnlab.benchmark.elsewhere._KIN", 1.1)  # the stand-ins are all alike
    fold = int(Popularity((task.gold,)).fold(task.gold.edges["source"])[0])
    changed, mine = _own_edges_changed(task, fold)
    assert mine.any()
    assert not mine.all()
    run = translate if method in TRANSLATORS else combine
    one, two = run(task, method), run(changed, method)
    in_fold = Popularity((task.gold,)).fold(list(one.genes.index[one.regulators])) == fold

    def alike(rows):
        pairs = [scores.group("all")[rows] for scores in (one, two)]
        return spearmanr(*(np.nan_to_num(values, nan=-9).ravel() for values in pairs)).statistic

    if method in COMBINED:
        np.testing.assert_array_equal(one.group("all"), two.group("all"))
    else:  # features have one mean and spread over all pairs, which those of other folds move a little
        assert alike(in_fold) > 0.99
        assert alike(~in_fold) < 0.95


def test_kin_of_the_judge_is_left_out(elsewhere, edges, human_model):
    teachers = elsewhere.teachers()
    assert set(teachers) == {"omnipath", "trrust", "dorothea_abc", "encode"}  # the others are not in the folder
    judge = GoldStandard.from_frame(edges, name="judge")
    with pytest.raises(NotApplicableError, match="shares its edges"):
        elsewhere.strangers(judge)
    far = GoldStandard.from_frame(pd.DataFrame({"source": ["GENE1"], "target": ["TF1"]}), name="far")
    assert [gold.name for gold in elsewhere.strangers(far)] == list(teachers)


def test_a_model_adapted_to_the_cells_has_no_translator(task):
    with pytest.raises(NotApplicableError, match="adapted"):
        fit_for(replace(task, adapted=True), "translator")


def test_without_a_data_folder_nothing_is_learned(task, human_model):
    alone = replace(task, fitted=Elsewhere(lambda: human_model, lambda _: None, None, {}))
    with pytest.raises(NotApplicableError, match="--data"):
        combine(alone, "consensus_known")
