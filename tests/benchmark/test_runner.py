import dataclasses
import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from grnlab.benchmark import DATASETS, FAST, METHODS, BenchmarkConfig, Gold, choose, outside, run_benchmark, summarise
from grnlab.benchmark.translate import COMBINED
from grnlab.evaluate import candidate_universe

FILES = {"cases.csv", "summary.csv", "report.md", "summary.png", "cases.png", "settings.json", "parts"}


@pytest.fixture
def config(own_case):
    """The case from outside, three methods."""
    dataset, golds = own_case
    methods = tuple(METHODS[name] for name in ("random", "pearson", "attention_directed"))
    return BenchmarkConfig((dataset,), golds, methods, n_genes=40, min_cells=10)


@pytest.fixture
def run(human_model, config, tmp_path):
    """Run into one folder; changed fields of the configuration."""

    def run(**changes):
        return run_benchmark(tmp_path / "out", human_model, dataclasses.replace(config, **changes))

    return run


def test_every_method_is_judged_on_the_same_candidates(run, tmp_path):
    table = run()
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert sorted(table["group"].unique()) == ["B cell", "T cell", "all cells"]
    assert (table.groupby("group").size() == 3).all()
    same = ["n_cells", "n_genes", "n_candidates", "n_true", "base_rate"]
    assert len(table[["group", *same]].drop_duplicates()) == 3
    np.testing.assert_allclose(table["auprc_ratio"], table["auprc"] / table["base_rate"])
    assert (table["error"] == "").all()
    assert table["cpu_s"].ge(0).all()
    assert set(table.loc[table["group"] == "all cells", "n_cells"]) == {40}
    written = pd.read_csv(tmp_path / "out/cases.csv", keep_default_na=True)
    assert written["method"].tolist() == table["method"].tolist()
    assert pd.read_csv(tmp_path / "out/summary.csv").columns.tolist() == list(summarise(table).columns)


def test_scores_are_those_of_the_pairs(run, method, edges, config):
    """A method that knows the truth, and its opposite direction."""
    seen = []

    def score(task):
        seen.append(task)
        return np.arange(len(task.regulators) * len(task.targets), dtype=float).reshape(len(task.regulators), -1)

    table = run(methods=(method(score, symmetric=False, reversible=True),))
    task, swapped = seen[:2]
    gold = config.golds["edges"].read(None)
    universe = candidate_universe(gold, task.genes)
    np.testing.assert_array_equal(task.regulators, universe.regulators)
    scores = np.arange(universe.truth_RT.size, dtype=float).reshape(universe.truth_RT.shape)
    inside = universe.candidate_RT
    assert table["auprc"][0] == pytest.approx(average_precision_score(universe.truth_RT[inside], scores[inside]))
    np.testing.assert_array_equal(swapped.regulators, task.targets)
    backward = np.arange(universe.truth_RT.size, dtype=float).reshape(universe.truth_RT.shape[::-1]).T
    expected = average_precision_score(universe.truth_RT[inside], backward[inside]) / universe.base_rate
    assert table["auprc_ratio_reversed"][0] == pytest.approx(expected)


def test_nan_is_the_lowest_and_counted(run, method):
    def score(task):
        scores = np.ones((len(task.regulators), len(task.targets)))
        scores[:, 0] = np.nan
        return scores

    table = run(methods=(method(score),))
    assert (table["unscored"] > 0).all()
    assert (table["unscored"] < 0.2).all()
    assert table["auprc"].notna().all()


def test_a_run_goes_on_where_it_stopped(run, method):
    calls = []

    def score(task):
        calls.append(task.group)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return np.ones((len(task.regulators), len(task.targets)))

    with pytest.raises(KeyboardInterrupt):
        run(methods=(method(score),))
    table = run(methods=(method(score),))
    assert calls == ["B cell", "T cell", "all cells", "all cells"]
    assert len(table) == 3
    run(methods=(method(score),))
    assert len(calls) == 4
    more = run(methods=(method(score), METHODS["pearson"]))  # another method is added, the first is not run again
    assert len(calls) == 4
    assert sorted(more["method"].unique()) == ["mine", "pearson"]


def test_a_method_that_fails_is_a_row_and_is_tried_again(run, method, tmp_path):
    broken = [True]

    def score(task):
        if broken:
            msg = "no | luck"
            raise RuntimeError(msg)
        return np.ones((len(task.regulators), len(task.targets)))

    table = run(methods=(METHODS["random"], method(score)))
    failed = table[table["method"] == "mine"]
    assert (failed["error"] == "RuntimeError: no | luck").all()
    assert failed["auprc_ratio"].isna().all()
    assert table.loc[table["method"] == "random", "auprc_ratio"].notna().all()
    assert "RuntimeError: no \\| luck" in (tmp_path / "out/report.md").read_text()
    broken.clear()
    assert (run(methods=(METHODS["random"], method(score)))["error"] == "").all()


