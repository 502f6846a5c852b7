import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

import grnlab as gl


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_matrix.toarray])
@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_counts_come_as_csr_whatever_the_file_holds(make_cells, tmp_path, kind, dtype):
    adata = make_cells()
    expected = adata.X.toarray()
    adata.X = kind(adata.X.astype(dtype))
    adata.write_h5ad(tmp_path / "x.h5ad")
    found = gl.io.read(tmp_path / "x.h5ad")
    assert isinstance(found.X, sp.csr_matrix)
    assert found.X.dtype == np.float32
    np.testing.assert_array_equal(found.X.toarray(), expected)
    assert found.obs["cell_type"].tolist() == adata.obs["cell_type"].tolist()


def test_counts_of_a_layer_become_x(make_cells, tmp_path):
    adata = make_cells()
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X * 0.3
    adata.write_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(
        gl.io.read(str(tmp_path / "x.h5ad"), layer="counts").X.toarray(), adata.layers["counts"].toarray()
    )
    with pytest.raises(ValueError, match=r"layers\['counts'\] does hold counts"):
        gl.io.read(tmp_path / "x.h5ad")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.h5ad does not exist"):
        gl.io.read(tmp_path / "x.h5ad")


def test_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder; name an \.h5ad file"):
        gl.io.read(tmp_path)


def test_an_empty_file(tmp_path):
    (tmp_path / "x.h5ad").touch()
    with pytest.raises(ValueError, match=r"empty file \(0 bytes\); write or download it again"):
        gl.io.read(tmp_path / "x.h5ad")


@pytest.mark.parametrize("content", [b"gene,count\n", b"PK\x03\x04" + bytes(50), b"\x89HDF\r\n\x1a\n", b"\x1f\x8b\x08"])
def test_other_formats(tmp_path, content):
    (tmp_path / "x.h5ad").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read as h5ad.*download or write it again"):
        gl.io.read(tmp_path / "x.h5ad")


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file(make_cells, tmp_path, share):
    make_cells().write_h5ad(tmp_path / "whole.h5ad")
    whole = (tmp_path / "whole.h5ad").read_bytes()
    (tmp_path / "x.h5ad").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cannot be read as h5ad.*truncated"):
        gl.io.read(tmp_path / "x.h5ad")


def test_a_download_that_stopped_in_a_file_of_full_length(make_cells, tmp_path):
    make_cells().write_h5ad(tmp_path / "whole.h5ad")
    whole = (tmp_path / "whole.h5ad").read_bytes()
    (tmp_path / "x.h5ad").write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(ValueError, match=r"cannot be read as h5ad"):
        gl.io.read(tmp_path / "x.h5ad")


def test_another_kind_of_hdf5(tmp_path):
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        file["matrix/data"] = np.arange(3)
    with pytest.raises(ValueError, match=r"cannot be read as h5ad|holds no|is empty \(None\)"):
        gl.io.read(tmp_path / "x.h5ad")


def test_a_file_without_x(tmp_path):
    ad.AnnData(obs={"cell_type": ["a"]}).write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(ValueError, match=r"adata\.X is empty \(None\); put the raw counts there, or name the layer"):
        gl.io.read(tmp_path / "x.h5ad")


def test_reading_changes_no_file(make_cells, tmp_path):
    make_cells().write_h5ad(tmp_path / "x.h5ad")
    before = (tmp_path / "x.h5ad").read_bytes()
    gl.io.read(tmp_path / "x.h5ad")
    assert (tmp_path / "x.h5ad").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5ad"]


def test_files_of_other_programs_name_their_reader(make_cells, tmp_path):
    (tmp_path / "filtered").mkdir()
    (tmp_path / "filtered" / "matrix.mtx.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"folder of Cell Ranger: read it with scanpy\.read_10x_mtx"):
        gl.io.read(tmp_path / "filtered")
    make_cells().write_zarr(tmp_path / "x.zarr")
    with pytest.raises(ValueError, match=r"zarr store: give its path to grnlab\.tl\.attention"):
        gl.io.read(tmp_path / "x.zarr")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("matrix")["barcodes"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"perhaps scanpy\.read_10x_h5"):
        gl.io.read(tmp_path / "x.h5")
    (tmp_path / "x.loom").write_text("no counts")
    with pytest.raises(ValueError, match=r"read with scanpy \(here perhaps scanpy\.read\)"):
        gl.io.read(tmp_path / "x.loom")
