"""Bad cells, through the Python verbs and through the command line: an error that names the mend, nothing left."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import grnlab as gl
from grnlab.cli import main

CASES = {}


def case(name, message, *, layer=None, groupby="cell_type"):
    """Register a way to spoil good cells, and what the error must say."""

    def register(spoil):
        CASES[name] = (spoil, message, layer, groupby)
        return spoil

    return register


def dense(adata):
    return adata.X.toarray()


@case("normalised", r"not whole numbers.*layer='counts'.*gl\.pp\.recover_counts\(adata\)")
def _(adata):
    adata.X = np.log1p(dense(adata) / dense(adata).sum(1, keepdims=True) * 1e4)


@case("negative", r"negative values \(down to -.*scaled or regressed data; raw counts are needed.*layer='counts'")
def _(adata):
    adata.X = dense(adata) - dense(adata).mean(0)


@case("NaN", r"1 NaN or infinite values \(the first in cell 3, gene 4\).*set the missing entries to 0")
def _(adata):
    adata.X = dense(adata)
    adata.X[3, 4] = np.nan


@case("infinite", r"1 NaN or infinite values")
def _(adata):
    adata.X = dense(adata)
    adata.X[3, 4] = np.inf


@case("boolean", r"dtype bool.*Load the raw counts")
def _(adata):
    adata.X = adata.X > 0


@case("all zero", r"shape \(20, \d+\) and 0 non-zero values")
def _(adata):
    adata.X = sp.csr_matrix(adata.shape)


@case("no genes", r"shape \(20, 0\)")
def _(adata):
    return adata[:, []].copy()


@case("no cells", r"shape \(0, \d+\)")
def _(adata):
    return adata[[]].copy()


@case(
    "one empty cell", r"1 cells have no counts, the first is 'cell7'.*scanpy\.pp\.filter_cells\(adata, min_counts=1\)"
)
def _(adata):
    X = dense(adata)
    X[7] = 0
    adata.X = sp.csr_matrix(X)


@case("no known gene", r"None of the \d+ gene names is known.*set adata\.var_names to it.*adata\.T")
def _(adata):
    adata.var_names = [f"probe_{number}" for number in range(adata.n_vars)]


@case("transposed", r"None of the 20 gene names is known.*adata\.T", groupby=None)
def _(adata):
    return adata.T.copy()


@case("one known gene", r"genes leaves 1 genes; a network needs at least two")
def _(adata):
    adata.var_names = ["TF0", *(f"probe_{number}" for number in range(1, adata.n_vars))]
    adata.X = adata.X + sp.csr_matrix(np.eye(1, adata.n_vars).repeat(20, axis=0))


@case("duplicated genes", r"1 gene names occur more than once.*'TF0'.*gl\.pp\.sum_duplicate_genes\(adata\)")
def _(adata):
    adata.var_names = ["TF0" if name == "GENE0" else name for name in adata.var_names]


@case(
    "mouse symbols", r"look like mouse genes.*knows Homo sapiens.*one-to-one orthologs, or load a model of that species"
)
def _(adata):
    adata.var_names = [f"Cd{'abcdefghij'[n // 10]}{'abcdefghij'[n % 10]}" for n in range(adata.n_vars)]


@case("mouse ids", r"look like mouse genes \(for example \['ENSMUSG00000000000'")
def _(adata):
    adata.var_names = [f"ENSMUSG{number:011d}" for number in range(adata.n_vars)]


@case(
    "unknown groupby",
    r"groupby='celltype' is not a column.*\['cell_type'\].*did you mean 'cell_type'\?",
    groupby="celltype",
)
def _(adata):
    pass


@case(
    "a group of one cell",
    r"1 of 3 groups of 'cell_type' have fewer than 5 cells: 'lonely' \(1\).*--skip-small.*--min-cells",
)
def _(adata):
    adata.obs["cell_type"] = ["lonely", *adata.obs["cell_type"][1:]]


@case("a continuous groupby", r"20 of 20 groups of 'depth' have fewer than 5 cells", groupby="depth")
def _(adata):
    adata.obs["depth"] = np.linspace(0, 1, 20)


@case("no label at all", r"no group of 'cell_type'")
def _(adata):
    adata.obs["cell_type"] = np.nan


@case("unknown layer", r"layer='umi' is not in adata\.layers; there are \['counts'\]", layer="umi")
def _(adata):
    adata.layers["counts"] = adata.X.copy()


@case("normalised layer", r"adata\.layers\['norm'\] holds values that are not whole numbers", layer="norm")
def _(adata):
    adata.layers["norm"] = adata.X * 0.3


@case("counts in a layer", r"adata\.layers\['umi'\] does hold counts: pass layer='umi' \(--layer umi\)")
def _(adata):
    adata.layers["umi"] = adata.X.copy()
    adata.X = adata.X * 0.3


@case("counts in raw", r"adata\.raw does hold counts: pass adata\.raw\.to_adata\(\)")
def _(adata):
    adata.raw = adata.copy()
    adata.X = adata.X * 0.3


@pytest.fixture
def spoilt(make_cells, request):
    spoil, message, layer, groupby = CASES[request.param]
    adata = make_cells()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        changed = spoil(adata)
    return (adata if changed is None else changed), message, layer, groupby


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("spoilt", CASES, indirect=True)
def test_the_verbs_name_the_mend_and_change_nothing(spoilt, human_model):
    adata, message, layer, groupby = spoilt
    before = adata.copy()
    with pytest.raises(ValueError, match=message):
        gl.tl.attention(adata, human_model, groupby=groupby, layer=layer)
    assert type(adata.X) is type(before.X)
    if adata.X is not None:
        difference = [x.toarray() if sp.issparse(x) else x for x in (adata.X, before.X)]
        np.testing.assert_array_equal(*difference)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("spoilt", CASES, indirect=True)
def test_the_command_names_the_mend_and_leaves_nothing(spoilt, checkpoint, tmp_path, capsys):
    adata, message, layer, groupby = spoilt
    data = tmp_path / "cells.h5ad"
    adata.write_h5ad(data)
    options = ["--groupby", groupby] if groupby else []
    options += ["--layer", layer] if layer else []
    before = data.read_bytes()
    status = main(["infer", str(data), "--out", str(tmp_path / "deep" / "out"), "--model", str(checkpoint), *options])
    out, err = capsys.readouterr()
    assert status == 2
    assert err.startswith("grnlab: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(err)
    assert "Traceback" not in err
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]
    assert data.read_bytes() == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, whole: None, "does not exist"),
        (lambda path, whole: path.mkdir(), "is a folder; name an .h5ad file"),
        (lambda path, whole: path.touch(), "is an empty file (0 bytes)"),
        (lambda path, whole: path.write_text("gene\tcount\n"), "cannot be read as h5ad"),
        (lambda path, whole: path.write_bytes(b"PK\x03\x04" + bytes(100)), "cannot be read as h5ad"),
        *[
            (lambda path, whole, share=share: path.write_bytes(whole[: int(share * len(whole))]), "is truncated or of")
            for share in (0.02, 0.3, 0.7, 0.99)
        ],
    ],
)
def test_the_command_names_unreadable_files(make, message, make_cells, checkpoint, tmp_path, capsys):
    whole = tmp_path / "whole.h5ad"
    make_cells().write_h5ad(whole)
    make(tmp_path / "cells.h5ad", whole.read_bytes())
    before = sorted(path.name for path in tmp_path.iterdir())
    status = main(["infer", str(tmp_path / "cells.h5ad"), "--out", str(tmp_path / "out"), "--model", str(checkpoint)])
    err = capsys.readouterr().err
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_repeated_names_of_cells_are_no_error(make_cells, human_model):
    adata = make_cells()
    expected = gl.tl.attention(adata, human_model, groupby="cell_type", genes=10)
    adata.obs_names = ["same"] * adata.n_obs
    found = gl.tl.attention(adata, human_model, groupby="cell_type", genes=10)
    np.testing.assert_array_equal(found.group("T cell").q_LHGD, expected.group("T cell").q_LHGD)


def test_an_anndata_without_x(human_model):
    with pytest.raises(ValueError, match=r"adata\.X is empty \(None\)"):
        gl.tl.attention(ad.AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["TF0"])), human_model)
