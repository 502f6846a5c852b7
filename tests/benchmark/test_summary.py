import numpy as np
import pandas as pd
import pytest

from grnlab.benchmark import compare, summarise

COLUMNS = [
    *("method", "n_cases", "auprc_ratio", "auprc_ratio_lo", "auprc_ratio_hi", "epr", "epr_lo", "epr_hi"),
    *("mean_rank", "cpu_s", "auroc", "per_tf_auroc"),
]


def cases(values, n_groups=4):
    """Method → function of (data set number, group number) → AUPRC ratio."""
    rows = [
        {"dataset": f"d{d}", "group": f"g{g}", "gold": "gold", "method": name, "auprc_ratio": value(d, g)}
        for name, value in values.items()
        for d in range(3)
        for g in range(n_groups)
    ]
    return pd.DataFrame(rows).assign(epr=lambda t: 2 * t["auprc_ratio"], cpu_s=1.5, auroc=0.6, per_tf_auroc=0.55)


def test_columns_and_means():
    table = summarise(cases({"low": lambda d, g: 1.0 + d, "high": lambda d, g: 5.0 - g}))
    assert list(table.columns) == COLUMNS
    high = table.set_index("method").loc["high"]
    assert high["auprc_ratio"] == 3.5
    assert high["epr"] == 7.0
    assert high["n_cases"] == 12
    assert high["auprc_ratio_lo"] < 3.5 < high["auprc_ratio_hi"]
    assert table["method"].tolist() == ["high", "low"]


def test_ranks_are_within_cases_and_ties_share_them():
    table = summarise(cases({"a": lambda d, g: g, "b": lambda d, g: g, "c": lambda d, g: 9.0})).set_index("method")
    assert table["mean_rank"].to_dict() == {"c": 1.0, "a": 2.5, "b": 2.5}


def test_intervals_hold_the_spread_between_data_sets():
    between = summarise(cases({"m": lambda d, g: float(d)})).iloc[0]  # alike within a data set
    within = summarise(cases({"m": lambda d, g: float(g % 3)}, n_groups=12)).iloc[0]  # alike between data sets
    width = [row["auprc_ratio_hi"] - row["auprc_ratio_lo"] for row in (between, within)]
    assert between["auprc_ratio"] == within["auprc_ratio"] == 1.0
    assert (between["auprc_ratio_lo"], between["auprc_ratio_hi"]) == pytest.approx((0, 2), abs=0.1)
    assert width[0] > 2 * width[1] > 0


def test_differences_are_paired():
    """A gain that is the same on every case has no spread, however the cases differ."""
    table = cases({"base": lambda d, g: 3.0 * d + g, "plus": lambda d, g: 3.0 * d + g + 0.5, "other": lambda d, g: 2.0})
    found = compare(table, "base").set_index("method")
    plus = found.loc["plus"]
    assert plus[["auprc_ratio_gain", "auprc_ratio_gain_lo", "auprc_ratio_gain_hi"]].tolist() == pytest.approx([0.5] * 3)
    assert plus["epr_gain"] == pytest.approx(1.0)
    assert plus["better"] == 1
    assert found.loc["other", "auprc_ratio_gain_lo"] < found.loc["other", "auprc_ratio_gain"] < 0
    assert "base" not in found.index


def test_differences_are_on_the_cases_both_have():
    table = cases({"base": lambda d, g: float(d), "m": lambda d, g: np.nan if d == 2 else 1.0})
    assert compare(table, "base")["n_cases"].tolist() == [8]
    assert compare(table, "base")["auprc_ratio_gain"].tolist() == [0.5]
    with pytest.raises(ValueError, match="'nothing' has no scores"):
        compare(table, "nothing")


def test_rows_without_scores_do_not_count_and_draws_are_seeded():
    table = cases({"m": lambda d, g: float(g), "failed": lambda d, g: np.nan})
    assert summarise(table)["method"].tolist() == ["m"]
    pd.testing.assert_frame_equal(summarise(table), summarise(table))
    assert summarise(table.assign(auprc_ratio=np.nan)).columns.tolist() == COLUMNS
