import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from grnlab.data import QualityRules, load_collection
from grnlab.data.files import CountsFile
from grnlab.data.scan import scan_file

OFF = {"primary": False, "species": False, "min_genes": None}


@pytest.fixture
def judge(make_cells, human_vocab, tmp_path):
    """Rules → verdict on 20 cells; cell n has n + 1 counts of each of n + 1 genes."""

    def judge(rules, *, uns=None, **obs):
        adata = make_cells()
        columns = [n for n, name in enumerate(adata.var_names) if human_vocab.token(name) is not None]
        counts = np.zeros(adata.shape, dtype=np.float32)
        for cell in range(20):
            counts[cell, columns[: cell + 1]] = cell + 1
        adata.X = sp.csr_matrix(counts)
        adata.obs = adata.obs.assign(**obs)
        adata.uns.update(uns or {})
        adata.write_h5ad(tmp_path / "a.h5ad")
        with CountsFile(tmp_path / "a.h5ad") as file:
            return rules.judge(file, scan_file(tmp_path / "a.h5ad", human_vocab), human_vocab.species)

    return judge


def test_each_rule_takes_its_cells_and_can_be_switched_off(judge):
    even = np.arange(20) % 2 == 0
    obs = {
        "is_primary_data": even,
        "organism": pd.Categorical(np.where(np.arange(20) < 5, "Mus musculus", "human")),
        "assay": pd.Categorical(np.where(np.arange(20) == 7, "MERFISH", "10x")),
    }
    assert judge(QualityRules(**OFF), **obs).removed == {}
    for rule, kept in {
        "primary": np.arange(0, 20, 2),
        "species": np.arange(5, 20),
        "exclude": np.delete(np.arange(20), 7),
        "min_genes": np.arange(9, 20),
        "min_counts": np.arange(9, 20),
        "max_counts": np.arange(10),
    }.items():
        value = {"exclude": {"assay": ["MERFISH"], "no such column": ["x"]}, "min_genes": 10}.get(rule, True)
        value = 100 if rule.endswith("counts") else value
        verdict = judge(QualityRules(**(OFF | {rule: value})), **obs)
        np.testing.assert_array_equal(verdict.rows, kept, err_msg=rule)
        name = "exclude assay" if rule == "exclude" else rule
        assert verdict.removed == {name: 20 - len(kept)}
        assert verdict.reason is None


def test_a_cell_counts_against_the_first_rule_it_breaks(judge):
    rules = QualityRules(min_genes=6, min_counts=100, max_counts=300)
    verdict = judge(rules, is_primary_data=np.arange(20) >= 3)
    assert verdict.removed == {"primary": 3, "min_genes": 2, "min_counts": 4, "max_counts": 3}
    np.testing.assert_array_equal(verdict.rows, np.arange(9, 17))


@pytest.mark.parametrize("column", [[True, False] * 10, ["True", "False"] * 10, pd.array([True, False] * 10)])
def test_primary_cells_by_any_spelling(judge, column):
    np.testing.assert_array_equal(judge(QualityRules(min_genes=1), is_primary_data=column).rows, np.arange(0, 20, 2))


def test_species_may_stand_in_uns_and_unknown_ones_stay(judge):
    rules = QualityRules(min_genes=1)
    assert judge(rules, uns={"organism": "Mus musculus"}).reason == (
        "min_cells: 0 of 20 cells are left (20 by species taken away), fewer than 1"
    )
    assert len(judge(rules, uns={"organism": "Homo sapiens"}).rows) == 20
    assert len(judge(rules, organism=pd.Categorical([None] * 19 + ["mouse"])).rows) == 19


def test_rules_for_files_name_themselves(judge):
    assert judge(QualityRules(min_genes=1, min_mapped=49)).reason == (
        "min_mapped: 48 genes are known to the vocabulary, fewer than 49"
    )
    assert judge(QualityRules(min_genes=1, min_mapped=48)).reason is None
    assert judge(QualityRules(min_genes=1, min_cells=21)).reason == (
        "min_cells: 20 of 20 cells are left (none taken away), fewer than 21"
    )
    assert judge(QualityRules(min_genes=20, max_removed=0.9)).reason == (
        "max_removed: 1 of 20 cells are left (19 by min_genes taken away), less than 10%"
    )
    assert judge(QualityRules(min_genes=19, max_removed=0.9)).reason is None
    assert QualityRules.scprint() == QualityRules(min_cells=100, min_mapped=10_000, max_removed=0.95)


def test_max_cells_is_a_seeded_choice(judge):
    draws = [judge(QualityRules(min_genes=3, max_cells=8, seed=seed)) for seed in (0, 0, 1)]
    assert draws[0].removed == {"min_genes": 2, "max_cells": 10}
    assert len(draws[0].rows) == 8
    assert draws[0].rows.min() >= 2
    assert (np.diff(draws[0].rows) > 0).all()
    np.testing.assert_array_equal(draws[0].rows, draws[1].rows)
    assert not np.array_equal(draws[0].rows, draws[2].rows)


def test_the_report_has_the_cells_of_each_rule(make_cells, human_vocab, tmp_path, caplog):
    for number, n_each in enumerate((5, 20)):
        adata = make_cells(n_each=n_each, seed=number)
        adata.obs["is_primary_data"] = np.arange(adata.n_obs) > 0
        adata.write_h5ad(tmp_path / f"set{number}.h5ad")
    cells = load_collection(tmp_path, human_vocab, rules=QualityRules(min_genes=1, min_cells=10))
    assert cells.names == ["set1"]
    assert "set0.h5ad: left out by min_cells: 9 of 10 cells are left (1 by primary taken away)" in caplog.text
    table = cells.report
    assert table["status"].tolist() == ["left out", "used"]
    assert table["removed by primary"].tolist() == [1, 1]
    assert table[["n_cells", "n_kept"]].to_numpy().tolist() == [[10, 0], [40, 39]]
