import pytest

from grnlab.benchmark import DATASETS, FAST, METHODS, choose, outside


def test_defaults_are_every_data_set_and_the_fast_methods():
    config = choose()
    assert config.datasets == tuple(DATASETS.values())
    assert [method.name for method in config.methods] == list(FAST)
    assert not any(method.slow for method in config.methods)


def test_all_methods_and_no_method_twice():
    assert [method.name for method in choose((), ["all"]).methods] == list(METHODS)
    assert [method.name for method in choose((), ["pearson", "random", "pearson"]).methods] == ["pearson", "random"]


@pytest.mark.parametrize(
    ("datasets", "methods", "option"), [(["pbmc"], [], "--datasets"), ([], ["pearsn"], "--methods")]
)
def test_unknown_names_are_told_with_the_known_ones(datasets, methods, option):
    with pytest.raises(ValueError, match=f"{option}.*unknown") as error:
        choose(datasets, methods)
    known = DATASETS if datasets else METHODS
    assert all(name in str(error.value) for name in known)
    assert "Did you mean" in str(error.value)


def test_quick_is_two_cell_types_and_two_gold_standards():
    config = choose(quick=True)
    (dataset,) = config.datasets
    assert len(dataset.groups) == len(dataset.golds) == 2
    assert not dataset.pooled
    assert config.n_genes == 1_000
    assert choose(["hesc_liu"], quick=True, n_genes=77).n_genes == 77


def test_gold_standards_can_be_chosen():
    config = choose(golds=["trrust", "hesc_kd"])
    assert {one.name: one.golds for one in config.datasets} == {
        **dict.fromkeys(("pbmc3k", "kang_control", "kang_stimulated"), ("trrust",)),
        **dict.fromkeys(("hesc_liu", "hesc_chen"), ("hesc_kd",)),
    }
    with pytest.raises(ValueError, match="--golds: 'trust' is unknown"):
        choose(golds=["trust"])
    with pytest.raises(ValueError, match="judge none"):
        choose(["hesc_liu"], golds=["trrust"])


def test_a_case_from_outside(own_case, tmp_path):
    dataset, golds = own_case
    assert (dataset.name, dataset.golds, dataset.groupby) == ("cells", ("edges",), "cell_type")
    assert dataset.read(tmp_path / "elsewhere").n_obs == 40
    assert golds["edges"].read(tmp_path / "elsewhere").name == "edges"


def test_outside_needs_a_gold_standard_and_distinct_names(tmp_path):
    with pytest.raises(ValueError, match="--gold"):
        outside(tmp_path / "cells.h5ad", [])
    with pytest.raises(ValueError, match="'edges'"):
        outside(tmp_path / "cells.h5ad", [tmp_path / "edges.tsv", tmp_path / "other" / "edges.csv"])


def test_a_malformed_case_from_outside_is_told_at_once(own_case, tmp_path):
    (tmp_path / "bad.csv").write_text("x,y,z,w\n1,2,3,4\n")
    with pytest.raises(ValueError, match=r"bad\.csv cannot be read as a gold standard"):
        outside(tmp_path / "cells.h5ad", [tmp_path / "bad.csv"])
    with pytest.raises(FileNotFoundError, match="--h5ad"):
        outside(tmp_path / "none.h5ad", [tmp_path / "edges.tsv"])
