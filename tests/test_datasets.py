import numpy as np
import pytest

import grnlab as gl


def test_planted_has_the_sizes_and_names_asked_for():
    data = gl.datasets.planted(n_tfs=3, n_targets=5, n_hubs=2, n_cells=40, n_states=2, state_shift=1.0, seed=4)
    assert data.adata.shape == (40, 10)
    assert data.tfs == ["TF0", "TF1", "TF2"]
    assert data.others == [*(f"G{n}" for n in range(5)), "HUB0", "HUB1"]
    assert data.adata.obs["state"].nunique() == 2
    assert data.adata.obs["cell_type"].unique().tolist() == ["simulated"]
    assert data.vocab.symbols.tolist() == data.adata.var_names.tolist()
    assert data.vocab.symbols[data.vocab.is_tf].tolist() == data.tfs


def test_every_target_has_one_to_three_regulators_and_hubs_have_none():
    data = gl.datasets.planted(n_cells=10, seed=1)
    assert set(data.edges["source"]) <= set(data.tfs)
    per_target = data.edges.groupby("target").size()
    assert sorted(per_target.index) == sorted(name for name in data.others if name.startswith("G"))
    assert per_target.between(1, 3).all()
    assert set(data.edges["sign"]) == {-1, 1}
    assert not data.edges.duplicated(["source", "target"]).any()


def test_counts_are_seeded_whole_numbers():
    a, b, c = (gl.datasets.planted(n_cells=30, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.adata.X.toarray(), b.adata.X.toarray())
    assert a.edges.equals(b.edges)
    assert not np.array_equal(a.adata.X.toarray(), c.adata.X.toarray())
    np.testing.assert_array_equal(a.adata.X.toarray(), np.rint(a.adata.X.toarray()))


def test_edges_show_in_the_cells_with_their_sign_and_hubs_are_high():
    data = gl.datasets.planted(n_cells=3_000, seed=0)
    log = np.log1p(data.adata.to_df() / data.adata.X.sum(1) * 1e4)
    lone = data.edges[~data.edges["target"].duplicated(keep=False)]
    assert len(lone) >= 5
    for source, target, sign in lone[["source", "target", "sign"]].itertuples(index=False):
        assert sign * np.corrcoef(log[source], log[target])[0, 1] > 0.2
    hubs = log.columns.str.startswith("HUB")
    assert log.loc[:, hubs].mean().min() > log.loc[:, ~hubs].mean().max()


def test_states_confound_correlation():
    """States that shift all regulators make a regulator correlate with targets it does not regulate."""

    def strangers(n_states, shift):
        data = gl.datasets.planted(n_cells=2_000, n_states=n_states, state_shift=shift, seed=0)
        log = np.log1p(data.adata.to_df())
        edges = set(zip(data.edges["source"], data.edges["target"], strict=True))
        pairs = [(s, t) for s in data.tfs for t in data.others if t.startswith("G") and (s, t) not in edges]
        return np.mean([abs(np.corrcoef(log[s], log[t])[0, 1]) for s, t in pairs])

    assert strangers(4, 1.5) > 1.5 * strangers(1, 0.0)


@pytest.mark.parametrize("name", ["planted", "pbmc68k", "PlantedNetwork"])
def test_names_are_public(name):
    assert name in gl.datasets.__all__
