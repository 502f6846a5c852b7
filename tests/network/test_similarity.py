import numpy as np
import pytest

from grnlab.network import from_embedding


def test_nearest_genes_against_a_loop(monkeypatch):
    monkeypatch.setattr("grnlab.network.similarity._BLOCK", 7)
    values = np.random.default_rng(0).normal(size=(23, 4))
    names = [f"G{i}" for i in range(23)]
    net = from_embedding(values, names, name="near", top_k=3, minimum=0.2)
    cosine = values @ values.T
    cosine /= np.linalg.norm(values, axis=1)[:, None] * np.linalg.norm(values, axis=1)
    for row, gene in enumerate(names):
        order = [i for i in np.argsort(-cosine[row]) if i != row][:3]
        expected = [names[i] for i in order if cosine[row, i] > 0.2]
        assert net.regulators(gene)["source"].tolist() == expected


def test_few_or_odd_genes():
    assert len(from_embedding(np.ones((1, 2)), ["A"], name="one").edges) == 0
    assert len(from_embedding(np.ones((0, 2)), [], name="none").genes) == 0
    assert len(from_embedding(np.zeros((3, 2)), ["A", "B", "C"], name="zeros").edges) == 0
    with pytest.raises(ValueError, match="one row for each of the 3 genes"):
        from_embedding(np.ones((2, 3)), ["A", "B", "C"], name="x")
    with pytest.raises(ValueError, match="not finite"):
        from_embedding(np.full((2, 2), np.nan), ["A", "B"], name="x")
    with pytest.raises(ValueError, match="minimum must be a number"):
        from_embedding(np.ones((2, 2)), ["A", "B"], name="x", minimum=np.nan)
