import json

import numpy as np
import pytest

from grnlab import tl
from grnlab.tasks._decode import embed_to_decode


@pytest.fixture
def adata(make_cells):
    return make_cells(n_each=15)


def predicted(adata, model, name):
    tl.annotate(adata, model)
    return adata.obsm[f"grnlab_{name}"]


def test_swapping_nothing_and_everything(class_model, adata):
    """With a share of 0 nothing changes; with 1, cells that differ in that class alone become the same."""
    table = predicted(adata, class_model, "disease")
    label = table.max().idxmax()
    tl.generate(adata, class_model, swap={"disease": label}, share=0.0, target_depth=500)
    np.testing.assert_allclose(adata.layers["generated"], adata.layers["generated_reference"])
    np.testing.assert_allclose(adata.layers["generated"].sum(1), 500, rtol=1e-4)
    tl.generate(adata, class_model, swap={"disease": label}, target_depth=500)
    half, reference = adata.layers["generated"].copy(), adata.layers["generated_reference"]
    assert np.abs(half - reference).max() > 0
    sure = np.sort(table[label])[::-1][:100]
    n_donors = json.loads(adata.uns["generated"]["provenance"])["donors"]["disease"]
    assert n_donors == (sure >= 0.5).sum()


def test_only_that_class_is_exchanged(class_model, adata, monkeypatch):
    table = predicted(adata, class_model, "cell_type")
    seen = []
    decode = class_model.decode_from_cell
    monkeypatch.setattr(class_model, "decode_from_cell", lambda *given: seen.append(given[0]) or decode(*given))
    tl.generate(adata, class_model, swap={"cell_type": "lymphocyte"})
    changed, own = seen
    assert (changed.cell_BM == own.cell_BM).all()
    assert (changed.classes_BM["disease"] == own.classes_BM["disease"]).all()
    _, embeddings = embed_to_decode(adata, class_model, layer=None, out=None)
    sure = table["lymphocyte"].to_numpy() >= 0.5
    mean = embeddings["class_cell_type"][sure].mean(0)
    assert np.ptp(changed.classes_BM["cell_type"].numpy(), axis=0).max() < 1e-6
    np.testing.assert_allclose(changed.classes_BM["cell_type"][0], mean, atol=1e-5)


def test_donors_and_folders(class_model, adata, make_cells, tmp_path):
    donors = make_cells(seed=4)
    label = predicted(donors, class_model, "disease").max().idxmax()
    tl.generate(adata, class_model, swap={"disease": label}, donors=donors, out=tmp_path / "out")
    tl.generate(donors, class_model, swap={"disease": label})
    assert adata.layers["generated"].shape == adata.shape
    assert not adata.layers["generated"][:, ~adata.var["generated"]].any()


def test_bad_input(class_model, human_model, adata):
    for swap, message in (
        ({}, "swap={} names no label"),
        ("T cell", "swap='T cell' names no label; give one for one of the classes"),
        ({"tissue": "gut"}, "swap names the class 'tissue'"),
        ({"disease": "cured"}, r"swap\['disease'\]='cured' is no label of the model"),
    ):
        with pytest.raises(ValueError, match=message):
            tl.generate(adata, class_model, swap=swap)
    with pytest.raises(ValueError, match="swap names the class"):
        tl.generate(adata, human_model, swap={"cell_type": "B cell"})
    with pytest.raises(ValueError, match="share=2"):
        tl.generate(adata, class_model, swap={"disease": "sick"}, share=2)
    with pytest.raises(ValueError, match="target_depth=0"):
        tl.generate(adata, class_model, swap={"disease": "sick"}, target_depth=0)
    table = predicted(adata, class_model, "cell_type").iloc[:, :4]
    unlikely = table.max().idxmin()
    few = adata[[int(np.argmin(table[unlikely]))]].copy()
    with pytest.raises(ValueError, match="no cell has the label asked for"):
        tl.generate(few, class_model, swap={"cell_type": unlikely})
    assert not adata.layers
