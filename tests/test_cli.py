import errno
import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import grnlab as gl
from grnlab.cli import main

PARTS = {"network.html", "networks.grns", "tables", "enrichment.tsv", "summary.md"}


@pytest.fixture
def place(tmp_path, monkeypatch, make_cells):
    """Working folder with cells.h5ad and nothing else."""
    monkeypatch.chdir(tmp_path)
    make_cells().write_h5ad("cells.h5ad")
    return tmp_path


@pytest.fixture
def grnlab(capsys, checkpoint):
    """Run a command: exit status, stdout, stderr."""

    def run(*arguments):
        if arguments and arguments[0] == "infer":
            arguments = (*arguments, "--model", str(checkpoint))
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- help


@pytest.mark.parametrize("command", [(), ("demo",), ("infer",), ("models",), ("benchmark",), ("compare-models",)])
def test_help_teaches(grnlab, command):
    status, out, _ = grnlab(*command, "--help")
    assert status == 0
    assert "grnlab" in out
    assert len(out.splitlines()) > 8
    for option in set(re.findall(r"^  (--?[a-z0-9-]+)", out, flags=re.MULTILINE)):
        described = re.search(rf"^  {option}\b.*(\n {{10,}}\S.*)*", out, flags=re.MULTILINE).group()
        assert re.search(r"\s{2,}\S+ \S+", described), f"{option} is not described"


@pytest.mark.parametrize("command", [(), ("demo",), ("infer",), ("models",), ("benchmark",), ("compare-models",)])
def test_help_has_examples_that_parse(grnlab, command):
    from grnlab.cli import _parser

    _, out, _ = grnlab(*command, "--help")
    examples = re.findall(r"^  grnlab (.*)$", out.split("Examples\n--------")[1], flags=re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        if "--help" not in example:
            assert callable(_parser().parse_args(example.split()).run)
            assert example.startswith(" ".join(command))


def test_version_and_models(grnlab):
    assert grnlab("--version")[1].strip() == f"grnlab {gl.__version__}"
    status, out, err = grnlab("models")
    assert (status, err) == (0, "")
    from grnlab.backbones import builtin_models

    assert len(out.partition("\n\n")[0].splitlines()) == len(builtin_models())
    status, _, err = grnlab("models", "--card", "nothing")
    assert status == 2
    assert "no built-in model is called 'nothing'" in err


@pytest.mark.parametrize("arguments", [(), ("infre",), ("infer",), ("infer", "x.h5ad")])
def test_an_incomplete_command_shows_the_usage(grnlab, arguments):
    status, _, err = grnlab(*arguments)
    assert status == 2
    assert "usage: grnlab" in err


# --- the main job


def test_infer_from_counts_to_page(place, grnlab):
    status, out, err = grnlab(
        "infer", "cells.h5ad", "--groupby", "cell_type", "--out", "out", "--genes", 25, "--top-k", 4
    )
    assert status == 0, err
    folder = place / "out"
    assert set(names(folder)) == PARTS
    assert names(place) == ["cells.h5ad", "out"]
    networks = gl.NetworkSet.load(folder / "networks.grns")
    assert list(networks) == ["B cell", "T cell"]
    edges = pd.read_csv(folder / "tables" / "edges.tsv", sep="\t")
    for name, network in networks.items():
        table = edges[edges["group"] == name]
        assert table["source"].tolist() == network.edges["source"].tolist()
        assert table["target"].tolist() == network.edges["target"].tolist()
        np.testing.assert_allclose(table["weight"], network.edges["weight"])
        assert network.edges.groupby("target").size().max() <= 4
        assert network.genes.loc[network.edges["source"], "is_tf"].all()
        assert network.provenance["model"] == "untrained"
        assert len(network.provenance["weights_sha256"]) == 64
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    assert "| B cell | 10 |" in summary
    assert "| T cell | 10 |" in summary
    assert "data: cells.h5ad" in summary
    assert "genes mapped" in summary
    assert "| B cell | 10 |" in out
    assert "network.html" in out
    assert "T cell" in (folder / "network.html").read_text(encoding="utf-8")


def test_infer_gives_what_the_verbs_give(place, grnlab, human_model):
    options = ["--directed", "--apc", "--per", "regulator", "--regulators", "all", "--context", "expressed"]
    assert grnlab("infer", "cells.h5ad", "--out", "out", "--genes", "all", "--top-k", 3, *options)[0] == 0
    maps = gl.tl.attention(gl.io.read("cells.h5ad"), human_model, genes="all", context="expressed")
    expected = gl.tl.infer_networks(maps, top_k=3, per="regulator", regulators="all", symmetrize=False, apc=True)
    found = gl.NetworkSet.load("out/networks.grns")
    pd.testing.assert_frame_equal(found["all"].edges, expected["all"].edges, check_exact=True)


def test_regulators_of_a_file_by_any_name(place, grnlab, human_vocab):
    gene = gl.io.read("cells.h5ad").var_names[5]
    ensembl = human_vocab.table.loc[human_vocab.token(gene), "ensembl_id"]
    Path("tfs.txt").write_text(f"\ufeffTF0\nOLD10\n{ensembl}.3\nTF0\n", encoding="utf-8")
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "out", "--regulators", "tfs.txt", "--genes", "all")
    assert status == 0, err
    assert set(gl.NetworkSet.load("out/networks.grns")["all"].edges["source"]) == {"TF0", "GENE0", gene}


