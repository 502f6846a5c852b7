import gzip
import time

import pandas as pd
import pytest

from grnlab.genes import GeneVocab


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "symbol": ["TP53", "NA", "H1-0"],
            "ensembl_id": ["ENSG00000141510", None, "ENSG00000189060"],
            "aliases": ["P53|BOTH", "BOTH", "H1F0|TP53"],
            "position": [7, 7, 2],
            "species": "Homo sapiens",
            "is_tf": [True, False, False],
        }
    )


def test_tokens_are_row_numbers(table):
    vocab = GeneVocab(table)
    assert len(vocab) == 3
    assert [vocab.token(name) for name in ("TP53", "NA", "H1-0")] == [0, 1, 2]
    assert vocab.positions.tolist() == [7, 7, 2]
    assert vocab.is_tf.tolist() == [True, False, False]
    assert repr(vocab) == "GeneVocab(3 genes, 1 transcription factors, Homo sapiens)"


def test_lookup_by_id_version_and_alias(table):
    vocab = GeneVocab(table)
    assert vocab.token("ENSG00000141510") == vocab.token("ENSG00000141510.17") == vocab.token("P53") == 0
    assert vocab.token("H1F0") == 2
    assert vocab.token("BOTH") is None
    assert vocab.token("") is None
    assert "TP53" not in vocab.by_alias


def test_the_given_table_is_not_changed_and_not_shared(table):
    before = table.copy()
    vocab = GeneVocab(table)
    pd.testing.assert_frame_equal(table, before)
    table.loc[0, "symbol"] = "CHANGED"
    assert vocab.token("TP53") == 0


@pytest.mark.parametrize("name", ["genes.tsv", "genes.tsv.gz"])
def test_round_trip_keeps_every_cell_and_the_hash(table, tmp_path, name):
    vocab = GeneVocab(table)
    vocab.save(tmp_path / name)
    loaded = GeneVocab.load(tmp_path / name)
    pd.testing.assert_frame_equal(loaded.table, vocab.table)
    assert loaded.hash == vocab.hash
    assert loaded.symbols.tolist() == ["TP53", "NA", "H1-0"]


def test_equal_tables_make_equal_bytes(table, tmp_path):
    GeneVocab(table).save(tmp_path / "a.tsv.gz")
    time.sleep(1.1)  # gzip stamps whole seconds
    GeneVocab(table).save(tmp_path / "b.tsv.gz")
    assert (tmp_path / "a.tsv.gz").read_bytes() == (tmp_path / "b.tsv.gz").read_bytes()


def test_line_ends_do_not_depend_on_the_system(table, tmp_path, monkeypatch):
    expected = GeneVocab(table).hash
    monkeypatch.setattr("os.linesep", "\r\n")
    vocab = GeneVocab(table)
    vocab.save(tmp_path / "genes.tsv.gz")
    assert vocab.hash == expected
    assert b"\r" not in gzip.decompress((tmp_path / "genes.tsv.gz").read_bytes())


def test_the_hash_tells_tables_apart(table):
    assert GeneVocab(table).hash != GeneVocab(table.iloc[::-1]).hash
    assert GeneVocab(table).hash != GeneVocab(table.assign(position=0)).hash


def test_save_keeps_an_existing_file(table, tmp_path):
    path = tmp_path / "genes.tsv"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        GeneVocab(table).save(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("column", ["symbol", "ensembl_id", "aliases", "position", "species", "is_tf"])
def test_a_missing_column_is_named(table, tmp_path, column):
    with pytest.raises(ValueError, match=rf"lacks the columns \['{column}'\]"):
        GeneVocab(table.drop(columns=column))
    table.fillna("").drop(columns=column).to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    with pytest.raises(ValueError, match=rf"lacks the columns \['{column}'\]"):
        GeneVocab.load(tmp_path / "t.tsv")


def test_no_row_and_repeated_symbols_are_refused(table):
    with pytest.raises(ValueError, match="at least one gene"):
        GeneVocab(table.iloc[:0])
    with pytest.raises(ValueError, match=r"\['TP53'\] more than once"):
        GeneVocab(pd.concat([table, table.iloc[:1]]))


def test_two_species_may_share_a_symbol_which_belongs_to_the_first(table):
    both = GeneVocab(pd.concat([table, table.assign(species="Pan troglodytes")]))
    assert both.species == ["Homo sapiens", "Pan troglodytes"]
    assert both.token("TP53") == 0
