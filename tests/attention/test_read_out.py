import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grnlab as gl
from grnlab.attention import READOUTS, ReadOutConfig, read_out
from grnlab.attention.group_scores import _levels
from grnlab.backbones import AttentionSpec

FAST = ReadOutConfig(n_steps=3, quantiles=(1.0,))
SIGNED = {"jacobian", "perturbation", "integrated_gradients"}


def run(adata, model, method, **more):
    options = {"genes": "all", "min_fraction": 0.0, "config": FAST, "max_cells": 4} | more
    return read_out(adata, model, method, **options)


@pytest.mark.parametrize("context", ["shared", "expressed"])
@pytest.mark.parametrize("method", READOUTS)
def test_every_read_out_scores_the_pairs_of_each_group(human_model, make_cells, method, context):
    found = run(make_cells(), human_model, method, groupby="cell_type", context=context)
    assert list(found.groups) == ["B cell", "T cell"]
    assert found.n_cells == {"B cell": 4, "T cell": 4}
    assert found.method == method
    assert found.signed == (method in SIGNED)
    assert found.genes["is_tf"].iloc[found.regulators].all()
    assert len(found.targets) == len(found.genes)
    assert found.provenance["readout"] == method
    assert found.provenance["seed"] == 0
    assert found.provenance["config"]["mask_rate"] == 0.3
    for values in found.groups.values():
        assert np.isfinite(values).mean() > 0.1
        assert np.nanstd(values) > 0
        assert (np.nanmin(values) < 0) == (method in SIGNED | {"attention_apc", "cosine", "cosine_centred"})
    assert not np.array_equal(found.group("B cell"), found.group("T cell"), equal_nan=True) or method == "cosine"


@pytest.mark.parametrize("method", READOUTS)
def test_permuted_columns_change_nothing(human_model, make_cells, method):
    adata = make_cells()
    permuted = adata[:, np.random.default_rng(1).permutation(adata.n_vars)].copy()
    first, second = (run(cells, human_model, method, max_cells=3) for cells in (adata, permuted))
    assert list(first.genes.index) == list(second.genes.index)
    np.testing.assert_array_equal(first.group("all"), second.group("all"))


@pytest.mark.parametrize("method", ["attention", "attention_cells", "attention_gradient", "jacobian"])
def test_a_group_is_the_same_alone(human_model, make_cells, method):
    adata = make_cells()
    names = list(run(adata, human_model, "cosine").genes.index)
    both = run(adata, human_model, method, groupby="cell_type", genes=names)
    alone = run(adata[adata.obs["cell_type"] == "T cell"].copy(), human_model, method, groupby="cell_type", genes=names)
    np.testing.assert_array_equal(alone.group("T cell"), both.group("T cell"))


@pytest.mark.parametrize("method", ["value_norm", "attention_gradient", "jacobian", "perturbation"])
def test_seeds_choose_cells_and_hidden_genes(human_model, make_cells, method):
    adata = make_cells()
    first, again, other = (run(adata, human_model, method, seed=seed).group("all") for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other, equal_nan=True)


def test_scores_are_the_mean_over_the_cells_that_show_the_pair(human_model, make_cells):
    adata = make_cells(groups=("B cell",), n_each=12)
    names = list(run(adata, human_model, "cosine").genes.index)
    whole = run(adata, human_model, "value_norm", genes=names, max_cells=None).group("all")
    cells = [adata[[cell]].copy() for cell in range(12)]
    alone = [run(cell, human_model, "value_norm", genes=names, min_cells=1).group("all") for cell in cells]
    seen = (~np.isnan(alone)).sum(axis=0)
    scored = ~np.isnan(whole)
    assert scored.mean() > 0.3
    assert 0 < seen[scored].min() < 12
    np.testing.assert_allclose(whole[scored], (np.nansum(alone, axis=0) / seen.clip(1))[scored], rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("attention", {"symmetrize": True}),
        ("attention_directed", {}),
        ("attention_apc", {"symmetrize": True, "apc": True}),
    ],
)
def test_pooled_read_outs_are_the_attention_maps(human_model, make_cells, method, options):
    adata = make_cells()
    maps = gl.tl.attention(adata, human_model, genes="all")
    found = run(adata, human_model, method, max_cells=None)
    rows = np.flatnonzero((maps.expression["all"]["fraction_expressed"] * adata.n_obs).round() >= 5)
    want = np.full((len(maps.genes), len(maps.genes)), np.nan)
    want[np.ix_(rows, rows)] = maps.dense("all", rows=rows, **options).T
    np.fill_diagonal(want, np.nan)
    np.testing.assert_allclose(found.group("all"), want[np.ix_(found.regulators, found.targets)], atol=1e-6)


def test_rare_genes_are_not_scored(human_model, make_cells):
    adata = make_cells()
    for method in ("attention", "cosine", "value_norm"):
        found = run(adata, human_model, method, min_fraction=0.6, max_cells=None)
        rare = found.expression["all"]["fraction_expressed"].to_numpy() < 0.6
        assert 5 < rare.sum() < len(rare) - 5
        assert np.isnan(found.group("all")[:, rare[found.targets]]).all()
        assert np.isnan(found.group("all")[rare[found.regulators]]).all()


