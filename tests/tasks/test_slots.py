"""Nothing is overwritten that another hand wrote, and no folder is gone on with that holds other results."""

import shutil
import sys

import numpy as np
import pytest

from grnlab import tl

SWAP = {"cell_type": "T cell"}


@pytest.fixture
def verbs(class_model):
    """Verbs with a `key`, by name; generate takes whichever cells are surest."""

    def generate(adata, **given):
        tl.generate(adata, class_model, swap=SWAP, **given)

    return {
        "embed": lambda adata, **given: tl.embed(adata, class_model, **given),
        "denoise": lambda adata, **given: tl.denoise(adata, class_model, neighbors=4, **given),
        "generate": generate,
    }


@pytest.fixture
def sure(monkeypatch):
    """Every cell may be a donor."""
    monkeypatch.setattr(sys.modules["grnlab.tasks.generate"], "_SURE", 0.0)


@pytest.mark.parametrize("verb", ["denoise", "generate"])
@pytest.mark.parametrize("given", [{"key": "counts"}, {"key": "raw", "layer": "raw"}])
def test_counts_in_a_layer_stay(verbs, make_cells, sure, verb, given):
    adata = make_cells()
    adata.layers["counts"], adata.layers["raw"] = adata.X.copy(), adata.X.copy()
    with pytest.raises(ValueError, match="would overwrite"):
        verbs[verb](adata, **given)
    assert set(adata.layers) == {"counts", "raw"}
    assert (adata.layers["counts"] != adata.X).nnz == 0
    assert (adata.layers["raw"] != adata.X).nnz == 0


def test_slots_of_others_stay_and_own_ones_are_made_anew(verbs, make_cells, sure):
    adata = make_cells()
    adata.obsm["X_pca"] = np.zeros((20, 2))
    with pytest.raises(ValueError, match=r"key='X_pca' would overwrite adata\.obsm\['X_pca'\]; choose another key"):
        verbs["embed"](adata, key="X_pca")
    assert adata.obsm["X_pca"].shape == (20, 2)
    verbs["denoise"](adata)
    verbs["denoise"](adata, n_samples=1)
    with pytest.raises(ValueError, match=r"adata\.layers\['denoised'\]"):
        verbs["generate"](adata, key="denoised")
    with pytest.raises(ValueError, match="would overwrite the counts"):
        verbs["denoise"](adata, layer="denoised_counts")
    for key in ("", "a/b", None):
        with pytest.raises(ValueError, match="must be a name without '/'"):
            verbs["embed"](adata, key=key)


@pytest.mark.parametrize("verb", ["denoise", "generate"])
def test_a_folder_of_other_columns_is_refused(verbs, make_cells, sure, tmp_path, verb):
    adata = make_cells()
    verbs[verb](adata, out=tmp_path / "out")
    order = np.random.default_rng(0).permutation(adata.n_vars)
    with pytest.raises(FileExistsError, match="holds a run on other cells"):
        verbs[verb](make_cells()[:, order].copy(), out=tmp_path / "out")
    counts = make_cells()
    counts.X[:, -1] = counts.X[:, -1].toarray()[::-1]  # of a gene the model does not know, totals change too
    with pytest.raises(FileExistsError, match="holds a run on other cells"):
        verbs[verb](counts, out=tmp_path / "out")


def test_embeddings_go_on_whatever_the_order_but_not_with_other_totals(verbs, make_cells, tmp_path):
    adata, mixed, deeper = make_cells(), make_cells(), make_cells()
    verbs["embed"](adata, out=tmp_path / "out")
    mixed = mixed[:, ::-1].copy()
    verbs["embed"](mixed, out=tmp_path / "out")
    np.testing.assert_array_equal(mixed.obsm["X_grnlab"], adata.obsm["X_grnlab"])
    deeper.X[:, -1] = deeper.X[:, -1].toarray() + 5
    with pytest.raises(FileExistsError, match="holds a run on other cells"):
        verbs["embed"](deeper, out=tmp_path / "out")


def test_depths_in_a_list_decide(class_model, make_cells, tmp_path):
    depths = np.linspace(500, 900, 20)
    tl.denoise(make_cells(), class_model, neighbors=4, target_depth=list(depths), out=tmp_path / "out")
    with pytest.raises(FileExistsError, match="settings"):
        tl.denoise(make_cells(), class_model, neighbors=4, target_depth=list(depths[::-1]), out=tmp_path / "out")


@pytest.mark.parametrize("harm", ["state", "empty", "gone", "short"])
def test_a_damaged_folder_is_told(verbs, make_cells, tmp_path, harm):
    out = tmp_path / "out"
    verbs["embed"](make_cells(), out=out)
    if harm in ("state", "empty"):
        (out / "run.json").write_text("{" if harm == "state" else "[]")
    elif harm == "gone":
        (out / "X_grnlab.npy").unlink()
    else:
        shutil.copy(out / "X_grnlab.npy", tmp_path / "other.npy")
        np.save(out / "X_grnlab.npy", np.load(tmp_path / "other.npy")[:3])
    with pytest.raises(ValueError, match=r"holds a run that cannot be read .*; delete the folder"):
        verbs["embed"](make_cells(), out=out)


@pytest.mark.parametrize("verb", ["embed", "denoise", "annotate", "fine_tune", "gene_importance", "generate"])
def test_what_is_no_data_or_no_model(make_cells, class_model, verb):
    def call(adata, model):
        given = {"fine_tune": {"target": "cell_type"}, "generate": {"swap": SWAP}}.get(verb, {})
        return getattr(tl, verb)(adata, model, **given)

    with pytest.raises(ValueError, match=r"adata is a str; expected an AnnData: read it with grnlab\.io\.read"):
        call("cells.h5ad", class_model)
    with pytest.raises(ValueError, match=r"model must be a backbone, see grnlab\.load_model; got 'grnlab-small'"):
        call(make_cells(), "grnlab-small")
    with pytest.raises(ValueError, match=r"(adata is a ScPrint|model must be a backbone)"):
        call(class_model, make_cells())


def test_nothing_of_a_former_run_stays(class_model, human_model, make_cells):
    adata = make_cells()
    adata.obsm["X_grnlab_mine"] = np.zeros((20, 2))
    tl.embed(adata, class_model)
    tl.embed(adata, human_model)  # without classes
    assert set(adata.obsm) == {"X_grnlab", "X_grnlab_mine"}
    tl.denoise(adata, class_model, neighbors=4, n_samples=2)
    tl.denoise(adata, class_model, neighbors=4, n_samples=1)
    assert set(adata.layers) == {"denoised", "denoised_counts", "denoised_sample1"}
    tl.annotate(adata, class_model, groupby="cell_type")
    adata.obs["grnlab_cell_type_outside"] = 2.0
    tl.annotate(adata, class_model)
    assert not {"grnlab_cell_type_outside", "grnlab_cell_type_voted"} & set(adata.obs)


def test_numbers_and_names(verbs, make_cells, class_model):
    adata = make_cells()
    for given in ({"neighbors": 2.5}, {"n_samples": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(given))}=.* must be a whole number"):
            tl.denoise(adata, class_model, **({"neighbors": 4} | given))
    tl.annotate(adata, class_model, classes="cell_type")
    assert "grnlab_disease" not in adata.obs
    with pytest.raises(ValueError, match="classes is empty; name some of"):
        tl.annotate(adata, class_model, classes=[])
