import json

import numpy as np
import pandas as pd
import pytest
import torch

import grnlab as gl
from grnlab.attention import AttentionMaps, GroupMaps
from grnlab.backbones import AttentionSpec
from grnlab.heads import HeadSet
from grnlab.network.infer import infer_networks

NAMES = [f"TF{n}" for n in range(4)] + [f"G{n}" for n in range(8)]


N_CELLS = 60


def make_maps(*, n_layers=2, n_heads=2, groups=("a", "b"), names=NAMES, seed=0, fraction=None, qk=None):
    """Maps with random, or given, queries and keys."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_layers, n_heads, len(names), 4)
    spec = AttentionSpec(n_layers, n_heads, 4, 0.5, 2)
    table = pd.DataFrame(
        {
            "token": range(len(names)),
            "ensembl_id": "",
            "is_tf": [name.startswith("TF") for name in names],
            "name_in_data": list(names),
        },
        index=pd.Index(list(names), name="gene"),
    )
    pooled, expression = {}, {}
    for name in groups:
        q, k = (torch.randn(shape, generator=generator) for _ in range(2)) if qk is None else qk
        pooled[name] = GroupMaps(name, q * N_CELLS, k * N_CELLS, torch.full((len(names),), N_CELLS), N_CELLS)
        seen = np.full(len(names), 0.5) if fraction is None else np.asarray(fraction, dtype=float)
        expression[name] = pd.DataFrame({"mean_counts": 1.0, "fraction_expressed": seen}, index=table.index)
    return AttentionMaps(table, pooled, spec, expression, {"model": "made up", "weights_sha256": "0"})


def planted_maps(pairs, *, strength=40.0, names=NAMES):
    """One head of as many dimensions as genes: each query listens to its one key."""
    n = len(names)
    q, k = torch.zeros(1, 1, n, n), torch.eye(n).reshape(1, 1, n, n)
    for source, target in pairs:
        q[0, 0, names.index(target), names.index(source)] = strength
    maps = make_maps(n_layers=1, n_heads=1, groups=("a",), names=names, qk=(q, k))
    return AttentionMaps(maps.genes, maps.groups, AttentionSpec(1, 1, n, 1.0, 2), maps.expression, maps.provenance)


@pytest.fixture(scope="module")
def maps():
    return make_maps()


# --- direction


def test_the_source_is_the_key_the_target_listens_to():
    pairs = [("TF0", "G0"), ("TF1", "G1"), ("TF0", "G2"), ("G5", "TF3")]
    for per in ("target", "regulator"):
        edges = infer_networks(planted_maps(pairs), top_k=3, per=per, regulators="all", symmetrize=False)["a"].edges
        strong = edges[edges["weight"] > 6]
        assert set(zip(strong["source"], strong["target"], strict=True)) == set(pairs)
        assert strong["weight"].to_numpy() == pytest.approx(len(NAMES), rel=1e-4)  # all attention × number of genes


def test_symmetrised_weights_are_the_mean_of_both_directions():
    edges = infer_networks(planted_maps([("TF0", "G0")]), top_k=12, regulators="all")["a"].edges
    weight = edges.set_index(["source", "target"])["weight"]
    assert weight["TF0", "G0"] == pytest.approx(weight["G0", "TF0"], rel=1e-6)
    assert weight["TF0", "G0"] == pytest.approx((12 + 1) / 2, rel=1e-4)  # an indifferent gene gives 1 to each


# --- which edges


@pytest.mark.parametrize("symmetrize", [True, False])
@pytest.mark.parametrize("top_k", [1, 3, 100])
def test_each_target_has_its_strongest_regulators(maps, top_k, symmetrize):
    networks = infer_networks(maps, top_k=top_k, symmetrize=symmetrize)
    for name in ("a", "b"):
        dense = maps.dense(name, symmetrize=symmetrize)
        edges = networks[name].edges
        assert set(edges["source"]) <= {"TF0", "TF1", "TF2", "TF3"}
        for target, here in edges.groupby("target"):
            row = NAMES.index(target)
            allowed = [column for column in range(4) if column != row]
            best = sorted(allowed, key=lambda column: -dense[row, column])[:top_k]
            assert here["source"].tolist() == [NAMES[column] for column in best]
            np.testing.assert_allclose(here["weight"], dense[row, best] * len(NAMES), rtol=1e-5)
        assert edges["target"].nunique() == len(NAMES)


@pytest.mark.parametrize("symmetrize", [True, False])
def test_each_regulator_has_its_strongest_targets(maps, symmetrize):
    edges = infer_networks(maps, top_k=3, per="regulator", symmetrize=symmetrize)["a"].edges
    dense = maps.dense("a", symmetrize=symmetrize)
    assert edges.groupby("source").size().to_dict() == dict.fromkeys(NAMES[:4], 3)
    for source, here in edges.groupby("source"):
        column = NAMES.index(source)
        rows = [row for row in range(len(NAMES)) if row != column]
        best = sorted(rows, key=lambda row: -dense[row, column])[:3]
        assert here["target"].tolist() == [NAMES[row] for row in best]


@pytest.mark.parametrize("per", ["target", "regulator"])
def test_regulators_may_be_all_or_named(maps, per):
    everybody = infer_networks(maps, top_k=11, per=per, regulators="all")["a"].edges
    assert len(everybody) == len(NAMES) * (len(NAMES) - 1)
    assert not (everybody["source"] == everybody["target"]).any()
    named = infer_networks(maps, top_k=11, per=per, regulators=["G3", "TF1", "G3"])["a"].edges
    assert set(named["source"]) == {"G3", "TF1"}
    assert len(named) == 22


def test_a_head_set_chooses_heads(maps):
    one = HeadSet.of(maps.spec, [(1, 0)])
    edges = infer_networks(maps, one, top_k=2)["a"]
    dense = maps.dense("a", one.weights_LH, symmetrize=True)
    first = edges.edges.iloc[0]
    expected = dense[NAMES.index(first["target"]), NAMES.index(first["source"])] * len(NAMES)
    assert first["weight"] == pytest.approx(expected, rel=1e-5)
    assert edges.provenance["heads"]["weights"] == {"1.0": 1.0}
    assert not infer_networks(maps, top_k=2)["a"].edges.equals(edges.edges)


def test_rare_genes_leave_before_the_softmax():
    fraction = np.full(len(NAMES), 0.5)
    fraction[[1, 5]] = 0.01
    kept = [n for n in range(len(NAMES)) if n not in (1, 5)]
    maps = make_maps(fraction=fraction)
    network = infer_networks(maps, top_k=11, regulators="all")["a"]
    assert network.genes.index.tolist() == [NAMES[n] for n in kept]
    assert network.provenance["n_genes"] == 10
    group = maps.group("a")
    logits = (group.q_LHGD[:, :, kept] @ group.k_LHGD[:, :, kept].transpose(-1, -2)) * maps.spec.scale
    dense = torch.softmax(logits, -1).mean((0, 1))
    dense = (dense + dense.T) / 2
    for source, target, weight in network.edges[["source", "target", "weight"]].itertuples(index=False):
        row, column = kept.index(NAMES.index(target)), kept.index(NAMES.index(source))
        assert weight == pytest.approx(float(dense[row, column]) * 10, rel=1e-4)
    assert len(infer_networks(maps, min_fraction=0.0)["a"].genes) >= len(kept)


def test_average_product_correction_keeps_positive_edges_only(maps):
    network = infer_networks(maps, top_k=11, regulators="all", apc=True)["a"]
    dense = maps.dense("a", symmetrize=True, apc=True)
    np.fill_diagonal(dense, 0)
    assert (network.edges["weight"] > 0).all()
    assert 0 < len(network.edges) == (dense > 0).sum() < 132


def test_a_group_without_any_allowed_regulator_has_no_edge():
    fraction = np.array([0.0] * 4 + [0.5] * 8)
    for per in ("target", "regulator"):
        network = infer_networks(make_maps(fraction=fraction), per=per)["a"]
        assert len(network.edges) == 0
        assert len(network.genes) == 8


def test_permuted_genes_give_the_same_edges(maps):
    order = np.random.default_rng(1).permutation(len(NAMES))
    groups = {
        name: GroupMaps(name, g.q_sum_LHGD[:, :, order], g.k_sum_LHGD[:, :, order], g.count_G[order], g.n_cells)
        for name, g in maps.groups.items()
    }
    expression = {name: table.iloc[order] for name, table in maps.expression.items()}
    permuted = AttentionMaps(maps.genes.iloc[order], groups, maps.spec, expression, maps.provenance)
    order_free = ["group", "source", "target"]  # weights that are equal but for rounding may change places
    a, b = (
        infer_networks(m, top_k=3).edge_table().sort_values(order_free, ignore_index=True) for m in (maps, permuted)
    )
    assert a[order_free].equals(b[order_free])
    np.testing.assert_allclose(a["weight"], b["weight"], rtol=1e-5)


# --- what comes with it


def test_provenance_is_complete_and_json(maps):
    networks = infer_networks(maps, top_k=3, per="regulator", regulators=["TF0", "TF1"], apc=True)
    kept = json.loads(json.dumps(networks["a"].provenance))
    assert kept["model"] == "made up"
    assert kept["weights_sha256"] == "0"
    assert kept["heads"]["name"] == "mean of all heads"
    assert len(kept["heads"]["weights"]) == 4
    assert (kept["top_k"], kept["per"], kept["symmetrize"], kept["apc"]) == (3, "regulator", True, True)
    assert kept["regulators"] == ["TF0", "TF1"]
    assert (kept["n_cells"], kept["n_genes"]) == (N_CELLS, len(NAMES))
    assert kept["direction"] == "source=regulator=key, target=query"
    assert {"torch", "numpy", "grnlab"} <= set(kept["versions"])
    for key in ("normalisation", "weight", "kernel_path", "min_fraction"):
        assert key in kept
    assert networks.provenance["top_k"] == 3


def test_genes_carry_expression_and_order_is_that_of_the_maps(maps):
    networks = infer_networks(maps)
    assert list(networks) == ["a", "b"]
    genes = networks["b"].genes
    assert {"ensembl_id", "is_tf", "name_in_data", "mean_counts", "fraction_expressed"} <= set(genes.columns)
    assert "token" not in genes.columns


def test_the_same_maps_give_the_same_networks(maps):
    assert infer_networks(maps).equals(infer_networks(maps))
    assert gl.tl.infer_networks is infer_networks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per": "gene"}, r"per='gene' is unknown; choose 'target' or 'regulator'"),
        ({"top_k": 0}, r"top_k=0 must be a whole number of at least 1"),
        ({"regulators": "TF0"}, r"regulators='TF0' is unknown; choose 'tf' or 'all', or give gene names in a list"),
        (
            {"regulators": ["TF0", "TF77"]},
            r"regulators: gene 'TF77' is not in the genes of the maps.*names such as TF0, TF1",
        ),
        ({"min_fraction": 0.9}, r"group 'a' keeps 0 genes expressed in 90% .* lower min_fraction"),
        ({"heads": [(0, 1)]}, r"heads is \[\(0, 1\)\]; expected a HeadSet, for example grnlab.HeadSet.of"),
        ({"heads": HeadSet("x", torch.ones(3, 3))}, r"weights_LH has shape \(3, 3\); expected .*\(2, 2\)"),
    ],
)
def test_bad_settings_are_named(maps, settings, message):
    with pytest.raises(ValueError, match=message):
        infer_networks(maps, **settings)


def test_no_transcription_factor_is_named():
    with pytest.raises(ValueError, match=r"no gene of the maps is a known transcription factor; give names, or 'all'"):
        infer_networks(make_maps(names=[f"G{n}" for n in range(5)]))


def test_a_gene_of_one_or_two_cells_is_not_in_the_network():
    few = [4 / N_CELLS, 5 / N_CELLS] + [0.5] * (len(NAMES) - 2)
    network = infer_networks(make_maps(fraction=few), regulators="all", min_fraction=0.02)["a"]
    assert NAMES[0] not in network.genes.index
    assert NAMES[1] in network.genes.index


def test_a_fraction_of_an_edge_is_refused(maps):
    with pytest.raises(ValueError, match=r"top_k=2\.5 must be a whole number"):
        infer_networks(maps, top_k=2.5)
