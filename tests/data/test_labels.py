import numpy as np
import pandas as pd
import pytest

from grnlab.data.labels import Label, encode


def codes(label, *tables):
    return encode([label.read(pd.DataFrame(table)) for table in tables], label.classes)


def test_classes_are_collected_sorted_without_the_unknown():
    found, classes = codes(Label("x"), {"x": ["T", "unknown", "B"]}, {"x": ["NA", None, "NK", "B"]})
    assert classes == ("B", "NK", "T")
    assert found.tolist() == [2, -1, 0, -1, -1, 1, 0]
    assert found.dtype == np.int32


def test_given_classes_set_the_codes_and_strangers_are_counted(caplog):
    found, classes = codes(Label("x", classes=["T", "B", "never"]), {"x": ["B", "NK", "T", "NK", "unknown"]})
    assert classes == ("T", "B", "never")
    assert found.tolist() == [1, -1, 0, -1, -1]
    assert "2 cells are of no known class and count as unknown: 'NK' (2)" in caplog.text


@pytest.mark.parametrize("names", [{"CD19+ B": "B"}, {"CD19+ B": "B", "T": "T"}.get])
def test_spellings_are_translated(names):
    found, classes = codes(Label("x", names=names), {"x": pd.Categorical(["CD19+ B", "T"])})
    assert classes == ("B", "T")
    assert found.tolist() == [0, 1]


def test_a_class_may_be_called_unknown_when_it_is_listed():
    assert codes(Label("x", classes=["unknown", "T"]), {"x": ["T", "unknown"]})[0].tolist() == [1, 0]


def test_unused_categories_make_no_class():
    table = pd.DataFrame({"x": pd.Categorical(["a", "b"], categories=["a", "b", "c"])})
    assert codes(Label("x"), table)[1] == ("a", "b")
    assert codes(Label("x"), table.iloc[:1])[1] == ("a",)


def test_numbers_are_labels_too():
    found, classes = codes(Label("x"), {"x": [3, 1, 3]})
    assert classes == ("1", "3")
    assert found.tolist() == [1, 0, 1]


def test_a_missing_column():
    with pytest.raises(ValueError, match=r"obs has no column 'x'"):
        codes(Label("x"), {"y": [1]})
    assert codes(Label("x", required=False), {"y": [1, 2]}, {"x": ["a"]})[0].tolist() == [-1, -1, 0]
