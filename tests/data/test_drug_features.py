import numpy as np
import pandas as pd
import pytest

from grnlab.data import check_features, fingerprints

TABLE = pd.DataFrame({"kinase": [1, 0, 0], "weight": [0.5, 0.1, 2.0]}, index=["imatinib", "aspirin", "insulin"])


def test_rows_come_in_the_order_asked_for():
    found = check_features(TABLE, drugs=["insulin", "imatinib"])
    assert found.index.tolist() == ["insulin", "imatinib"]
    assert found.to_numpy().dtype == np.float32
    assert found["weight"].tolist() == [2.0, 0.5]


def test_drugs_without_features_are_named_with_the_mend():
    with pytest.raises(ValueError, match=r"2 drugs have no features: \['x', 'y'\].*leave their signatures out"):
        check_features(TABLE, drugs=["x", "aspirin", "y"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.concat([TABLE, TABLE]), "drugs .* more than once"),
        (pd.concat([TABLE, TABLE], axis=1), "features .* more than once"),
        (TABLE.assign(name="a"), "no number"),
        (TABLE.assign(weight=[1.0, np.nan, 2.0]), "NaN or infinite values, the first of drug 'aspirin'"),
    ],
)
def test_what_is_wrong_with_a_table(table, message):
    with pytest.raises(ValueError, match=message):
        check_features(table)


def test_fingerprints_of_the_largest_part():
    pytest.importorskip("rdkit")
    found = fingerprints({"salt": "CC(=O)Oc1ccccc1C(=O)[O-].[Na+]", "free": "CC(=O)Oc1ccccc1C(=O)[O-]", "other": "CCO"})
    assert found.shape == (3, 1024)
    assert found.loc["salt"].equals(found.loc["free"].rename("salt"))
    assert 0 < found.loc["other"].sum() < found.loc["free"].sum()
    assert set(np.unique(found)) == {0.0, 1.0}
    for text in ("not a structure", "", None):
        with pytest.raises(ValueError, match=r"smiles of drug 'x' is .* no structure"):
            fingerprints({"x": text})


def test_fingerprints_of_like_drugs_are_alike():
    pytest.importorskip("rdkit")
    names = {"aspirin": "CC(=O)OC1=CC=CC=C1C(=O)O", "salicylic acid": "O=C(O)C1=CC=CC=C1O", "ethanol": "CCO"}
    bits = fingerprints(names)

    def tanimoto(one, other):
        both = (bits.loc[one] * bits.loc[other]).sum()
        return both / (bits.loc[one].sum() + bits.loc[other].sum() - both)

    assert tanimoto("aspirin", "salicylic acid") > tanimoto("aspirin", "ethanol")


def test_without_rdkit_the_pip_line_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rdkit.Chem", None)
    with pytest.raises(ImportError, match=r"grnlab\[drugs\]"):
        fingerprints({"ethanol": "CCO"})
