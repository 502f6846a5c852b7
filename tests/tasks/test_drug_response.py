import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grnlab.tasks import (
    DrugResponseConfig,
    baseline_responses,
    drug_response_scores,
    fit_drug_response,
    split_responses,
)


@pytest.fixture(scope="module")
def table():
    """Responses that are a mean of the drug, linear in its features, and products of features of line and drug."""
    rng = np.random.default_rng(0)
    lines = pd.DataFrame(rng.normal(size=(60, 5)), index=[f"line{n}" for n in range(60)])
    drugs = pd.DataFrame(rng.normal(size=(20, 4)), index=[f"drug{n}" for n in range(20)])
    values = 3 * drugs.to_numpy() @ np.ones(4) + lines.to_numpy() @ rng.normal(size=(5, 4)) @ drugs.to_numpy().T
    values += 0.2 * rng.normal(size=values.shape)
    responses = pd.DataFrame(values, lines.index, drugs.index)
    return responses.mask(rng.random(values.shape) < 0.1), lines, drugs


def run(table, hold_out, **options):
    responses, lines, drugs = table
    test = split_responses(responses, hold_out=hold_out, seed=1)
    fitted = fit_drug_response(responses.mask(test), lines, drugs, config=DrugResponseConfig(**options))
    return drug_response_scores(responses.where(test), fitted.predict(lines, drugs)), test


@pytest.mark.parametrize("hold_out", ["pairs", "drugs", "cell_lines"])
def test_a_linear_head_finds_a_bilinear_truth_wherever_it_is_tested(table, hold_out):
    scores, _ = run(table, hold_out)
    assert scores["pearson"] > 0.9
    assert scores["per_drug_pearson"] > 0.8


@pytest.mark.parametrize(("head", "hold_out"), [("per_drug", "pairs"), ("per_drug", "cell_lines"), ("mlp", "pairs")])
def test_other_heads_beat_the_mean_of_the_drug(table, head, hold_out):
    scores, test = run(table, hold_out, head=head)
    responses = table[0]
    means = drug_response_scores(responses.where(test), baseline_responses(responses.mask(test), "drug_mean"))
    assert scores["rmse"] < 0.7 * means["rmse"]
    assert means["per_drug_pearson"] == 0


def test_held_out_responses_do_not_reach_the_fit(table):
    responses, lines, drugs = table
    test = split_responses(responses, hold_out="drugs", seed=3)
    other = responses.mask(test, 1e6)
    one, two = (fit_drug_response(values.mask(test), lines, drugs) for values in (responses, other))
    pd.testing.assert_frame_equal(one.predict(lines, drugs), two.predict(lines, drugs))


def test_rows_and_columns_may_come_in_any_order(table):
    responses, lines, drugs = table
    rng = np.random.default_rng(0)
    one = fit_drug_response(responses, lines, drugs).predict(lines, drugs)
    rows, columns = rng.permutation(lines.index), rng.permutation(drugs.index)
    mixed = fit_drug_response(responses, lines.loc[rows], drugs.loc[columns]).predict(
        lines.loc[rows], drugs.loc[columns]
    )
    pd.testing.assert_frame_equal(mixed.loc[one.index, one.columns], one, atol=1e-3)
    assert fit_drug_response(responses, lines, drugs).predict(lines).columns.equals(responses.columns)


def test_means_alone(table):
    responses = pd.DataFrame([[1.0, 3.0], [2.0, np.nan], [np.nan, np.nan]], columns=["a", "b"])
    np.testing.assert_allclose(baseline_responses(responses, "mean"), 2)
    np.testing.assert_allclose(baseline_responses(responses, "drug_mean"), [[1.5, 3], [1.5, 3], [1.5, 3]])
    np.testing.assert_allclose(baseline_responses(responses, "additive"), [[1.25, 2.75], [2, 3.5], [1.5, 3]])
    with pytest.raises(ValueError, match="kind='median'"):
        baseline_responses(responses, "median")


