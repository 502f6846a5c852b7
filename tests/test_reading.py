"""Text from outside: pipes, bombs and deep nesting are refused by every reader."""

import bz2
import gzip
import json
import lzma
import os

import numpy as np
import pytest

from grnlab import _reading
from grnlab.backbones.published.read import read_dictionary
from grnlab.data import read_hierarchy, read_signatures
from grnlab.evaluate import read_gold
from grnlab.genes import GeneVocab
from grnlab.heads import HeadSet
from grnlab.heads.translator import Translator
from grnlab.network import GeneNetwork, read_gmt, read_network
from grnlab.tasks._stream import Results
from grnlab.tasks.fine_tuned import FineTuned
from grnlab.tasks.known import KnownCells
from grnlab.training import read_recipe
from grnlab.training.states import StateFolder

READERS = {
    "x.json": HeadSet.load,
    "translator.json": Translator.load,
    "x.obo": read_hierarchy,
    "x.csv": read_hierarchy,
    "gold.csv": read_gold,
    "gold.json": read_gold,
    "x.gmt": read_gmt,
    "net.csv": read_network,
    "net.sif": read_network,
    "net.cx2": read_network,
    "net.graphml": read_network,
    "net.h5ad": read_network,
    "x.grn": GeneNetwork.load,
    "recipe.yaml": read_recipe,
    "signatures.csv": read_signatures,
    "known.npz": KnownCells.load,
    "genes.tsv": GeneVocab.load,
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises((ValueError, FileNotFoundError), match=name.replace(".", r"\.")):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", ["x.json", "translator.json", "gold.json", "net.cx2", "recipe.yaml"])
def test_deep_nesting_is_refused(tmp_path, name):
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        READERS[name](tmp_path / name)


def test_deep_nesting_inside_folders_is_refused(tmp_path):
    state = tmp_path / "step-000000001"
    state.mkdir()
    (state / "state.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="no state in"):
        StateFolder(tmp_path).latest()
    (tmp_path / "fine_tuned.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="no complete fine-tuned model"):
        FineTuned.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("gold.tsv", "source\ttarget\n" + "A\tB\n" * 20_000, read_gold),
        ("gold.json", json.dumps({"A": ["B"] * 20_000}), read_gold),
        ("net.csv", "source,target,weight\n" + "A,B,1\n" * 20_000, read_network),
        ("x.obo", "[Term]\nid: 1\n" + "x: 1\n" * 20_000, read_hierarchy),
        ("x.csv", "child,parent\n" + "A,B\n" * 20_000, read_hierarchy),
        ("s.csv", "drug,A,B\n" + "x,1,-1\n" * 20_000, read_signatures),
        ("genes.tsv", "symbol\n" + "A\n" * 20_000, GeneVocab.load),
    ],
)
def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, name, text, read):
    monkeypatch.setattr(_reading, "_SMALL", 10_000)
    monkeypatch.setattr(_reading, "_LARGEST_RATIO", 20)
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ValueError, match=r"unpacks to more than 20 times its size"):
        read(path)


@pytest.mark.parametrize(("ending", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_packed_text_is_read_and_damaged_one_refused(tmp_path, ending, pack):
    path, text = tmp_path / f"x.txt{ending}", "a\tb\n" + "1\t2\n" * 1_000
    path.write_bytes(pack(text.encode()))
    assert _reading.read_text(path) == text
    assert len(_reading.read_separated(path, separator="\t")) == 1_000
    path.write_bytes(pack(text.encode())[:-9])
    with pytest.raises(ValueError, match=r"x\.txt"):
        _reading.read_text(path)
    path.write_bytes(b"no such packing")
    with pytest.raises(ValueError, match=r"x\.txt.* damaged"):
        _reading.read_text(path)


def test_a_parquet_that_announces_too_many_rows_is_refused(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    monkeypatch.setattr(_reading, "_SMALL", 10_000)
    table = pa.table({"source": pa.array(["A"] * 200_000).dictionary_encode(), "target": np.zeros(200_000)})
    pq.write_table(table, tmp_path / "gold.parquet", compression="zstd")
    with pytest.raises(ValueError, match=r"announces 200,000 rows"):
        read_gold(tmp_path / "gold.parquet")


def test_a_pickle_that_announces_many_objects_takes_no_memory(tmp_path):
    """Place 2**31 of the memo: the unpickler written in C would make room for all before it."""
    (tmp_path / "token_dictionary.pkl").write_bytes(b"\x80\x04}" + b"r" + (2**31 - 1).to_bytes(4, "little") + b".")
    assert read_dictionary(tmp_path / "token_dictionary.pkl") == {}


def test_numbers_that_are_none_are_refused(tmp_path):
    content = {"name": "x", "origin": {}, "shape": [1e999, 2], "weights": {}}
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds no head set"):
        HeadSet.load(tmp_path / "x.json")


def test_arrays_of_a_run_that_lie_elsewhere_are_refused(tmp_path):
    results = Results(2, out=tmp_path / "run", identity={})
    results.write("a", np.arange(2), np.ones((2, 1)))
    results.finish(0)
    (tmp_path / "run" / "a.npy").rename(tmp_path / "a.npy")
    state = tmp_path / "run" / "run.json"
    state.write_text(state.read_text().replace('"a"', '"../a"'))
    with pytest.raises(ValueError, match=r"its array '\.\./a' lies elsewhere"):
        Results(2, out=tmp_path / "run", identity={})


def test_aliases_in_a_recipe_are_refused(tmp_path):
    (tmp_path / "x.yaml").write_text("name: &a x\nvocabulary: *a\n")
    with pytest.raises(ValueError, match=r"x\.yaml is not YAML: it uses an alias"):
        read_recipe(tmp_path / "x.yaml")


@pytest.mark.parametrize(("key", "value"), [("n_layers", 10**25), ("d_model", 10**12)])
def test_sizes_of_a_recipe_that_nothing_can_hold_are_refused(tmp_path, key, value):
    (tmp_path / "x.yaml").write_text(f"model: {{{key}: {value}}}\n")
    with pytest.raises(ValueError, match=rf"x\.yaml: model\.{key} is {value}; expected at most"):
        read_recipe(tmp_path / "x.yaml")


def test_arrays_of_known_cells_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_reading, "_SMALL", 10_000)
    np.savez_compressed(tmp_path / "known.npz", labels=np.zeros(1_000_000))
    with pytest.raises(ValueError, match=r"no file of known cells .*refused as unsafe"):
        KnownCells.load(tmp_path / "known.npz")


def test_numbers_with_endless_exponents_do_not_crash(tmp_path):
    (tmp_path / "table.csv").write_text("gene,score\na,9e400999999999999999999\nb,0.1\n")  # a crash of pandas' default
    found = _reading.read_separated(tmp_path / "table.csv", separator=",")
    assert str(found["score"].iloc[1]) == "0.1"
    assert found["score"].astype(float).iloc[0] == np.inf
    np.testing.assert_array_equal(_reading.to_numbers(found["score"].astype(str)), [np.nan, 0.1])
