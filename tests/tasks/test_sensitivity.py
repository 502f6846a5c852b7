import anndata as ad
import numpy as np
import pandas as pd
import pytest

from grnlab.tasks import label_sensitivity, sensitivity_scores

LINES = np.repeat(["A", "B", "C", "D"], 30)
SENSITIVE = np.isin(LINES, ["A", "B"])


def features(*, of_line, of_label, seed=0):
    """Noise, what each line is, and what sensitive cells share."""
    rng = np.random.default_rng(seed)
    places = pd.factorize(LINES)[0]
    return rng.normal(size=(len(LINES), 12)) + of_line * np.eye(4, 12)[places] + of_label * SENSITIVE[:, None]


def test_what_lines_share_is_found_on_lines_never_seen():
    found = sensitivity_scores(features(of_line=0, of_label=2), SENSITIVE, LINES)
    assert found["auroc"] > 0.95
    assert found["n_tests"] == 4


def test_knowing_lines_helps_within_lines_and_not_beyond_them():
    known = features(of_line=8, of_label=0)
    assert sensitivity_scores(known, SENSITIVE, LINES, hold_out="cells")["auroc"] > 0.95
    assert sensitivity_scores(known, SENSITIVE, LINES, hold_out="cell_lines")["auroc"] < 0.75


def test_few_shots_learn_less():
    some = features(of_line=0, of_label=0.3)
    few, all_ = (
        np.mean([sensitivity_scores(some, SENSITIVE, LINES, hold_out="cells", share=share, seed=s)["auroc"]
                 for s in range(5)]) for share in (0.07, 1.0)
    )  # fmt: skip
    assert few < all_


def test_labels_come_from_the_median_of_all_lines():
    adata = ad.AnnData(np.ones((4, 1)), obs=pd.DataFrame({"line": ["A", "B", "C", "Z"]}, index=list("wxyz")))
    responses = pd.DataFrame({"drug": [1.0, 4.0, np.nan, 2.0, 3.0]}, index=["A", "B", "C", "D", "E"])
    label_sensitivity(adata, responses, drug="drug", line="line", key="drug")
    assert adata.obs["drug"].astype(object).where(adata.obs["drug"].notna(), None).tolist() == [
        *("sensitive", "resistant", None, None),
    ]


def test_bad_input_is_told():
    adata = ad.AnnData(np.ones((1, 1)), obs=pd.DataFrame({"line": ["Z"]}, index=["x"]))
    responses = pd.DataFrame({"drug": [1.0]}, index=["A"])
    for arguments, message in (
        ({"drug": "other", "line": "line"}, "drug='other' is no column"),
        ({"drug": "drug", "line": "lines"}, "line='lines' is not a column"),
        ({"drug": "drug", "line": "line"}, r"none of the lines \['Z'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            label_sensitivity(adata, responses, **arguments)
    values = features(of_line=0, of_label=1)
    with pytest.raises(ValueError, match="hold_out='drugs'"):
        sensitivity_scores(values, SENSITIVE, LINES, hold_out="drugs")
    with pytest.raises(ValueError, match="needs 2 lines"):
        sensitivity_scores(values, LINES == "A", LINES)
    with pytest.raises(ValueError, match="sensitive has dtype <U9"):
        sensitivity_scores(values, np.where(SENSITIVE, "sensitive", "resistant"), LINES)
    with pytest.raises(ValueError, match=r"differs among the cells of the lines \['A'"):
        sensitivity_scores(values, np.arange(len(LINES)) % 2 == 0, LINES)
    adata = ad.AnnData(np.ones((1, 1)), obs=pd.DataFrame({"line": ["A"]}, index=["x"]))
    with pytest.raises(ValueError, match="key='line' would overwrite the names of the lines"):
        label_sensitivity(adata, responses, drug="drug", line="line", key="line")
    with pytest.raises(ValueError, match=r"names lines more than once: \['A'\]"):
        label_sensitivity(adata, pd.concat([responses] * 2), drug="drug", line="line")
    assert adata.obs["line"].tolist() == ["A"]


def test_tables_and_series_are_taken_as_arrays_are():
    values = features(of_line=0, of_label=1)
    names = [f"cell{number}" for number in range(len(LINES))]
    series = pd.DataFrame(values, index=names), pd.Series(SENSITIVE, index=names), pd.Series(LINES, index=names)
    assert sensitivity_scores(*series) == sensitivity_scores(values, SENSITIVE, LINES)
