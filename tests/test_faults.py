"""The short version of benchmarks/faults.py: damaged files for every reader, and the faults that take no process."""

import importlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "benchmarks"
_READERS = (
    *("cells, gl.io.read", "cells, streamed", "cells, zarr", "stored networks", "checkpoint", "gene sets (gmt)"),
    *("network set (.grns)", "network (.grn)"),
    *("network, csv", "network, tsv", "network, decoupler", "network, pyscenic", "network, beeline"),
    *("network, celloracle", "network, genernib", "network, grnndata", "network, gmt", "network, graphml"),
    *("network, cx2", "network, sif", "head set", "gold standard, csv", "gold standard, tsv.gz"),
    *(
        "gold standard, json",
        "gold standard, parquet",
        "gold standard, gmt",
        "recipe",
        "state of a training",
        "state of an attention",
    ),
    *("hierarchy, obo", "hierarchy, csv", "signatures", "markers", "published: Geneformer"),
    *("published: Geneformer, pickles", "published: scGPT", "published: scPRINT"),
    *("published: scPRINT, pickles allowed", "fine-tuned model", "known cells", "translator", "streamed embeddings"),
)
_CASES = (
    *("pickle with a command, as a model", "pickle with a command, inside a checkpoint or state"),
    *("YAML that asks for a Python object", "names that are HTML and JavaScript", "names that are paths"),
    *("same seed, whole way to the page", "disk full", "no permission"),
)


@pytest.fixture(scope="module")
def bench():
    """Import a module of the benchmarks as its own scripts do."""
    sys.path.insert(0, str(HERE))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def watch(bench, tmp_path_factory):
    return bench("fuzzing").Watch(tmp_path_factory.getbasetemp())


def test_every_reader_and_case_is_here(bench):
    assert tuple(bench("fuzz_readers").READERS) == _READERS
    slow = ("same seed, training", "one thread and two", "kill -9 while writing")
    assert tuple(name for name in bench("fault_cases").CASES if name not in slow) == _CASES


@pytest.mark.parametrize("name", _READERS)
def test_damaged_files_are_refused_with_a_clear_error(bench, watch, tmp_path, name):
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    outcome = bench("fuzzing").fuzz(bench("fuzz_readers").READERS[name], tmp_path, seconds=60, most=12, watch=watch)
    assert outcome.cases == 12
    assert outcome.findings == {}


@pytest.mark.parametrize("name", _CASES)
def test_faults_leave_everything_as_it_was(bench, tmp_path, name):
    (tmp_path / "case").mkdir()
    assert bench("fault_cases").CASES[name](tmp_path / "case")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lambda path: (_ for _ in ()).throw(KeyError("x")), "finding"),
        (lambda path: path.read_bytes().decode(), "finding"),
        (lambda path: (_ for _ in ()).throw(ValueError("not raised by grnlab")), "finding"),
        (lambda path: sys.exit(1), "finding"),
        (lambda path: Path("/tmp/grnlab-fault-outside").write_text("x"), "finding"),
        (lambda path: __import__("os").system("true"), "finding"),
        (lambda path: path.read_bytes(), "read"),
    ],
    ids=["key error", "decoding", "foreign", "exit", "outside", "process", "read"],
)
def test_the_judge_sees_what_must_not_happen(bench, watch, tmp_path, error, kind):
    (tmp_path / "file").write_bytes(b"\xff")
    try:
        assert bench("fuzzing").judge(error, tmp_path / "file", watch)[0] == kind
    finally:
        Path("/tmp/grnlab-fault-outside").unlink(missing_ok=True)


def test_the_damage_depends_on_the_seed_alone(bench, watch, tmp_path):
    fuzzing, seen = bench("fuzzing"), []
    sound = tmp_path / "sound.json"

    def make(folder):
        sound.write_text('{"a": [1, 2, {"b": "c"}]}')
        return sound

    for _ in range(2):
        reader = fuzzing.Reader(make, lambda path, read=(read := []): read.append(path.read_bytes()))
        fuzzing.fuzz(reader, tmp_path, seconds=60, most=20, watch=watch)
        seen.append(read)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 10
