import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from grnlab.viz import enrichment_dots, head_atlas, precision_recall

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def test_head_atlas_shows_layers_upwards_and_heads_across():
    scores = np.arange(6.0).reshape(2, 3)
    ax = head_atlas(scores, label="AUPRC ratio")
    assert np.array_equal(ax.images[0].get_array(), scores)
    assert ax.images[0].origin == "lower"
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2", "3", "4", "5"]
    assert ax.figure.axes[1].get_ylabel() == "AUPRC ratio"
    assert np.array_equal(head_atlas(torch.tensor(scores)).images[0].get_array(), scores)


def test_head_atlas_of_a_table_puts_every_head_at_its_place():
    table = pd.DataFrame({"layer": [1, 0, 1], "head": [0, 2, 1], "auprc_ratio": [3.0, 1.5, np.nan]})
    shown = head_atlas(table, by="auprc_ratio").images[0].get_array()
    assert shown.filled(-1).tolist() == [[-1, -1, 1.5], [3.0, -1, -1]]


def test_head_atlas_parts_colours_at_chance():
    low, high = head_atlas([[0.5, 2.0]], chance=1.0).images[0].get_clim()
    assert (low, high) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0, 2.0],), r"shape \(n_layers, n_heads\), got shape \(2,\)"),
        (([[np.nan]],), "no finite number"),
        ((pd.DataFrame({"layer": [0], "head": [0]}),), "no column None"),
    ],
)
def test_head_atlas_names_bad_scores(arguments, words):
    with pytest.raises(ValueError, match=words):
        head_atlas(*arguments)


def test_head_atlas_refuses_a_head_twice():
    with pytest.raises(ValueError, match="a head twice"):
        head_atlas(pd.DataFrame({"layer": [0, 0], "head": [0, 0], "s": [1.0, 2.0]}), by="s")


def test_precision_recall_draws_each_score_and_the_base_rate():
    generator = np.random.default_rng(0)
    truth = generator.random(500) < 0.2
    scores = {"weak": truth + 2 * generator.normal(size=500), "strong": truth + generator.normal(size=500)}
    ax = precision_recall(truth, scores)
    areas = {name: average_precision_score(truth, values) for name, values in scores.items()}
    labels = [f"{name} ({areas[name]:.2f})" for name in ("strong", "weak")]
    assert [line.get_label() for line in ax.lines] == [*labels, f"base rate ({truth.mean():.2f})"]
    assert set(ax.lines[2].get_ydata()) == {truth.mean()}
    order = np.argsort(-scores["strong"])
    hits = np.cumsum(truth[order])
    recall, precision = ax.lines[0].get_data()
    for n in (50, 200, 500):  # the first n candidates
        there = np.isclose(recall, hits[n - 1] / hits[-1]) & np.isclose(precision, hits[n - 1] / n)
        assert there.any()
    assert precision[0] == pytest.approx(truth.mean())


def test_precision_recall_takes_infinities_and_refuses_nan():
    truth = np.array([True, False, True, False])
    perfect = precision_recall(truth, {"a": np.array([np.inf, -np.inf, 1.0, 0.0])})
    assert perfect.lines[0].get_ydata()[-1] == 1.0
    with pytest.raises(ValueError, match="NaN"):
        precision_recall(truth, {"a": np.array([np.nan, 0, 1, 2])})
    with pytest.raises(ValueError, match="scores is empty"):
        precision_recall(truth, {})


def enrichment_table():
    return pd.DataFrame(
        {
            "group": [0, 0, 1, 1, 1],
            "term": ["B cell", "T cell", "T cell", "$NK^{", "rare"],
            "overlap": [8, 2, 4, 3, 1],
            "padj": [1e-6, 0.01, 1e-4, 1e-3, 0.2],
        }
    )


def test_enrichment_dots_stand_for_the_rows():
    ax = enrichment_dots(enrichment_table())
    terms = [label.get_text() for label in ax.get_yticklabels()]
    assert terms == ["$NK^{", "T cell", "B cell"], "0 on top, by significance"
    dots = ax.collections[0]
    at = {(int(x), terms[int(y)]): place for place, (x, y) in enumerate(dots.get_offsets())}
    assert set(at) == {(0, "B cell"), (0, "T cell"), (1, "T cell"), (1, "$NK^{")}
    area, colour = dots.get_sizes(), dots.get_array()
    assert area[at[0, "B cell"]] / area[at[0, "T cell"]] == pytest.approx(4)
    assert colour[at[1, "T cell"]] == pytest.approx(4)
    ax.figure.canvas.draw()


def test_enrichment_dots_pick_the_first_sets_of_every_group():
    ax = enrichment_dots(enrichment_table(), n_top=1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["T cell", "B cell"]
    assert len(ax.collections[0].get_offsets()) == 3, "T cell of both groups"


def test_enrichment_dots_name_what_is_missing():
    with pytest.raises(ValueError, match="no column 'padj'"):
        enrichment_dots(enrichment_table().drop(columns="padj"))
    with pytest.raises(ValueError, match=r"max_padj=1e-09; the lowest is 1e-06"):
        enrichment_dots(enrichment_table(), max_padj=1e-9)