def test_regulators_that_are_not_shown_are_said(place, grnlab, human_vocab, caplog):
    absent = next(s for s in human_vocab.symbols if s not in gl.io.read("cells.h5ad").var_names)
    Path("tfs.txt").write_text(f"TF0\n{absent}\n")
    assert grnlab("infer", "cells.h5ad", "--out", "out", "--regulators", "tfs.txt", "--genes", "all")[0] == 0
    assert "1 of 2 --regulators are not among the genes shown" in caplog.text
    Path("tfs.txt").write_text(f"{absent}\n")
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "out2", "--regulators", "tfs.txt", "--genes", "all")
    assert status == 2
    assert "show more with --genes" in err


@pytest.mark.parametrize(
    "groups",
    [
        ("CD4/CD8 T", "../../etc"),
        ("<script>alert(1)</script>", "a & b \"quoted\" 'name'"),
        ("é 细胞 🧬", "x" * 300),
        ("a|b", "tab\tand\nline"),
        ("1", "-1"),
        (" ", "Thing"),
    ],
    ids=["slashes", "html", "unicode and long", "bars and line ends", "numbers", "blank"],
)
def test_strange_names_of_cell_types(place, grnlab, make_cells, groups):
    make_cells(groups=groups).write_h5ad("strange.h5ad")
    status, _, err = grnlab("infer", "strange.h5ad", "--groupby", "cell_type", "--out", "out", "--genes", 12)
    if " " in groups:  # a name nobody could read
        assert status == 2
        assert "non-empty text" in err
        assert names(place) == ["cells.h5ad", "strange.h5ad"]
        return
    assert status == 0, err
    assert names(place) == ["cells.h5ad", "out", "strange.h5ad"]
    assert set(names(place / "out")) == PARTS
    assert set(gl.NetworkSet.load("out/networks.grns")) == set(groups)
    assert set(pd.read_csv("out/tables/edges.tsv", sep="\t", dtype=str)["group"]) == set(groups)
    rows = [line for line in Path("out/summary.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) == 3
    assert "<script>alert(1)" not in Path("out/network.html").read_text(encoding="utf-8")


def test_a_terminal_without_unicode_does_not_fail_a_finished_run(place, checkpoint, make_cells, monkeypatch):
    make_cells(groups=("é 细胞",)).write_h5ad("strange.h5ad")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    options = ["--groupby", "cell_type", "--out", "out", "--genes", "12", "--model", str(checkpoint)]
    assert main(["infer", "strange.h5ad", *options]) == 0
    terminal.flush()
    assert b"network.html" in terminal.buffer.getvalue()


# --- what exists is kept


def test_an_existing_folder_is_kept_and_said_before_any_work(place, grnlab, monkeypatch):
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("precious")
    monkeypatch.setattr(gl.tl, "attention", lambda *a, **k: pytest.fail("work before the check"))
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "out")
    assert status == 2
    assert re.search(r"out exists already and is left as it is\. Choose another --out, or say --overwrite", err)
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "out", "--overwrite")
    assert status == 2
    assert "mine.txt" in err
    status, _, err = grnlab("infer", "cells.h5ad", "--out", ".", "--overwrite")
    assert status == 2
    assert "cells.h5ad" in err
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "cells.h5ad", "--overwrite")
    assert status == 2
    status, _, err = grnlab("demo", "--out", "out")
    assert status == 2
    assert (place / "out" / "mine.txt").read_text() == "precious"
    assert names(place) == ["cells.h5ad", "out"]


