import json

import numpy as np
import pytest
import torch

from grnlab import tl
from grnlab.tasks import annotate as annotate_verb
from grnlab.tasks.annotate import UNKNOWN, _write
from grnlab.tasks.known import fit_known

LEAVES = ("B cell", "T cell", "NK cell", "monocyte")


def labels_of(probabilities, *, groups=None, far=None, top_k=2):
    from anndata import AnnData

    adata = AnnData(np.ones((len(probabilities), 1), dtype=np.float32))
    logits = np.log(np.array(probabilities))
    _write(adata, "cell_type", logits, leaves=LEAVES, groups=groups or {}, top_k=top_k, far=far)
    return adata


def test_levels():
    """A sure leaf; a sure group of unsure leaves; the smaller of two groups; nothing sure."""
    groups = {"cell": LEAVES, "lymphocyte": LEAVES[:3], "cytotoxic": ("T cell", "NK cell")}
    adata = labels_of(
        [[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.3, 0.4, 0.2], [0.24, 0.24, 0.01, 0.51]], groups=groups
    )
    assert list(adata.obs["grnlab_cell_type"]) == ["B cell", "lymphocyte", "cytotoxic", "monocyte"]
    np.testing.assert_allclose(adata.obs["grnlab_cell_type_probability"], [0.7, 0.9, 0.7, 0.51])
    table = adata.obsm["grnlab_cell_type"]
    assert list(table) == [*LEAVES, *groups]
    np.testing.assert_allclose(table["lymphocyte"], table[list(LEAVES[:3])].sum(axis=1))
    top = adata.obsm["grnlab_cell_type_top"]
    assert list(top["label_1"]) == ["B cell", "B cell", "NK cell", "monocyte"]
    assert list(top["label_2"][1:3]) == ["T cell", "T cell"]
    unsure = labels_of([[0.4, 0.3, 0.2, 0.1], [0.25] * 4])
    assert list(unsure.obs["grnlab_cell_type"]) == [UNKNOWN] * 2
    assert unsure.obs["grnlab_cell_type_uncertainty"].iloc[1] == pytest.approx(1.0)


def test_far_cells_are_outside_however_sure():
    adata = labels_of([[0.97, 0.01, 0.01, 0.01]] * 2, far=np.array([0.5, 1.5]))
    assert list(adata.obs["grnlab_cell_type"]) == ["B cell", UNKNOWN]
    assert list(adata.obs["grnlab_cell_type_outside"]) == [0.5, 1.5]
    assert adata.obs["grnlab_cell_type_probability"].iloc[1] == pytest.approx(0.97)
    unsure = labels_of([[0.4, 0.3, 0.2, 0.1]] * 2, groups={"lymphocyte": LEAVES[:3]}, far=np.array([0.5, 1.5]))
    assert list(unsure.obs["grnlab_cell_type"]) == ["lymphocyte", UNKNOWN]
    np.testing.assert_allclose(unsure.obs["grnlab_cell_type_probability"], [0.9, 0.4])  # of the leaf, when outside


def test_slots_are_those_of_the_model(class_model, make_cells, same, tmp_path):
    adata = make_cells()
    tl.embed(adata, class_model)
    tl.annotate(adata, class_model, groupby="cell_type")
    for name in ("cell_type", "disease"):
        logits = torch.tensor(adata.obsm[f"X_grnlab_{name}_logits"])
        table = adata.obsm[f"grnlab_{name}"]
        same(table[list(class_model.config.classes[name])], logits.softmax(-1))
    same(adata.obsm["grnlab_cell_type"]["lymphocyte"], adata.obsm["grnlab_cell_type"].iloc[:, :3].sum(axis=1))
    voted = adata.obs.groupby("cell_type", observed=True)["grnlab_disease_voted"].nunique()
    assert (voted == 1).all()
    for group, cells in adata.obs.groupby("cell_type", observed=True):
        counts = cells["grnlab_disease"].astype(str).value_counts()
        assert counts[cells["grnlab_disease_voted"].iloc[0]] == counts.max(), group
    assert json.loads(adata.uns["grnlab_annotation"]["provenance"])["outside"] == "not calibrated"
    adata.write_h5ad(tmp_path / "cells.h5ad")  # tables and all


def test_calibration_of_these_weights_only(class_model, make_cells):
    adata = make_cells(n_each=30)
    tl.embed(adata, class_model)
    x, labels = adata.obsm["X_grnlab_cell_type"], adata.obs["cell_type"].to_numpy()
    known = fit_known(x, labels, class_name="cell_type")
    tl.annotate(adata, class_model, known=known)
    best = adata.obsm["grnlab_cell_type_top"]["label_1"].astype(str)
    expected = np.where(best.isin(known.labels), known.distance(x) / known.threshold, np.nan)
    np.testing.assert_allclose(adata.obs["grnlab_cell_type_outside"], expected, rtol=1e-3)
    assert (adata.obs["grnlab_cell_type"][adata.obs["grnlab_cell_type_outside"] > 1] == UNKNOWN).all()
    assert "grnlab_disease_outside" not in adata.obs
    with pytest.raises(ValueError, match="made with weights 'other'"):
        tl.annotate(adata, class_model, known=fit_known(x, labels, class_name="cell_type", weights_sha256="other"))
    with pytest.raises(ValueError, match="about the class 'sex'"):
        tl.annotate(adata, class_model, known=fit_known(x, labels, class_name="sex"))


def test_bad_arguments(class_model, human_model, make_cells):
    adata = make_cells()
    with pytest.raises(ValueError, match="has no classes to annotate by"):
        annotate_verb(adata, human_model)
    with pytest.raises(ValueError, match=r"classes=\['tissue'\].*'cell_type', 'disease'"):
        annotate_verb(adata, class_model, classes=["tissue"])
    with pytest.raises(ValueError, match="groupby='leiden' is not a column"):
        annotate_verb(adata, class_model, groupby="leiden")
    with pytest.raises(ValueError, match="top_k=0"):
        annotate_verb(adata, class_model, top_k=0)
    assert list(adata.obs) == ["cell_type"]
