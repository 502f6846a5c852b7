from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

import grnlab as gl
from grnlab.benchmark.task import NotApplicableError, Task, fitter
from grnlab.benchmark.translate import FEATURES, fit_for, pairs_of, translate
from grnlab.evaluate import GoldStandard, candidate_universe


@pytest.fixture
def task(make_cells, human_model, data_folder, edges):
    cells = make_cells(n_each=20)
    genes = tuple(name for name in human_model.vocab.symbols if name in cells.var_names)
    gold = GoldStandard.from_frame(edges[::2], name="judge")
    fitted = fitter(lambda: human_model, lambda name: GoldStandard.from_frame(edges, name=name), data_folder, {})
    every = np.arange(len(genes))
    task = Task("d", "g", cells, genes, genes, every, every, lambda: human_model, fitted=fitted)
    return task.judged_by(gold, candidate_universe(gold, genes))


def test_features_are_the_read_outs(make_cells, human_model):
    cells = make_cells(n_each=40)
    maps = gl.tl.attention(cells, human_model, groupby="cell_type", genes="all")
    names = [name for name in maps.genes.index if name.startswith("TF")]
    every = ("attention", "cosine_centred", "consensus")
    found = pairs_of(cells, human_model, maps, [*names, "STRANGER"], of=every, groupby="cell_type")
    assert list(found.genes.index[found.regulators]) == names
    assert found.names[:3] == every
    for source in found.sources:
        own = gl.tl.read_out(
            cells, human_model, source.method, groupby="cell_type", genes="all", regulators=names, max_cells=None
        )
        for group in maps.groups:
            seen = ~np.isnan(own.group(group)) & ~np.isnan(source.group(group))
            assert seen.mean() > 0.5
            one, two = (rankdata(scores.group(group)[seen]) for scores in (own, source))
            assert np.corrcoef(one, two)[0, 1] > 0.99


@pytest.mark.parametrize("method", FEATURES)
def test_a_translator_scores_the_candidates_without_having_seen_them(task, method):
    translator = fit_for(task, method)
    assert translator.names[: len(FEATURES[method])] == FEATURES[method]
    assert fit_for(task, method) is translator
    assert translator.provenance["examples"]["training cells"]["gold"] == "trrust without judge"
    scores = translate(task, method)
    assert list(scores.genes.index[scores.regulators]) == [task.genes[gene] for gene in task.regulators]
    assert np.isfinite(scores.group("all")).mean() > 0.8


def test_a_model_adapted_to_the_cells_has_no_translator(task):
    with pytest.raises(NotApplicableError, match="adapted"):
        fit_for(replace(task, adapted=True), "translator")