def test_overwrite_replaces_an_earlier_report(place, grnlab):
    assert grnlab("infer", "cells.h5ad", "--out", "out", "--genes", 12)[0] == 0
    first = gl.NetworkSet.load("out/networks.grns")
    assert grnlab("infer", "cells.h5ad", "--out", "out", "--genes", 20)[0] == 2
    assert gl.NetworkSet.load("out/networks.grns").equals(first)
    assert grnlab("infer", "cells.h5ad", "--out", "out", "--genes", 20, "--overwrite")[0] == 0
    assert len(gl.NetworkSet.load("out/networks.grns")["all"].genes) > len(first["all"].genes)
    assert names(place) == ["cells.h5ad", "out"]


def test_a_dry_run_says_what_it_takes_and_writes_nothing(place, grnlab):
    status, out, err = grnlab(
        "infer", "cells.h5ad", "--groupby", "cell_type", "--out", "out", "--genes", 12, "--dry-run"
    )
    assert (status, err) == (0, "")
    assert out.startswith("20 cells in 2 groups, 12 genes\nabout ")
    assert "memory per process" in out
    assert names(place) == ["cells.h5ad"]


def test_a_zarr_store_gives_what_an_h5ad_file_gives(place, grnlab, make_cells):
    make_cells().write_zarr("cells.zarr")
    for data in ("cells.h5ad", "cells.zarr"):
        assert grnlab("infer", data, "--groupby", "cell_type", "--out", data[6:], "--genes", 12)[0] == 0
    first, second = (gl.NetworkSet.load(f"{name}/networks.grns") for name in ("h5ad", "zarr"))
    pd.testing.assert_frame_equal(first.edge_table(), second.edge_table())


def test_an_interrupted_run_goes_on(place, grnlab, monkeypatch):
    from grnlab.attention import stream, sums

    monkeypatch.setattr(stream, "CHUNK_CELLS", 4)
    monkeypatch.setattr(sums, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(sums, "_SHARE", 0.0)
    real, read = stream.read_chunk, []

    def interrupted(plan, number, shown):
        read.append(number)
        if len(read) == 3:
            raise KeyboardInterrupt
        return real(plan, number, shown)

    monkeypatch.setattr(stream, "read_chunk", interrupted)
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "out", "--genes", 12)
    assert status == 130
    assert "out.state holds the sums so far, and the same command goes on from there" in err
    assert names(place) == ["cells.h5ad", "out.state"]
    assert grnlab("infer", "cells.h5ad", "--out", "out", "--genes", 12)[0] == 0
    assert read == [0, 1, 2, 2, 3, 4]
    assert names(place) == ["cells.h5ad", "out"]


def test_folders_above_out_are_made(place, grnlab):
    assert grnlab("infer", "cells.h5ad", "--out", "a/b/out", "--genes", 12)[0] == 0
    assert set(names(place / "a" / "b" / "out")) == PARTS


def test_a_file_above_out_is_said_before_any_work(place, grnlab, monkeypatch):
    monkeypatch.setattr(gl.tl, "attention", lambda *a, **k: pytest.fail("work before the check"))
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "cells.h5ad/out")
    assert status == 2
    assert "cells.h5ad is a file, not a folder. Choose another --out" in err


# --- interrupted and failing runs


@pytest.mark.parametrize(
    "where",
    [
        "grnlab.attention.stream.pool_queries_keys",
        "grnlab.report.write_page",
        "grnlab.network.networks.NetworkSet.write_tables",
    ],
)
def test_an_interrupt_leaves_nothing(place, grnlab, monkeypatch, where):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "new/out", "--genes", 12)
    assert status == 130
    assert "interrupted; nothing was written under the final name" in err
    assert names(place) == ["cells.h5ad"]


