import numpy as np
import pandas as pd
import pytest

from grnlab.benchmark import DATASETS, GOLDS
from grnlab.benchmark.datasets import EXPRESSION, read_continuous, read_log2


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_read_as_counts_with_its_groups(name, data_folder):
    dataset = DATASETS[name]
    adata = dataset.read(data_folder)
    counts = adata.X.toarray()
    assert (counts >= 0).all()
    np.testing.assert_array_equal(counts, np.round(counts))
    assert dataset.groupby is None or dataset.groupby in adata.obs
    assert set(dataset.golds) <= set(GOLDS)
    continuous = not name.startswith(("pbmc3k", "kang", "hesc"))
    assert (EXPRESSION in adata.layers) == continuous


@pytest.mark.parametrize("name", GOLDS)
def test_every_gold_standard_is_read(name, data_folder, edges):
    gold = GOLDS[name].read(data_folder)
    assert gold.name == name
    if name.startswith("dream4"):
        table = pd.read_csv(
            data_folder / f"dream4/size100_multifactorial_{name[-1]}_goldstandard.tsv", sep="\t", header=None
        )
        assert len(gold) == table[2].sum() < len(table)
    elif name.startswith("sergio"):
        assert gold.edges[["source", "target"]].values.tolist() == [["g1", "g5"], ["g1", "g6"], ["g2", "g7"]]
    elif not name.startswith("small"):
        true = set(map(tuple, edges.to_numpy()))
        found = set(zip(gold.edges["source"], gold.edges["target"], strict=True))
        assert found - {("TF0", "0610005C13RIK")} <= true
        kept = {"omnipath": 1 / 2, "omnipath_all": 3 / 4, "trrust": 3 / 4, "encode": 3 / 4, "dorothea_abc": 9 / 20}.get(
            name, 1.0
        )
        assert len(found & true) == pytest.approx(kept * len(true), abs=2)


def test_every_training_gold_standard_exists_and_is_another():
    for name, gold in GOLDS.items():
        assert gold.train in {"", *GOLDS} - {name}


def test_conditions_are_kept_apart(data_folder):
    control, stimulated = (DATASETS[f"kang_{name}"].read(data_folder) for name in ("control", "stimulated"))
    assert set(control.obs["condition"]) == {"CTRL"}
    assert set(stimulated.obs["condition"]) == {"STIM"}
    assert not set(control.obs_names) & set(stimulated.obs_names)


def test_log2_is_turned_into_pseudo_counts_and_kept(tmp_path):
    table = pd.DataFrame({"c0": [0.0, 1.0, 2.0], "c1": [3.0, 0.0, 0.0]}, index=["A", "B", "C"])
    table.to_csv(tmp_path / "x.csv")
    adata = read_log2("x.csv")(tmp_path)
    np.testing.assert_array_equal(adata.X.toarray(), [[0, 2_500, 7_500], [10_000, 0, 0]])
    np.testing.assert_array_equal(adata.layers[EXPRESSION], table.T)
    assert list(adata.var_names) == ["A", "B", "C"]


def test_simulated_genes_are_named_by_their_row(tmp_path):
    pd.DataFrame(np.arange(12.0).reshape(3, 4) ** 2).to_csv(tmp_path / "x.csv")
    adata = read_continuous("x.csv", transposed=True)(tmp_path)
    assert list(adata.var_names) == ["g0", "g1", "g2"]
    np.testing.assert_array_equal(adata.layers[EXPRESSION][:, 1], [16, 25, 36, 49])
