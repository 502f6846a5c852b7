import numpy as np
import pytest

from grnlab.tasks.known import KnownCells, builtin_known, fit_known


@pytest.fixture(scope="module")
def clusters():
    """Three labels far apart in four dimensions, correlated within; and too few cells of a fourth."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "few"], [120, 120, 120, 5])
    centres = {"a": [0, 0, 0, 0], "b": [12, 0, 0, 0], "c": [0, 12, 0, 0], "few": [0, 0, 12, 0]}
    spread = np.array([[1, 0.9, 0, 0], [0.9, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    x = rng.multivariate_normal(np.zeros(4), spread, len(labels)) + np.array([centres[label] for label in labels])
    return x, labels


def test_false_alarms_are_as_asked_and_held_out_labels_are_told(clusters):
    x, labels = clusters
    known = fit_known(x, labels, class_name="cell_type", false_alarms=0.1)
    assert known.labels == ("a", "b", "c")
    fresh = np.random.default_rng(1).multivariate_normal(np.zeros(4), np.cov(x[:120].T), 2_000)
    assert 0.05 < (known.distance(fresh) > known.threshold).mean() < 0.2
    assert (known.distance(x[labels == "few"]) > known.threshold).all()
    assert all(share > 0.95 for share in known.report["told_when_held_out"].values())


def test_distance_is_that_of_mahalanobis(clusters):
    x, labels = clusters
    known = fit_known(x, labels, class_name="cell_type")
    for cell in x[::50]:
        expected = min((cell - mean) @ known.precision_MM @ (cell - mean) for mean in known.means_KM)
        assert known.distance(cell[None])[0] == pytest.approx(expected, rel=1e-6)


def test_files(clusters, tmp_path):
    x, labels = clusters
    known = fit_known(x, labels, class_name="cell_type", weights_sha256="abc")
    known.save(tmp_path / "known.npz")
    again = KnownCells.load(tmp_path / "known.npz")
    assert (again.class_name, again.labels, again.weights_sha256) == ("cell_type", ("a", "b", "c"), "abc")
    np.testing.assert_allclose(again.distance(x), known.distance(x), rtol=1e-4)
    assert again.report == known.report
    with pytest.raises(FileExistsError):
        known.save(tmp_path / "known.npz")
    (tmp_path / "other.npz").write_bytes(b"no file of numpy")
    with pytest.raises(ValueError, match="no file of known cells"):
        KnownCells.load(tmp_path / "other.npz")
    assert builtin_known("0" * 64) is None


def test_bad_settings(clusters):
    x, labels = clusters
    with pytest.raises(ValueError, match="false_alarms=2"):
        fit_known(x, labels, class_name="cell_type", false_alarms=2)
    with pytest.raises(ValueError, match="two are needed"):
        fit_known(x[:120], labels[:120], class_name="cell_type")
    missing = np.where(labels == "a", None, labels.astype(object))
    for bad in ((np.where(x > 5, np.nan, x), labels), (x, labels[1:]), (x, missing)):
        with pytest.raises(ValueError, match="each cell needs a label and finite values"):
            fit_known(*bad, class_name="cell_type")


def test_the_built_in_model_has_a_calibration():
    """Cells of the demo are known, by and large; embeddings of noise are not."""
    import grnlab as gl

    model = gl.load_model("grnlab-small")
    known = builtin_known(model.weights_hash)
    assert known is not None
    assert set(known.labels) <= set(model.config.classes["cell_type"])
    adata = gl.datasets.pbmc68k()[::20].copy()
    gl.tl.annotate(adata, model, top_k=1)
    assert (adata.obs["grnlab_cell_type_outside"] > 1).mean() < 0.5
    noise = np.random.default_rng(0).normal(scale=3.0, size=(20, known.means_KM.shape[1]))
    assert (known.distance(noise) > known.threshold).all()
