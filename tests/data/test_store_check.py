"""What files of cells announce, and where they lead, is looked at before they are read."""

import json
import os

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import grnlab as gl
from grnlab.data.files import CountsFile, find_files
from grnlab.data.source import open_counts
from grnlab.data.store_check import check_store


@pytest.fixture
def cells():
    counts = sp.csr_matrix(np.eye(4, 3, dtype=np.float32) + 1)
    return ad.AnnData(counts, obs=pd.DataFrame(index=list("abcd")), var=pd.DataFrame(index=["A", "B", "C"]))


@pytest.fixture
def h5ad(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.fixture
def zarr(cells, tmp_path):
    pytest.importorskip("zarr")
    cells.write_zarr(tmp_path / "cells.zarr")
    return tmp_path / "cells.zarr"


def test_sound_files_pass(h5ad, zarr):
    assert gl.io.read(h5ad).shape == (4, 3)
    for path in (h5ad, zarr):
        file = open_counts(path)
        assert file.shape == (4, 3)
        file.close()


@pytest.mark.parametrize("chunks", [(1, 1_000), True])
def test_an_array_that_is_announced_but_not_there_is_refused(h5ad, chunks):
    with h5py.File(h5ad, "r+") as file:
        file["uns"].create_dataset("x", shape=(12, 10**9), dtype="f4", chunks=chunks)
    for read in (gl.io.read, open_counts):
        with pytest.raises(ValueError, match=r"cells\.h5ad .*announce 48,000,.* far more than its size"):
            read(h5ad)


def test_a_file_that_leads_to_another_is_refused(h5ad, tmp_path):
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(h5ad, "r+") as file:
        file["uns"]["link"] = h5py.ExternalLink(str(tmp_path / "pipe"), "x")
    with pytest.raises(ValueError, match=r"uns leads to another file"):
        gl.io.read(h5ad)
    with h5py.File(h5ad, "r+") as file:
        del file["uns"]["link"]
        file["uns"].create_dataset("stored", shape=(16,), dtype="u1", external=[(str(tmp_path / "secret"), 0, 16)])
    with pytest.raises(ValueError, match=r"uns/stored leads to another file"):
        gl.io.read(h5ad)


def test_rows_stored_by_columns_are_those_of_the_cells(cells, tmp_path):
    cells.X = cells.X.tocsc()
    cells.write_h5ad(tmp_path / "x.h5ad")
    assert CountsFile(tmp_path / "x.h5ad").shape == (4, 3)
    with h5py.File(tmp_path / "x.h5ad", "r+") as file:
        file["X"].attrs["shape"] = [10**9, 3]
    with pytest.raises(ValueError, match=r"X has 1,000,000,000 rows, but obs has 4"):
        CountsFile(tmp_path / "x.h5ad")


@pytest.mark.parametrize("what", ["shape", "chunks", "chunk_shape"])
def test_a_zarr_store_that_announces_too_much_is_refused(zarr, what):
    def enlarge(content):
        if isinstance(content, dict):
            for key, value in content.items():
                if key == what and isinstance(value, list):
                    content[key] = [10**12]
                else:
                    enlarge(value)

    for path in zarr.rglob("*"):
        if path.name in ("zarr.json", ".zarray", ".zmetadata"):
            content = json.loads(path.read_text())
            enlarge(content)
            path.write_text(json.dumps(content))
    if "1000000000000" not in "".join(p.read_text() for p in zarr.rglob("*") if p.name in ("zarr.json", ".zarray")):
        pytest.skip("a key of the other format of zarr")
    with pytest.raises(ValueError, match="far more than its size allows"):
        check_store(zarr)
    with pytest.raises(ValueError, match=r"cells\.zarr cannot be read as zarr: its arrays announce"):
        open_counts(zarr)


def test_a_zarr_store_with_a_pipe_in_it_is_refused(zarr):
    os.mkfifo(zarr / "X" / "pipe")
    with pytest.raises(ValueError, match="no file but a pipe"):
        open_counts(zarr)


def test_links_that_lead_back_are_followed_once(h5ad, tmp_path):
    for name in ("again", "more"):
        (tmp_path / name).symlink_to(tmp_path)
    assert find_files(tmp_path) == [h5ad]
