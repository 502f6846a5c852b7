import logging
import os

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from grnlab.data import scan as room
from grnlab.data.scan import scan, scan_file, to_tokens
from grnlab.genes import GeneVocab


@pytest.fixture
def path(make_cells, tmp_path):
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.fixture
def scans(monkeypatch):
    """List that grows by one for each file scanned."""
    made = []
    monkeypatch.setattr(room, "scan_file", lambda *args, **kwargs: (made.append(args), scan_file(*args, **kwargs))[1])
    return made


def same(first, second):
    assert (first.identity, first.species, first.by_rows, first.genes) == (
        *(second.identity, second.species, second.by_rows),
        second.genes,
    )
    for name in ("token_of_column", "totals", "n_genes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert getattr(first, name).dtype == getattr(second, name).dtype


def test_a_scan_says_what_is_in_the_file(path, make_cells, human_vocab, monkeypatch):
    whole = scan_file(path, human_vocab)
    monkeypatch.setattr("grnlab.data.files._BLOCK_VALUES", 100)  # two or three cells at once
    adata, found = make_cells(), scan_file(path, human_vocab)
    same(whole, found)
    known = np.array([human_vocab.token(name) is not None for name in adata.var_names])
    np.testing.assert_array_equal(found.totals, adata.X.sum(axis=1).A1)
    np.testing.assert_array_equal(found.n_genes, (adata.X[:, known] > 0).sum(axis=1).A1)
    assert found.species == "Homo sapiens"
    assert [-1 if human_vocab.token(n) is None else human_vocab.token(n) for n in adata.var_names] == (
        found.token_of_column.tolist()
    )
    assert found.available.tolist() == sorted(found.token_of_column[known])
    assert "2 missing" in found.genes


def test_a_fresh_scan_is_taken_from_the_cache(path, human_vocab, tmp_path, scans):
    first = scan(path, human_vocab, cache=tmp_path / "scans")
    same(first, scan(path, human_vocab, cache=tmp_path / "scans"))
    assert len(scans) == 1
    assert [found.suffix for found in (tmp_path / "scans").iterdir()] == [".npz"]


def test_a_stale_scan_is_made_again(path, human_vocab, make_cells, tmp_path, scans, caplog):
    caplog.set_level(logging.INFO, logger="grnlab")
    scan(path, human_vocab, cache=tmp_path / "scans")
    make_cells(seed=1).write_h5ad(path)
    found = scan(path, human_vocab, cache=tmp_path / "scans")
    np.testing.assert_array_equal(found.totals, make_cells(seed=1).X.sum(axis=1).A1)
    assert "is stale" in caplog.text
    os.utime(path, ns=(1, 1))
    scan(path, human_vocab, cache=tmp_path / "scans")
    assert len(scans) == 3
    assert len(list((tmp_path / "scans").iterdir())) == 1
    other = GeneVocab(human_vocab.table[::-1])
    assert scan(path, other, cache=tmp_path / "scans").available.tolist() != found.available.tolist()
    assert len(scans) == 4
    same(scan(path, human_vocab, cache=tmp_path / "scans"), scan_file(path, human_vocab))
    assert len(scans) == 4


@pytest.mark.parametrize(
    "damage", [lambda x: x[: len(x) // 2], lambda _: b"", lambda x: bytes(len(x)), lambda _: b"{}"]
)
def test_a_damaged_cache_is_made_again(path, human_vocab, tmp_path, scans, caplog, damage):
    first = scan(path, human_vocab, cache=tmp_path / "scans")
    place = next((tmp_path / "scans").iterdir())
    content = damage(place.read_bytes())
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    same(first, scan(path, human_vocab, cache=tmp_path / "scans"))
    assert "is damaged" in caplog.text
    same(first, scan(path, human_vocab, cache=tmp_path / "scans"))
    assert len(scans) == 2


def test_a_cache_that_cannot_be_written_is_a_warning(path, human_vocab, tmp_path, caplog):
    (tmp_path / "scans").write_text("a file")
    same(scan(path, human_vocab, cache=tmp_path / "scans"), scan_file(path, human_vocab))
    assert "is not kept" in caplog.text


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_changed_part_of_a_zarr_store_makes_its_scan_stale(make_cells, human_vocab, tmp_path, scans):
    pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    make_cells().write_zarr(path)
    for _ in range(2):
        scan(path, human_vocab, cache=tmp_path / "scans")
    assert len(scans) == 1
    part = max(path.glob("X/data/**/*"), key=lambda part: part.stat().st_size if part.is_file() else 0)
    os.utime(part, ns=(1, 1))
    scan(path, human_vocab, cache=tmp_path / "scans")
    assert len(scans) == 2


def test_columns_outside_the_matrix_are_a_damaged_file(path, human_vocab):
    import h5py

    with h5py.File(path, "r+") as file:
        file["X/indices"][5] = 10_000
    with pytest.raises(ValueError, match="column numbers outside 0 to 49; the file is damaged"):
        scan_file(path, human_vocab)


def test_a_fault_in_a_later_block_is_found_and_placed(path, human_vocab, make_cells, monkeypatch):
    monkeypatch.setattr("grnlab.data.files._BLOCK_VALUES", 100)
    adata = make_cells()
    adata.X[13, 0] = np.nan
    adata.write_h5ad(path)
    with pytest.raises(ValueError, match=r"adata\.X\[1\d:1\d\] holds 1 NaN"):
        scan_file(path, human_vocab)


@pytest.fixture(scope="module")
def two_species():
    names = [f"GENE{n}" for n in range(10)] + [f"Gene{n}" for n in range(10)]
    table = pd.DataFrame({"symbol": names, "species": ["Homo sapiens"] * 10 + ["Mus musculus"] * 10})
    return GeneVocab(table.assign(ensembl_id="", aliases="", position=range(20), is_tf=False))


def mixed(make_cells, names, organism=None):
    adata = make_cells()[:, : len(names)].copy()
    adata.var_names = names
    if organism is not None:
        adata.obs["organism"] = pd.Categorical(organism)
    return adata


def test_the_genes_of_a_file_are_of_one_species(two_species, make_cells, tmp_path):
    path = tmp_path / "a.h5ad"
    names = [*(f"GENE{n}" for n in range(2)), *(f"Gene{n}" for n in range(8))]
    mixed(make_cells, names).write_h5ad(path)
    assert scan_file(path, two_species).species == "Mus musculus"
    assert scan_file(path, two_species).available.tolist() == list(range(10, 18))
    for human in ("human", "Homo sapiens", "NCBITaxon:9606"):
        mixed(make_cells, names, [human] * 20).write_h5ad(path)
        assert scan_file(path, two_species).available.tolist() == [0, 1]


def test_a_file_of_two_species_is_refused(two_species, make_cells, tmp_path):
    path = tmp_path / "a.h5ad"
    names = [*(f"GENE{n}" for n in range(4)), *(f"Gene{n}" for n in range(6))]
    mixed(make_cells, names).write_h5ad(path)
    with pytest.raises(ValueError, match=r"several species \(4 of Homo sapiens, 6 of Mus musculus\)"):
        scan_file(path, two_species)
    mixed(make_cells, names, ["human", "mouse"] * 10).write_h5ad(path)
    with pytest.raises(ValueError, match="mixes cells of Homo sapiens and Mus musculus"):
        scan_file(path, two_species)


def test_counts_move_to_their_tokens_and_are_cleaned():
    counts = sp.csr_matrix((np.array([3.0002, 2, 0, 5, 1e-5, 1]), [3, 1, 0, 2, 3, 1], [0, 4, 6]), shape=(2, 4))
    values, tokens, pointer = to_tokens(counts, np.array([4, 0, -1, 2], dtype=np.int32))
    assert (values.dtype, tokens.dtype) == (np.float32, np.int32)
    assert (values.tolist(), tokens.tolist(), pointer.tolist()) == ([3, 2, 1], [2, 0, 0], [0, 2, 3])