def test_a_perfect_prediction_and_a_constant_one(table):
    responses = table[0]
    perfect = drug_response_scores(responses, responses.fillna(0))
    assert perfect["pearson"] == pytest.approx(1)
    assert perfect["per_drug_pearson"] == pytest.approx(1)
    assert perfect["rmse"] == 0
    assert perfect["n_drugs"] == 20
    constant = drug_response_scores(responses, responses * 0 + 1)
    assert np.isnan(constant["pearson"])


def test_bad_input_is_told(table):
    responses, lines, drugs = table
    for arguments, message in (
        ((responses * np.nan, lines, drugs), "no value to train on"),
        ((responses, lines.iloc[1:], drugs), r"cell_features lacks 1 of 60 rows: \['line0'\]"),
        ((responses, lines, drugs.iloc[1:]), r"drug_features lacks 1 of 20 rows: \['drug0'\]"),
        ((responses, lines, None), "needs drug_features"),
        ((responses, lines.mask(lines > 2), drugs), "NaN or infinite"),
        ((responses, pd.concat([lines, lines]), drugs), "more than once"),
        ((responses, lines.to_numpy(), drugs), "must be a data frame"),
        ((responses.replace(responses.iloc[0, 1], np.inf), lines, drugs), "responses holds infinite values"),
        ((responses.astype(str).replace("nan", "<1"), lines, drugs), "responses must hold numbers"),
        ((pd.concat([responses, responses]), lines, drugs), r"responses names lines more than once: \['line0'"),
        ((pd.concat([responses] * 2, axis=1), lines, drugs), r"responses names drugs more than once: \['drug0'"),
        ((responses, lines.set_axis([0, 1, 2, 2, 3], axis=1), drugs), r"cell_features has the columns \[2\] more"),
        ((responses, lines.assign(tissue="blood"), drugs), r"columns without numbers, \['tissue'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_drug_response(*arguments)
    fitted = fit_drug_response(responses, lines, config=DrugResponseConfig(head="per_drug"))
    with pytest.raises(ValueError, match="was not trained on the drugs"):
        fitted.predict(lines, drugs.rename({"drug0": "new"}))
    with pytest.raises(ValueError, match="columns of training"):
        fitted.predict(lines[[0, 1]])
    for options, message in (({"head": "forest"}, "head='forest'"), ({"alpha": 0.0}, "alpha=0.0")):
        with pytest.raises(ValueError, match=message):
            DrugResponseConfig(**options)
    with pytest.raises(ValueError, match="hold_out='lines'"):
        split_responses(responses, hold_out="lines")
    with pytest.raises(ValueError, match="leaves nothing"):
        split_responses(responses, fraction=1e-6)
    for fraction in (0.0, -0.2, 1.0, np.nan):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            split_responses(responses, fraction=fraction)


@pytest.mark.parametrize("head", ["ridge", "mlp"])
def test_features_of_what_is_held_out_do_not_reach_the_fit(table, head):
    responses, lines, drugs = table
    known, config = responses.iloc[:50, :15].reindex_like(responses), DrugResponseConfig(head=head)
    moved_lines, moved_drugs = lines.copy(), drugs.copy()
    moved_lines.iloc[50:], moved_drugs.iloc[15:] = 99.0, -99.0
    one, other = (
        fit_drug_response(known, *features, config=config).predict(lines, drugs)
        for features in ((lines, drugs), (moved_lines, moved_drugs))
    )
    pd.testing.assert_frame_equal(one, other)


@given(st.integers(3, 12), st.integers(3, 12), st.sampled_from(["pairs", "drugs", "cell_lines"]), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_splits_hold_out_known_responses_and_whole_drugs_or_lines(n_lines, n_drugs, hold_out, seed):
    rng = np.random.default_rng(seed)
    responses = pd.DataFrame(rng.normal(size=(n_lines, n_drugs))).mask(rng.random((n_lines, n_drugs)) < 0.2)
    try:
        test = split_responses(responses, hold_out=hold_out, fraction=0.4, seed=seed)
    except ValueError:
        return
    assert not (test & responses.isna()).to_numpy().any()
    if hold_out != "pairs":
        train = responses.notna() & ~test
        axis = 0 if hold_out == "drugs" else 1
        assert not (test.any(axis=axis) & train.any(axis=axis)).any()