def test_regulators_and_targets_by_name(human_model, make_cells):
    adata = make_cells()
    whole = run(adata, human_model, "attention_cells", regulators="all")
    names = whole.genes.index
    regulators, targets = [names[11], names[3]], [names[0], names[20], names[11]]
    found = run(adata, human_model, "attention_cells", regulators=regulators, targets=targets)
    assert found.regulators.tolist() == [3, 11]
    assert found.targets.tolist() == [0, 11, 20]
    np.testing.assert_array_equal(found.group("all"), whole.group("all")[np.ix_([3, 11], [0, 11, 20])])
    factors = run(adata, human_model, "attention_cells", targets="tf")
    assert factors.genes["is_tf"].iloc[factors.targets].all()


@given(seed=st.integers(0, 1_000), quantiles=st.lists(st.floats(0, 1), min_size=1, max_size=4))
@settings(max_examples=30)
def test_levels_rise_from_zero(make_cells, seed, quantiles):
    counts = make_cells(seed=seed % 7).X.tocsc()
    levels = _levels(counts, tuple(quantiles), seed % counts.shape[1])
    assert levels[0] == 0
    assert len(levels) > 1
    assert (np.diff(levels) > 0).all()
    assert levels[-1] <= max(counts[:, seed % counts.shape[1]].max(), 1)


class AttentionOnly:
    """A backbone whose queries and keys are all it gives."""

    def __init__(self, model):
        self.name, self.vocab, self.attention = "attention only", model.vocab, model.attention
        self.encode, self.record_qk, self.tokenize = model.encode, model.record_qk, model.tokenize


@pytest.mark.parametrize(
    ("method", "needs"),
    [
        ("value_norm", "gives the output projections of its attention; 'attention only' has no output_projections"),
        ("attention_gradient", "predicts counts; 'attention only' has no decode"),
        ("jacobian", "predicts counts"),
        ("perturbation", "predicts counts"),
        ("integrated_gradients", "predicts counts"),
        ("cosine", "one embedding per gene"),
    ],
)
def test_a_model_that_cannot_serve_a_method_is_told_why(human_model, make_cells, method, needs):
    with pytest.raises(ValueError, match=needs) as error:
        read_out(make_cells(), AttentionOnly(human_model), method)
    assert "It can serve ['attention', 'attention_directed', 'attention_apc', 'attention_cells']" in str(error.value)


def test_attention_that_is_neither_softmax_nor_kernel():
    with pytest.raises(ValueError, match=r"kind='cross' is unknown; choose one of \('softmax', 'kernel', 'two_hop'\)"):
        AttentionSpec(1, 2, 4, 1.0, 0, "cross")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "guess"}, "method='guess' is unknown; choose one of"),
        ({"regulators": "some"}, "regulators='some' is unknown; choose 'tf' or 'all'"),
        ({"targets": ["NOT A GENE"]}, r"targets holds 1 names .*: \['NOT A GENE'\]"),
        ({"max_cells": 0}, "max_cells=0 must be a whole number of at least 1"),
        ({"max_cells": 1.5}, "max_cells=1.5 must be a whole number"),
        ({"seed": -1}, "seed=-1 must be a whole number"),
        ({"seed": "x"}, "seed='x' must be a whole number"),
        ({"min_fraction": 2}, "min_fraction=2 must lie between 0 and 1"),
        ({"min_fraction": np.nan}, "min_fraction=nan must lie between 0 and 1"),
        ({"regulators": []}, "regulators is empty"),
        ({"context": "both"}, "context='both' is unknown"),
    ],
)
def test_errors(human_model, make_cells, options, message):
    with pytest.raises(ValueError, match=message):
        run(make_cells(), human_model, **({"method": "cosine"} | options))


def test_no_transcription_factor_is_named(human_model, make_cells):
    adata = make_cells()
    genes = [name for name in adata.var_names if name.startswith("GENE")][:8]
    with pytest.raises(ValueError, match="none of the genes shown is a known transcription factor"):
        run(adata, human_model, "cosine", genes=genes)


def test_a_model_in_training_mode_is_refused(human_model, make_cells):
    human_model.train()
    try:
        with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
            run(make_cells(), human_model, "cosine")
    finally:
        human_model.eval()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_rate": 0.0}, "mask_rate=0.0 must lie between 0 and 1"),
        ({"n_masks": 0}, "n_masks=0 must be a whole number"),
        ({"n_steps": 1.5}, r"n_steps=1\.5 must be"),
        ({"derivative": "backward"}, "derivative='backward' is unknown"),
        ({"step": -1.0}, r"step=-1\.0 must be above 0"),
        ({"quantiles": (2.0,)}, "quantiles"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ReadOutConfig(**options)


@pytest.mark.parametrize("run", [gl.tl.attention, gl.tl.read_out])
@pytest.mark.parametrize("model", ["grnlab-small", None])
def test_the_name_of_a_model_is_no_model(make_cells, run, model):
    with pytest.raises(ValueError, match=f"model must be a backbone, see grnlab.load_model; got {model!r}"):
        run(make_cells(n_each=5), model)
