import numpy as np
import pandas as pd
import pytest

from grnlab.network import GeneNetwork
from grnlab.network.tables import check_edges, check_genes, check_known, edge_positions, nearest_names

GENES = check_genes(pd.DataFrame(index=["A", "B", "C"]))


def edges(*rows, **columns):
    return pd.DataFrame(list(rows), columns=["source", "target", "weight"]).assign(**columns)


def test_edges_are_ordered_by_weight_then_names():
    table = check_edges(edges(("C", "A", 1.0), ("B", "C", 2.0), ("A", "C", 1.0), ("A", "B", 1.0)), GENES)
    assert list(zip(table["source"], table["target"], strict=True)) == [("B", "C"), ("A", "B"), ("A", "C"), ("C", "A")]
    assert list(table.index) == [0, 1, 2, 3]


def test_ties_follow_the_names_not_the_gene_table():
    genes = check_genes(pd.DataFrame(index=["C", "A", "B"]))
    table = check_edges(edges(("C", "A", 1.0), ("A", "C", 1.0)), genes)
    assert table["source"].tolist() == ["A", "C"]


def test_input_is_not_touched():
    given = edges(("A", "B", 1), ("B", "C", 2))
    before = given.copy()
    check_edges(given, GENES)
    pd.testing.assert_frame_equal(given, before)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("A", "B", 1.0), ("A", "A", 1.0)], "row 1 .*self loop"),
        ([("A", "B", 1.0), ("B", "A", 1.0), ("A", "B", 2.0)], "row 2 .*repeats"),
        ([("A", "B", float("nan"))], "row 0 .*not finite"),
        ([("A", "B", float("inf"))], "row 0 .*not finite"),
        ([("A", "B", 1.0), ("A", "X", 1.0)], "row 1: target 'X' is not in"),
        ([(1, "B", 1.0)], "row 0: source 1 is not in"),
        ([(None, "B", 1.0)], "row 0: source None is not in"),
    ],
)
def test_bad_rows_are_named(rows, words):
    with pytest.raises(ValueError, match=words):
        check_edges(edges(*rows), GENES)


def test_bad_columns_are_named():
    with pytest.raises(ValueError, match=r"lacks the column.* weight"):
        check_edges(pd.DataFrame({"source": ["A"], "target": ["B"]}), GENES)
    with pytest.raises(ValueError, match=r"edges\['weight'\] must hold float"):
        check_edges(edges(("A", "B", "much")), GENES)
    with pytest.raises(ValueError, match="sign other than"):
        check_edges(edges(("A", "B", 1.0), sign=[2]), GENES)
    with pytest.raises(ValueError, match=r"edges\['sign'\].*missing"):
        check_edges(edges(("A", "B", 1.0), ("B", "A", 1.0), sign=[1, np.nan]), GENES)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        check_edges(edges(("A", "B", 1.0), padj=[1.5]), GENES)
    with pytest.raises(ValueError, match="must be a DataFrame"):
        check_edges([("A", "B", 1.0)], GENES)


def test_columns_become_plain_types():
    table = check_edges(
        edges(("A", "B", np.float32(0.5)), sign=[1.0], padj=[np.nan], note=pd.Categorical(["x"])), GENES
    )
    assert [str(kind) for kind in table.dtypes] == ["object", "object", "float64", "int64", "float64", "object"]
    genes = check_genes(pd.DataFrame({"is_tf": pd.array([True], dtype="boolean"), "ensembl_id": [np.nan]}, index=["A"]))
    assert genes["is_tf"].dtype == bool
    assert genes["ensembl_id"].tolist() == [None]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pd.DataFrame(index=["A", "A"]), "'A' more than once"),
        (pd.DataFrame(index=[0, 1]), "row 0 has 0"),
        (pd.DataFrame(index=["A", None]), "row 1 has None"),
        (pd.DataFrame(index=["A", ""]), "row 1; names must be non-empty"),
        (pd.DataFrame(index=["A", "\ud800"]), "row 1; names must be"),
        (pd.DataFrame({"gene": ["x"]}, index=["A"]), "column 'gene'"),
        (pd.DataFrame({"is_tf": [1.5]}, index=["A"]), r"genes\['is_tf'\] must hold bool"),
        (pd.DataFrame({"is_tf": [True, None]}, index=["A", "B"]), "1 missing"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"], index=["A"]), "unique text as column names"),
        ({"A": 1}, "got dict"),
    ],
)
def test_bad_gene_tables_are_refused(table, words):
    with pytest.raises(ValueError, match=words):
        check_genes(table)


def test_rules_hold_through_the_constructor():
    with pytest.raises(ValueError, match="name must be"):
        GeneNetwork(edges(("A", "B", 1.0)), GENES, name=" ")
    with pytest.raises(ValueError, match="provenance must hold"):
        GeneNetwork(edges(("A", "B", 1.0)), GENES, name="x", provenance={"a": object()})
    with pytest.raises(ValueError, match="provenance must hold"):
        GeneNetwork(edges(("A", "B", 1.0)), GENES, name="x", provenance={"a": float("nan")})
    with pytest.raises(ValueError, match="swap source and target"):
        GeneNetwork(edges(("A", "B", 1.0)), GENES, name="x", provenance={"direction": "source=target"})


def test_edge_positions_point_into_the_gene_table():
    source, target = edge_positions(check_edges(edges(("C", "A", 1.0), ("B", "C", 2.0)), GENES), GENES)
    assert source.tolist() == [1, 2]
    assert target.tolist() == [2, 0]


def test_unknown_genes_are_named_with_their_nearest():
    known = pd.Index(["GATA1", "GATA2", "HBB"])
    with pytest.raises(ValueError, match=r"'gata-1' is not in here, which has 3 genes. Nearest names: GATA1"):
        check_known(["gata-1"], known, argument="gene", where="here")
    with pytest.raises(ValueError, match="2 of the 3 genes"):
        check_known(["HBB", "x", "y"], known, argument="genes", where="here")
    with pytest.raises(ValueError, match="got the text 'HBB'"):
        check_known("HBB", known, argument="genes", where="here")
    assert check_known(["HBB", "GATA1", "HBB"], known, argument="genes", where="here") == ["HBB", "GATA1"]
    assert nearest_names("zzzz", known) == []
