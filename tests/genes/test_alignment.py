import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grnlab.genes import GeneVocab, align
from grnlab.genes.alignment import looks_like_mouse


def vocab_of(rows, species="Homo sapiens"):
    table = pd.DataFrame(rows, columns=["symbol", "ensembl_id", "aliases"])
    return GeneVocab(table.assign(position=range(len(table)), species=species, is_tf=False))


VOCAB = vocab_of(
    [
        ("TP53", "ENSG00000141510", "P53|LFS1|SHARED"),
        ("GATA1", "ENSG00000102145", "ERYF1|SHARED"),
        ("MARCHF1", "ENSG00000145416", "MARCH1|TP53"),
        ("SPI1", "ENSG00000066336", "PU.1"),
    ]
)


def test_symbol_ensembl_and_alias_all_find_the_gene():
    found = align(["GATA1", "ENSG00000141510", "MARCH1", "PU.1"], VOCAB)
    assert found.tokens.tolist() == [0, 1, 2, 3]
    assert found.columns.tolist() == [1, 0, 2, 3]
    assert found.report.alias_used == {"MARCH1": "MARCHF1", "PU.1": "SPI1"}


@pytest.mark.parametrize(
    ("names", "winner"),
    [
        (["P53", "ENSG00000141510", "TP53"], 2),
        (["TP53", "P53", "ENSG00000141510"], 0),
        (["P53", "ENSG00000141510.4"], 1),
        (["ENSG00000141510.4", "ENSG00000141510"], 1),
        (["LFS1", "P53"], 0),
    ],
)
def test_symbol_beats_ensembl_beats_alias(names, winner):
    found = align(names, VOCAB)
    assert found.columns.tolist() == [winner]
    assert found.report.duplicated == sorted(set(names) - {names[winner]})


def test_version_suffix_is_stripped_and_reported():
    found = align(["ENSG00000141510.17", "ENSG00000102145"], VOCAB)
    assert found.tokens.tolist() == [0, 1]
    assert found.report.version_stripped == ["ENSG00000141510.17"]
    assert align(["ENSG00000141510.17_PAR_Y"], VOCAB).tokens.tolist() == [0]


def test_a_losing_name_is_not_reported_as_used():
    found = align(["TP53", "P53", "ENSG00000141510.17"], VOCAB)
    assert found.report.alias_used == {}
    assert found.report.version_stripped == []
    assert found.report.duplicated == ["ENSG00000141510.17", "P53"]


def test_an_ambiguous_alias_names_nobody():
    found = align(["SHARED", "GATA1"], VOCAB)
    assert found.tokens.tolist() == [1]
    assert found.report.missing == ["SHARED"]


def test_an_alias_that_is_a_symbol_of_another_gene_is_that_gene():
    assert align(["TP53"], VOCAB).tokens.tolist() == [0]  # also listed as an alias of MARCHF1


@pytest.mark.parametrize("name", ["TP53.1", "ENSG0000014151", "tp53", "", "ENSG00000141510x", "nan"])
def test_near_misses_are_missing(name):
    assert align([name, "GATA1"], VOCAB).report.missing == [name]


def test_repeated_names_are_refused_with_the_mend():
    with pytest.raises(ValueError, match=r"1 gene names occur more than once.*TP53.*gl\.pp\.sum_duplicate_genes"):
        align(["TP53", "GATA1", "TP53"], VOCAB)


def test_the_mend_for_repeated_names_exists():
    import grnlab as gl

    assert callable(gl.pp.sum_duplicate_genes)


def test_no_known_gene_is_refused_with_examples_of_both_sides():
    with pytest.raises(ValueError, match=r"None of the 2 .*'0', '1'.*TP53.*adata\.var_names.*adata\.T"):
        align(["0", "1"], VOCAB)


@pytest.mark.parametrize("names", [["Tp53", "Gata1", "Cd3e"], [f"ENSMUSG{number:011d}" for number in range(5)]])
def test_mouse_names_are_refused_as_mouse(names):
    with pytest.raises(ValueError, match=r"look like mouse genes.*orthologs"):
        align(names, VOCAB)


def test_a_few_human_names_do_not_hide_that_the_data_are_mouse():
    with pytest.raises(ValueError, match=r"mouse.*2 of 6 names found"):
        align(["TP53", "GATA1", "Cd3e", "Cd4", "Actb", "Gapdh"], VOCAB)


def test_mouse_names_fit_a_mouse_model():
    vocab = vocab_of([("Trp53", "ENSMUSG00000059552", ""), ("Gata1", "ENSMUSG00000031162", "")], "Mus musculus")
    assert align(["Gata1", "ENSMUSG00000059552"], vocab).tokens.tolist() == [0, 1]


def test_human_names_with_small_letters_are_not_mouse():
    assert not looks_like_mouse(["C1orf112", "C19orf33", "TP53"])
    assert looks_like_mouse(["ENSMUSG00000031162", "Cd3e", "TP53"])


def test_empty_input_is_refused():
    with pytest.raises(ValueError, match="None of the 0"):
        align([], VOCAB)


NAMES = ["TP53", "P53", "LFS1", "SHARED", "ENSG00000141510", "ENSG00000102145.9", "ERYF1", "PU.1", "X1", "X2", "MARCH1"]


@given(
    st.lists(st.sampled_from(NAMES), unique=True, min_size=1).filter(lambda names: set(names) - {"X1", "X2", "SHARED"})
)
@settings(max_examples=60, deadline=None)
def test_the_numbers_of_the_report_add_up(names):
    found = align(names, VOCAB)
    report = found.report
    assert report.n_input == len(names) == report.n_mapped + len(report.missing) + len(report.duplicated)
    assert len(found.columns) == len(found.tokens) == report.n_mapped
    assert (np.diff(found.tokens) > 0).all()
    assert set(report.alias_used) <= {names[column] for column in found.columns}
    assert f"{report.n_mapped:,} of {len(names):,}" in str(report)


@given(st.permutations(NAMES))
@settings(max_examples=60, deadline=None)
def test_permuted_names_give_the_same_tokens_and_permuted_columns(names):
    expected = align(NAMES, VOCAB)
    found = align(names, VOCAB)
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert [names[column] for column in found.columns] == [NAMES[column] for column in expected.columns]
    assert sorted(found.report.missing) == sorted(expected.report.missing)
    assert found.report.duplicated == expected.report.duplicated


def test_ids_of_other_databases_are_found_as_the_vocabulary_finds_them():
    fly = vocab_of([("Antp", "FBgn0260642", ""), ("eve", "FBgn0000606", "")], species="Drosophila melanogaster")
    assert fly.token("FBgn0000606") == 1
    found = align(["FBgn0000606", "FBgn0260642"], fly)
    assert (found.tokens.tolist(), found.columns.tolist(), found.report.version_stripped) == ([0, 1], [1, 0], [])