def test_the_report_says_each_universe_and_definition(run, tmp_path):
    table = run()
    text = (tmp_path / "out/report.md").read_text()
    assert text.count(", grnlab ") == 1  # the version, once
    for _, row in table.drop_duplicates(["group"]).iterrows():
        assert f"| cells | {row['group']} | edges | {row['n_cells']} |" in text
        assert f"| {row['n_candidates']:,} | {row['n_true']:,} | {row['base_rate']:.4f} |" in text
    for word in ("Per-TF AUROC", "EPR", "grnlab", "weights_sha256", "`pearson` (expression)"):
        assert word in text


@pytest.mark.parametrize("change", [{"seed": 1}, {"n_genes": 39}, {"min_cells": 12}])
def test_another_setting_needs_another_folder(run, change):
    run()
    (name,) = change
    with pytest.raises(ValueError, match=f"{name}="):
        run(**change)


def test_other_cells_edges_or_groups_are_no_continuation(run, config, edges, tmp_path):
    run()
    files = [tmp_path / "edges.tsv"]
    grouped = outside(tmp_path / "cells.h5ad", files)[0]
    edges.iloc[:-3].to_csv(files[0], sep="\t", index=False)
    edited = outside(tmp_path / "cells.h5ad", files, groupby="cell_type")[0]
    for other in (grouped, edited):
        with pytest.raises(ValueError, match="datasets="):
            run(datasets=(other,))


def test_settings_without_a_part_hold_nobody(run, config, tmp_path):
    with pytest.raises(ValueError, match="'nope' is not a column"):
        run(datasets=(dataclasses.replace(config.datasets[0], groupby="nope"),))
    assert len(run()) > 0


@pytest.mark.parametrize(("name", "content"), [("settings.json", "{"), ("settings.json", "[]"), ("parts/*.json", "{")])
def test_damaged_files_of_a_run_are_named(run, tmp_path, name, content):
    run()
    path = sorted((tmp_path / "out").glob(name))[0]
    path.write_text(content)
    with pytest.raises(ValueError, match=path.name.replace("%", ".")):
        run()


def test_a_folder_of_other_things_is_left_alone(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not the folder of an earlier benchmark"):
        run()
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_nothing_to_judge_is_told(run, config):
    few = Gold("edges", lambda _: config.golds["edges"].read(None).only_regulators(["TF0"]))
    with pytest.raises(ValueError, match="ten true candidates"):
        run(golds={"edges": few})


def test_every_fast_method_on_the_stand_ins(data_folder, human_model, tmp_path):
    names = [name for name in FAST if name != "grnboost2" or importlib.util.find_spec("rustscenic")]
    golds = ("omnipath_all", "dorothea_abc")
    dataset = dataclasses.replace(DATASETS["pbmc3k"], groups=("B cell",), golds=golds, pooled=False)
    config = dataclasses.replace(choose((), names, min_cells=20, n_genes=40), datasets=(dataset,))
    table = run_benchmark(tmp_path / "out", human_model, config, data=data_folder)
    assert set(table["gold"]) == set(golds)
    failed = table[table["error"] != ""]
    assert set(failed["method"]) == set(COMBINED)  # the stand-ins of gold standards are all kin
    assert failed["error"].str.contains("does not apply").all()
    assert set(table.groupby("method").size()) == {len(table) // len(names)}
    popular = table[table["method"] == "degree_only"]
    assert popular["auprc_ratio"].notna().all()


def test_a_model_is_adapted_to_simulated_cells(data_folder, human_model, tmp_path):
    pytest.importorskip("lightning")
    config = choose(["dream4_1"], ["attention", "embedding_cosine", "untrained", "selected_heads"], adapt_steps=2)
    table = run_benchmark(tmp_path / "out", human_model, config, data=data_folder).set_index("method")
    assert table.loc["attention", "n_candidates"] == 12 * 11  # the whole network is known
    assert table.loc["attention", "adapted"]
    assert table.loc[["attention", "embedding_cosine", "untrained"], "auprc_ratio"].notna().all()
    assert "does not apply" in table.loc["selected_heads", "error"]


def test_group_names_of_any_kind_have_files_of_their_own(run, tmp_path, make_cells):
    cells = make_cells(groups=("A/B", "A B"), n_each=20)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    table = run()
    assert {"A/B", "A B"} <= set(table["group"])
    parts = list((tmp_path / "out/parts").glob("*.pearson.json"))
    assert {json.loads(path.read_text())[0]["group"] for path in parts} == {"A/B", "A B", "all cells"}
