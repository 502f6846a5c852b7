import os

import pandas as pd
import pytest

import grnlab as gl
from grnlab.network import GeneNetwork
from grnlab.report import check_out, residue_note, write_report

PARTS = {"network.html", "networks.grns", "tables", "enrichment.tsv", "summary.md"}


EDGES = (
    *(("SPI1", target, weight) for target, weight in (("CD14", 0.9), ("LYZ", 0.8), ("S100A8", 0.7), ("FCN1", 0.6))),
    *(("PAX5", target, weight) for target, weight in (("CD79A", 0.5), ("MS4A1", 0.4))),
)


def network(name, edges=EDGES):
    genes = ["CD14", "CD79A", "FCN1", "LYZ", "MS4A1", "PAX5", "S100A8", "SPI1"]
    table = pd.DataFrame({"is_tf": [gene in ("SPI1", "PAX5") for gene in genes]}, index=genes)
    edges = pd.DataFrame(list(edges), columns=["source", "target", "weight"]).astype({"weight": float})
    return GeneNetwork(edges, table, name=name, provenance={"n_cells": 12})


@pytest.fixture
def networks():
    return gl.NetworkSet([network("blood"), network("a|b\n<i>")], {"alignment": "6 of 6 genes mapped"})


def test_a_report_is_whole(networks, tmp_path):
    out = write_report(networks, tmp_path / "new" / "out", title="Blood", notes=("a note",), seed=3)
    assert {path.name for path in out.iterdir()} == PARTS
    assert gl.NetworkSet.load(out / "networks.grns").equals(networks)
    tables = {path.name for path in (out / "tables").iterdir()}
    assert tables == {"summary.tsv", "edges.tsv", "genes.tsv", "hubs.tsv", "communities.tsv"}
    enrichment = pd.read_csv(out / "enrichment.tsv", sep="\t")
    assert enrichment.columns[0] == "group"
    assert set(enrichment["group"]) <= set(networks)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_summary_names_groups_sizes_and_hubs(networks, tmp_path):
    out = write_report(networks, tmp_path / "out", title="Blood", notes=("a note",))
    text = (out / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("# Blood\n")
    assert "- a note" in text
    assert "- genes: 6 of 6 genes mapped" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows[0].startswith("| blood | 12 | 8 | 6 | ")
    assert "SPI1" in rows[0]
    assert rows[1].startswith(r"| a\|b <i> | 12 |")
    for part in PARTS - {"summary.md"}:
        assert f"`{part}" in text


def test_a_group_without_edges_is_reported_as_such(tmp_path):
    networks = gl.NetworkSet([network("blood"), network("silent", edges=())])
    text = (write_report(networks, tmp_path / "out") / "summary.md").read_text(encoding="utf-8")
    assert "| silent | 12 | 8 | 0 | none | none" in text
    only = gl.NetworkSet([network("silent", edges=())])
    assert (write_report(only, tmp_path / "only") / "network.html").exists()


def test_gene_sets_of_the_user_are_tested(networks, tmp_path):
    (tmp_path / "own.gmt").write_text("MY SET|x\tdescription\tSPI1\tCD14\tLYZ\n")
    out = write_report(networks, tmp_path / "out", gene_sets=tmp_path / "own.gmt")
    assert set(pd.read_csv(out / "enrichment.tsv", sep="\t")["term"]) == {"MY SET|x"}


def test_gene_sets_that_do_not_fit_lose_no_network(networks, tmp_path, caplog):
    (tmp_path / "own.gmt").write_text("MY SET\tdescription\tENSG00000000001\tENSG00000000002\n")
    out = write_report(networks, tmp_path / "out", gene_sets=tmp_path / "own.gmt")
    assert gl.NetworkSet.load(out / "networks.grns").equals(networks)
    assert "- no gene set was tested for blood: " in (out / "summary.md").read_text()
    assert "no gene set was tested for blood" in caplog.text
    table = pd.read_csv(out / "enrichment.tsv", sep="\t")
    assert len(table) == 0
    assert {"group", "community", "term", "padj"} <= set(table.columns)


def test_an_existing_report_is_kept_unless_asked(networks, tmp_path):
    out = write_report(networks, tmp_path / "out", title="old")
    with pytest.raises(FileExistsError, match="overwrite"):
        write_report(networks, out, title="new")
    assert "# old" in (out / "summary.md").read_text()
    write_report(networks, out, title="new", overwrite=True)
    assert "# new" in (out / "summary.md").read_text()
    assert {path.name for path in out.iterdir()} == PARTS
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwrite_deletes_nothing_but_reports(networks, tmp_path):
    out = write_report(networks, tmp_path / "out")
    (out / "my_data.h5ad").write_text("precious")
    with pytest.raises(FileExistsError, match=r"holds what no report wrote \(my_data\.h5ad\).*move these files away"):
        write_report(networks, out, overwrite=True)
    assert (out / "my_data.h5ad").read_text() == "precious"
    with pytest.raises(FileExistsError, match="no report wrote"):
        write_report(networks, out / "my_data.h5ad", overwrite=True)
    assert (out / "my_data.h5ad").read_text() == "precious"


def test_an_empty_folder_may_be_replaced(networks, tmp_path):
    (tmp_path / "out").mkdir()
    write_report(networks, tmp_path / "out", overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == PARTS


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [False, True])
def test_a_failing_disk_or_an_interrupt_leaves_the_place_as_it_was(networks, tmp_path, monkeypatch, error, old):
    if old:
        write_report(networks, tmp_path / "out", title="old")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("grnlab.report.write_page", fail)
    with pytest.raises(type(error)):
        write_report(networks, tmp_path / "out", title="new", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if old else [])
    assert not old or "# old" in (tmp_path / "out" / "summary.md").read_text()


def test_the_place_is_checked_before_any_work(tmp_path):
    check_out(tmp_path / "new" / "deep" / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="file is a file, not a folder"):
        check_out(tmp_path / "file" / "out")
    with pytest.raises(FileExistsError, match=r"Choose another --out, or say --overwrite"):
        check_out(tmp_path)


def test_a_read_only_place_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="you may not write into"):
        check_out(tmp_path / "out")


def test_the_residue_of_recovered_counts_is_said():
    adata = gl.datasets.planted(n_cells=3).adata
    adata.uns["recovered_counts"] = {"largest_residue": 0.01234}
    assert "within 0.012 of a whole number" in residue_note(adata)