def test_a_full_disk_leaves_nothing(place, grnlab, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("grnlab.report.write_page", full)
    status, _, err = grnlab("infer", "cells.h5ad", "--out", "new/out", "--genes", 12)
    assert status == 2
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert names(place) == ["cells.h5ad"]


_SLOW = """
import sys, time
import grnlab.report
real = grnlab.report.write_page
def slow(*args, **kwargs):
    print("writing", flush=True)
    time.sleep(60)
    return real(*args, **kwargs)
grnlab.report.write_page = slow
from grnlab.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_while_files_are_written(place, checkpoint):
    command = ["infer", "cells.h5ad", "--out", "out", "--genes", "12", "--model", str(checkpoint)]
    process = subprocess.Popen([sys.executable, "-c", _SLOW, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"writing\n"
        assert any(name.endswith(".partial") for name in names(place))
        assert "out" not in names(place)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - started < 30
    assert process.returncode == 130
    assert b"grnlab: interrupted" in err
    assert b"Traceback" not in err
    assert names(place) == ["cells.h5ad"]


# --- options that make no sense


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--genes", "many"], "'many' is neither a whole number of at least 2 nor 'all'"),
        (["--genes", "-5"], "'-5' is neither"),
        (["--genes", "1"], "'1' is neither"),
        (["--genes", "2.5"], "'2.5' is neither"),
        (["--genes", "²"], "'²' is neither"),
        (["--top-k", "0"], "--top-k: '0' must be at least 1"),
        (["--top-k", "-1"], "--top-k: '-1' is not a whole number"),
        (["--min-cells", "0"], "--min-cells: '0' must be at least 1"),
        (["--seed", "-1"], "--seed: '-1' is not a whole number"),
        (["--context", "full"], "choose from"),
        (["--regulators", "no.txt"], "'no.txt', which is no file; give 'tf', 'all', or a text file"),
        (["--regulators", "empty.txt"], "empty.txt holds no gene; give one per line"),
        (["--regulators", "binary.txt"], "binary.txt is not a text file"),
        (
            ["--regulators", "typo.txt"],
            "1 of 2 genes are unknown to the model, the first is 'GENE4x' (nearest names: GENE4",
        ),
        (["--gmt", "no.gmt"], "There is no GMT file no.gmt"),
        (["--gmt", "bad.gmt"], "bad.gmt, line 1: expected 'name<tab>description<tab>gene"),
        (["--gmt", "binary.txt"], "binary.txt is not UTF-8 text"),
        (["--layer", "cuonts"], "layer='cuonts' is not in adata.layers"),
        (["--groupby", "celltype"], "(did you mean 'cell_type'?)"),
        (["--groupby", "cell_type", "--min-cells", "11"], "--skip-small"),
    ],
)
def test_bad_options_are_named(place, grnlab, options, message):
    Path("empty.txt").write_text("\n")
    Path("binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    Path("typo.txt").write_text("TF0\nGENE4x\n")
    Path("bad.gmt").write_text("no tabs here\n")
    before = names(place)
    status, out, err = grnlab("infer", "cells.h5ad", "--out", "out", *options)
    assert status == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert names(place) == before


@pytest.mark.parametrize(
    "damage", ["gone", "empty folder", "no weights", "cut weights", "cut vocabulary", "other config"]
)
def test_a_broken_model_is_named(place, capsys, checkpoint, damage):
    model = place / "model"
    if damage != "gone":
        model.mkdir()
        for path in [] if damage == "empty folder" else checkpoint.iterdir():
            (model / path.name).write_bytes(path.read_bytes())
    if damage == "no weights":
        (model / "model.safetensors").unlink()
    elif damage == "cut weights":
        (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-50])
    elif damage == "cut vocabulary":
        (model / "genes.tsv.gz").write_bytes((model / "genes.tsv.gz").read_bytes()[:-30])
    elif damage == "other config":
        text = (model / "config.json").read_text()
        (model / "config.json").write_text(text.replace('"d_model": 16', '"d_model": 32'))
    before = names(place)
    status = main(["infer", "cells.h5ad", "--out", "out", "--model", "model"])
    err = capsys.readouterr().err
    assert status == 2
    assert re.search("neither a built-in model|is not a complete grnlab checkpoint|do not fit its config", err)
    assert "Traceback" not in err
    assert names(place) == before


def test_models_names_the_published_ones_and_their_licences(grnlab):
    status, out, _ = grnlab("models")
    assert status == 0
    assert re.search(r"scgpt: folder with args\.json, vocab\.json, best_model\.pt; https://.*; weights: MIT", out)
    assert re.search(r"scfoundation: .*non-commercial", out)
