import io
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import grnlab as gl
from grnlab.cli import main

PARTS = {"network.html", "networks.grns", "tables", "enrichment.tsv", "summary.md"}


def test_infer_from_counts_to_page(place, names, infer):
    status, out, err = infer("cells.h5ad", "--groupby", "cell_type", "--out", "out", "--genes", 25, "--top-k", 4)
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


def test_infer_gives_what_the_verbs_give(place, infer, human_model):
    options = ["--directed", "--apc", "--per", "regulator", "--regulators", "all", "--context", "expressed"]
    assert infer("cells.h5ad", "--out", "out", "--genes", "all", "--top-k", 3, *options)[0] == 0
    maps = gl.tl.attention(gl.io.read("cells.h5ad"), human_model, genes="all", context="expressed")
    expected = gl.tl.infer_networks(maps, top_k=3, per="regulator", regulators="all", symmetrize=False, apc=True)
    found = gl.NetworkSet.load("out/networks.grns")
    pd.testing.assert_frame_equal(found["all"].edges, expected["all"].edges, check_exact=True)


def test_regulators_of_a_file_by_any_name(place, infer, human_vocab):
    gene = gl.io.read("cells.h5ad").var_names[5]
    ensembl = human_vocab.table.loc[human_vocab.token(gene), "ensembl_id"]
    Path("tfs.txt").write_text(f"\ufeffTF0\nOLD10\n{ensembl}.3\nTF0\n", encoding="utf-8")
    status, _, err = infer("cells.h5ad", "--out", "out", "--regulators", "tfs.txt", "--genes", "all")
    assert status == 0, err
    assert set(gl.NetworkSet.load("out/networks.grns")["all"].edges["source"]) == {"TF0", "GENE0", gene}


def test_regulators_that_are_not_shown_are_said(place, infer, human_vocab, caplog):
    absent = next(s for s in human_vocab.symbols if s not in gl.io.read("cells.h5ad").var_names)
    Path("tfs.txt").write_text(f"TF0\n{absent}\n")
    assert infer("cells.h5ad", "--out", "out", "--regulators", "tfs.txt", "--genes", "all")[0] == 0
    assert "1 of 2 --regulators are not among the genes shown" in caplog.text
    Path("tfs.txt").write_text(f"{absent}\n")
    status, _, err = infer("cells.h5ad", "--out", "out2", "--regulators", "tfs.txt", "--genes", "all")
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
def test_strange_names_of_cell_types(place, names, infer, make_cells, groups):
    make_cells(groups=groups).write_h5ad("strange.h5ad")
    status, _, err = infer("strange.h5ad", "--groupby", "cell_type", "--out", "out", "--genes", 12)
    if " " in groups:  # a name nobody could read
        assert status == 2
        assert "cannot name a group" in err
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


def test_a_dry_run_says_what_it_takes_and_writes_nothing(place, names, infer):
    status, out, err = infer("cells.h5ad", "--groupby", "cell_type", "--out", "out", "--genes", 12, "--dry-run")
    assert (status, err) == (0, "")
    assert out.startswith("20 cells in 2 groups, 12 genes\nabout ")
    assert "memory per process" in out
    assert names(place) == ["cells.h5ad"]


def test_a_zarr_store_gives_what_an_h5ad_file_gives(place, infer, make_cells):
    make_cells().write_zarr("cells.zarr")
    for data in ("cells.h5ad", "cells.zarr"):
        assert infer(data, "--groupby", "cell_type", "--out", data[6:], "--genes", 12)[0] == 0
    first, second = (gl.NetworkSet.load(f"{name}/networks.grns") for name in ("h5ad", "zarr"))
    pd.testing.assert_frame_equal(first.edge_table(), second.edge_table())


def test_folders_above_out_are_made(place, names, infer):
    assert infer("cells.h5ad", "--out", "a/b/out", "--genes", 12)[0] == 0
    assert set(names(place / "a" / "b" / "out")) == PARTS


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
def test_bad_options_are_named(place, names, infer, options, message):
    Path("empty.txt").write_text("\n")
    Path("binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    Path("typo.txt").write_text("TF0\nGENE4x\n")
    Path("bad.gmt").write_text("no tabs here\n")
    before = names(place)
    status, out, err = infer("cells.h5ad", "--out", "out", *options)
    assert status == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert names(place) == before


@pytest.mark.parametrize(
    "damage", ["gone", "empty folder", "no weights", "cut weights", "cut vocabulary", "other config"]
)
def test_a_broken_model_is_named(place, names, capsys, checkpoint, damage):
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
