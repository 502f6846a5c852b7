import numpy as np
import pandas as pd
import pytest

from grnlab.network import GeneNetwork, bootstrap

NAMES = np.array(["A", "B", "C", "D"], dtype=object)
SOURCE, TARGET = np.nonzero(~np.eye(4, dtype=bool))


def strongest(cells):
    def infer(rows):
        weight = np.abs(np.corrcoef(cells[rows].T))[SOURCE, TARGET]
        edges = pd.DataFrame({"source": NAMES[SOURCE], "target": NAMES[TARGET], "weight": weight})
        return GeneNetwork(edges, pd.DataFrame(index=NAMES), name="cells").top(1, per="target")

    return infer


def test_sure_and_unsure_edges():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(60, 4))
    cells[:, 1] += 3 * cells[:, 0]  # A and B belong together; C and D belong to nobody
    found = bootstrap(strongest(cells), 60, n_bootstraps=60)
    assert found.name == "cells"
    confidence = {(s, t): c for s, t, c in found.edges[["source", "target", "confidence"]].itertuples(index=False)}
    assert confidence["A", "B"] == confidence["B", "A"] == 1
    assert all(c < 0.9 for (_, t), c in confidence.items() if t in "CD")
    assert set(found.threshold(0.95, column="confidence").edges["target"]) == {"A", "B"}
    assert found.edges["weight"].equals(strongest(cells)(np.arange(60)).edges["weight"])


def test_confidence_is_the_share_of_samples():
    # an edge whose presence is decided by one cell: drawn with probability 1 - (1 - 1/n)^n
    def infer(rows):
        edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "C"], "weight": [2.0, 1.0]})
        return GeneNetwork.from_edges(edges if 0 in rows else edges.head(1), ["A", "B", "C"], name="x")

    found = bootstrap(infer, 20, n_bootstraps=2_000).edges
    expected = 1 - (1 - 1 / 20) ** 20
    assert found["confidence"].tolist() == pytest.approx([1.0, expected], abs=0.04)
    assert found["weight_mean"].iloc[1] == pytest.approx(found["confidence"].iloc[1])
    assert found["weight_sd"].tolist() == pytest.approx([0.0, np.sqrt(expected * (1 - expected))], abs=0.02)


def test_standard_deviation_of_a_mean():
    values = np.random.default_rng(0).normal(10, 2, size=100)

    def infer(rows):
        edges = pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [values[rows].mean()]})
        return GeneNetwork.from_edges(edges, name="x")

    found = bootstrap(infer, 100, n_bootstraps=500).edges
    assert found["weight_sd"].iloc[0] == pytest.approx(values.std() / 10, rel=0.12)


def test_units_are_drawn_whole():
    units = ["p"] * 3 + ["q"] * 2 + ["r"]
    seen = []

    def infer(rows):
        seen.append(tuple(sorted(rows.tolist())))
        return GeneNetwork.from_edges(pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [1.0]}), name="x")

    bootstrap(infer, 6, n_bootstraps=30, units=units)
    for rows in seen[1:]:
        counts = [rows.count(row) for row in range(6)]
        assert counts[0] == counts[1] == counts[2]
        assert counts[3] == counts[4]
        assert counts[0] + counts[3] + counts[5] == 3
    assert seen[0] == tuple(range(6))


def test_samples_may_lose_or_gain_genes_and_edges():
    def infer(rows):
        odd = len(set(rows.tolist())) < 10
        edges = pd.DataFrame({"source": ["Z"], "target": ["A"], "weight": [1.0]})
        full = pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [1.0]})
        return GeneNetwork.from_edges(edges if odd else full, name="x")

    assert bootstrap(infer, 10, n_bootstraps=20).edges["confidence"].iloc[0] < 0.1


def test_empty_network_and_wrong_numbers():
    def infer(rows):
        return GeneNetwork.from_edges(pd.DataFrame({"source": [], "target": [], "weight": []}), ["A"], name="x")

    assert bootstrap(infer, 5, n_bootstraps=2).edges.columns.tolist()[-3:] == ["confidence", "weight_mean", "weight_sd"]
    with pytest.raises(ValueError, match="needs 2 rows and 1 sample"):
        bootstrap(infer, 1)
    with pytest.raises(ValueError, match="units has 2 entries"):
        bootstrap(infer, 5, units=["a", "b"])
    with pytest.raises(ValueError, match="one unit only, 'a'"):
        bootstrap(infer, 2, units=["a", "a"])
