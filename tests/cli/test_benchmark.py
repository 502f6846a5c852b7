import pandas as pd
import pytest

from grnlab.benchmark import DATASETS, METHODS


@pytest.fixture
def place(tmp_path, monkeypatch, make_cells):
    """Working folder with cells.h5ad and edges.tsv."""
    monkeypatch.chdir(tmp_path)
    make_cells(n_each=20).write_h5ad("cells.h5ad")
    pairs = [(f"TF{i % 10}", f"GENE{i % 47}") for i in range(200)]
    pd.DataFrame(pairs, columns=["TF", "target"]).to_csv("edges.tsv", sep="\t", index=False)
    return tmp_path


@pytest.fixture
def benchmark(grnlab, checkpoint):
    """Run ``grnlab benchmark`` with a small untrained model."""

    def run(*arguments):
        return grnlab("benchmark", "--model", checkpoint, *arguments)

    return run


def test_cells_and_edges_from_outside(place, benchmark):
    own = ("--h5ad", "cells.h5ad", "--groupby", "cell_type", "--gold", "edges.tsv", "--min-cells", 10)
    status, out, _ = benchmark("--out", "mine", *own, "--methods", "attention", "pearson", "random")
    assert status == 0
    assert "attention" in out
    table = pd.read_csv(place / "mine/summary.csv")
    assert sorted(table["method"]) == ["attention", "pearson", "random"]
    assert set(table["n_cases"]) == {3}  # two cell types and all cells


def test_lists_what_there_is(benchmark):
    status, out, _ = benchmark("--list")
    assert status == 0
    assert all(name in out for name in (*DATASETS, *METHODS))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "x", "--data", ".", "--methods", "pearsn"], "'pearson'"),
        (["--out", "x", "--data", ".", "--datasets", "pbmc"], "pbmc3k"),
        (["--data", "."], "--out"),
        (["--out", "x"], "--h5ad"),
        (["--out", "x", "--h5ad", "cells.h5ad"], "--gold"),
        (["--out", "x", "--data", ".", "--gold", "edges.tsv"], "--h5ad"),
        (["--out", "x", "--quick", "--h5ad", "cells.h5ad", "--gold", "edges.tsv"], "--data"),
        (["--out", "x", "--h5ad", "nothing.h5ad", "--gold", "edges.tsv"], "nothing.h5ad"),
        (["--out", "x", "--data", "nowhere", "--datasets", "pbmc3k"], "pbmc3k.h5ad"),
    ],
)
def test_bad_input_is_told(place, benchmark, arguments, said):
    status, _, error = benchmark(*arguments)
    assert status == 2
    assert said in error
    assert "Traceback" not in error
