import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from grnlab.evaluate import GoldStandard, candidate_universe, rank_enrichment, target_enrichment

GENES = [f"g{number}" for number in range(40)]


@pytest.fixture
def strength():
    return pd.Series(np.arange(40.0), index=GENES)


def test_rank_enrichment_is_the_auroc_of_the_members(strength):
    sets = {"high": GENES[-8:], "low": GENES[:8], "spread": GENES[::5], "small": GENES[:3]}
    table = rank_enrichment(strength, sets).set_index("set")
    assert list(table.index) == ["high", "spread", "low"]
    for name, row in table.iterrows():
        inside = strength.index.isin(sets[name])
        assert row["auroc"] == pytest.approx(roc_auc_score(inside, strength))
        assert row["size"] == inside.sum()
    assert table.loc["high", "padj"] < 0.01 < 0.9 < table.loc["low", "padj"]


def test_padj_grows_with_the_number_of_sets(strength):
    one = rank_enrichment(strength, {"high": GENES[-8:]})
    many = rank_enrichment(strength, {"high": GENES[-8:]} | {f"low{i}": GENES[i : i + 8] for i in range(9)})
    assert many["padj"][0] == pytest.approx(10 * one["padj"][0])


def test_nothing_to_test(strength):
    assert list(rank_enrichment(strength, {"small": ["g1"]}).columns) == ["set", "size", "auroc", "pvalue", "padj"]
    with pytest.raises(ValueError, match="one number per gene"):
        rank_enrichment(strength.replace(3.0, np.nan), {"high": GENES[-8:]})


def test_targets_of_each_regulator():
    edges = [("g0", gene) for gene in GENES[10:20]] + [("g1", gene) for gene in GENES[20:30]] + [("g2", "g5")]
    gold = GoldStandard.from_frame(pd.DataFrame(edges, columns=["source", "target"]), name="toy")
    universe = candidate_universe(gold, GENES, targets="all")
    score = np.zeros(universe.truth_RT.shape)
    score[0, 10:20] = 1.0  # all targets of g0; nothing about those of g1
    table = target_enrichment(universe, score).set_index("set")
    assert table.loc["g0", "padj"] < 1e-6
    assert table.loc["g1", "auroc"] == 0.5
    assert "g2" not in table.index
