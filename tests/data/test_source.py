import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from grnlab.data import files, source
from grnlab.data.select import select_genes
from grnlab.data.source import CellSource


@pytest.fixture
def adata(make_cells):
    return make_cells(n_each=15)


def whole(cells, **options):
    with_first = list(cells.blocks(0, cells.n_cells, **options))
    assert [first for first, _ in with_first][:1] == [0]
    return sp.vstack([block for _, block in with_first]).toarray()


@pytest.mark.parametrize("n_values", [1, 40, 10**6])
@pytest.mark.parametrize("kind", ["memory", "dense", "h5ad", "zarr", "backed"])
def test_blocks_are_the_counts(adata, tmp_path, monkeypatch, kind, n_values):
    monkeypatch.setattr(files, "_BLOCK_VALUES", n_values)
    expected = adata.X.toarray()
    data = adata
    if kind == "dense":
        data.X = expected.copy()
    elif kind == "zarr":
        adata.write_zarr(data := tmp_path / "cells.zarr")
    elif kind in ("h5ad", "backed"):
        adata.write_h5ad(data := tmp_path / "cells.h5ad")
        data = ad.read_h5ad(data, backed="r") if kind == "backed" else data
    cells = CellSource(data)
    np.testing.assert_array_equal(whole(cells), expected)
    assert cells.shape == expected.shape
    assert cells.cell_name(3) == "cell3"
    assert list(cells.obs("cell_type")["cell_type"]) == list(adata.obs["cell_type"])
    (first, block), *_ = cells.blocks(7, 8)
    assert first == 7
    np.testing.assert_array_equal(block.toarray()[0], expected[7])
    cells.close()


def test_no_more_is_read_than_a_block(adata, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BLOCK_VALUES", 100)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    sizes = [block.shape[0] for _, block in CellSource(tmp_path / "cells.h5ad").blocks(0, 30)]
    assert max(sizes) <= 100 / (adata.X.nnz / 30) + 1


@pytest.mark.parametrize("n_values", [50, 300])
def test_genes_chosen_do_not_depend_on_the_blocks(adata, monkeypatch, n_values):
    counts, names = sp.csr_matrix(adata.X), adata.var_names.to_numpy()
    is_tf = np.char.startswith(names.astype(str), "TF")
    expected = select_genes(counts, names, is_tf, 12)
    monkeypatch.setattr(files, "_BLOCK_VALUES", n_values)
    np.testing.assert_array_equal(select_genes(counts, names, is_tf, 12), expected)


def test_the_identity_is_that_of_the_counts(adata, tmp_path):
    before = CellSource(adata).identity()
    assert CellSource(adata.copy()).identity() == before
    changed = adata.copy()
    changed.X.data[0] += 1
    assert CellSource(changed).identity() != before
    adata.write_h5ad(tmp_path / "cells.h5ad")
    stored = CellSource(tmp_path / "cells.h5ad").identity()
    assert CellSource(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")).identity() == stored


def test_a_large_matrix_stored_by_columns_is_refused(adata, tmp_path, monkeypatch):
    adata.X = sp.csc_matrix(adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(whole(CellSource(tmp_path / "cells.h5ad")), adata.X.toarray())
    monkeypatch.setattr(source, "_LARGEST_BY_COLUMNS", 100)
    with pytest.raises(ValueError, match=r"cells\.h5ad: X is stored by columns \(CSC\).*adata\.X\.tocsr\(\)"):
        CellSource(tmp_path / "cells.h5ad")


def test_a_normalised_block_far_down_is_told(adata, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BLOCK_VALUES", 100)
    adata.layers["umi"] = adata.X.copy()
    adata.X[25] = adata.X[25] * 0.5
    adata.write_h5ad(tmp_path / "cells.h5ad")
    cells = CellSource(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match=r"adata\.X\[\d+:\d+\] holds values that are not whole.*pass layer='umi'"):
        whole(cells)
