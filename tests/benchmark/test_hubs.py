import dataclasses

import numpy as np
import pandas as pd
import pytest

from grnlab.benchmark import DATASETS, METHODS, choose, run_benchmark
from grnlab.benchmark.hubs import cell_type_of, hub_rows, hub_strength, hub_table, read_markers
from grnlab.benchmark.task import Task


@pytest.fixture
def task():
    genes = tuple(f"g{number}" for number in range(60))
    none = np.zeros(0, dtype=int)
    return Task("d", "CD14+ Mono", None, genes, genes, none, none, lambda: None)


def scores_of(strength):
    """Every gene's partners are those of high strength."""
    return np.tile(np.asarray(strength, dtype=float)[:, None], (1, len(strength)))


def test_hubs_are_partners_of_many():
    rng = np.random.default_rng(0)
    score = rng.random((30, 30))
    score[7] += 2
    strength = hub_strength(score, top_k=3)
    assert strength.argmax() == 7
    assert int(strength[7]) == 29
    order = np.argsort(-np.where(np.eye(30, dtype=bool), -np.inf, score), axis=0)[:3]
    np.testing.assert_array_equal(strength.astype(int), np.bincount(order.ravel(), minlength=30))


def test_no_gene_is_its_own_partner_where_genes_are_few():
    assert hub_strength(np.arange(9.0).reshape(3, 3), top_k=10).astype(int).tolist() == [2, 2, 2]


def test_hubs_that_are_factors_and_own_markers(task, method):
    strength = np.arange(60.0)
    rows = hub_rows(
        task,
        [method(lambda _: scores_of(strength), name="good"), method(lambda _: scores_of(-strength), name="bad")],
        factors=[f"g{number}" for number in range(50, 60)],
        markers={"Monocytes": [f"g{i}" for i in range(44, 56)], "B cells": [f"g{i}" for i in range(20, 30)]},
    )
    good, bad = rows
    assert good["tf_auroc"] == 1.0
    assert good["tf_padj"] < 0.001
    assert (good["marker_type"], good["marker_place"]) == ("Monocytes", 1)
    assert good["marker_padj"] < 0.01
    assert bad["tf_auroc"] == 0.0
    assert bad["marker_place"] == 2
    table = hub_table(pd.DataFrame(rows)).set_index("method")
    assert table.loc["good", "own type first"] == 1
    assert table.loc["bad", "TFs enriched"] == 0


@pytest.mark.parametrize(
    ("group", "expected"),
    [("FCGR3A+ Mono", "Monocytes"), ("B Activated", "B cells"), ("T activated", "T cells"), ("Platelet", None)],
)
def test_names_of_groups(group, expected):
    assert cell_type_of(group) == expected


def test_markers_are_human(tmp_path):
    table = pd.DataFrame({"species": ["Mm Hs", "Mm", "Hs"], "official gene symbol": ["A", "B", "C"], "cell type": "X"})
    table.to_csv(tmp_path / "m.tsv", sep="\t", index=False)
    assert read_markers(tmp_path / "m.tsv") == {"X": ["A", "C"]}


def test_a_run_on_blood_cells_has_its_hubs(data_folder, human_model, tmp_path):
    dataset = dataclasses.replace(DATASETS["pbmc3k"], golds=("trrust", "encode"), pooled=False)
    config = dataclasses.replace(choose((), ["pearson", "random"], min_cells=20, n_genes=40), datasets=(dataset,))
    run_benchmark(tmp_path / "out", human_model, config, data=data_folder)
    hubs = pd.read_csv(tmp_path / "out/hubs.csv")
    assert sorted(hubs["method"].unique()) == ["pearson", "random"]
    assert sorted(hubs["group"].unique()) == ["B cell", "T cell"]
    assert hubs["tf_auroc"].between(0, 1).all()
    assert hubs["marker_auroc"].notna().all()
    assert "## Hubs of blood cells" in (tmp_path / "out/report.md").read_text()
    more = dataclasses.replace(config, methods=(*config.methods, METHODS["spearman"]))
    run_benchmark(tmp_path / "out", human_model, more, data=data_folder)
    again = pd.read_csv(tmp_path / "out/hubs.csv")
    assert sorted(again["method"].unique()) == ["pearson", "random", "spearman"]
    pd.testing.assert_frame_equal(again[again["method"] != "spearman"].reset_index(drop=True), hubs)
