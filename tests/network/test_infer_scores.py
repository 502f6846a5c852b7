import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from grnlab.attention import PairScores
from grnlab.network import NetworkSet
from grnlab.tl import infer_networks

NAMES = [f"G{number}" for number in range(9)]


def scores(*, signed=True, square=False, seed=0, missing=0.1, fraction=None):
    rng = np.random.default_rng(seed)
    genes = pd.DataFrame({"token": range(9), "is_tf": np.arange(9) < 4}, index=pd.Index(NAMES, name="gene"))
    regulators = np.arange(9) if square else np.array([0, 1, 2, 3])
    groups = {}
    for name in ("A", "B"):
        values = rng.normal(size=(len(regulators), 9))
        values[rng.random(values.shape) < missing] = np.nan
        groups[name] = values if signed else np.abs(values)
    expression = {}
    if fraction is not None:
        expression = {
            name: pd.DataFrame({"mean_counts": 1.0, "fraction_expressed": fraction}, index=NAMES) for name in groups
        }
    return PairScores(
        genes, regulators, np.arange(9), groups, {"A": 30, "B": 20}, "jacobian", signed, {"model": "x"}, expression
    )


@pytest.mark.parametrize("top_k", [1, 3, 50])
@pytest.mark.parametrize("per", ["target", "regulator"])
def test_the_strongest_pairs_become_edges(top_k, per):
    found = scores()
    networks = infer_networks(found, top_k=top_k, per=per)
    assert isinstance(networks, NetworkSet)
    for name in ("A", "B"):
        strength, values = found.strength(name), found.group(name)
        want = set()
        for line in range(9 if per == "target" else 4):
            row = strength[:, line] if per == "target" else strength[line]
            best = [other for other in np.argsort(-np.nan_to_num(row, nan=-1)) if row[other] > 0][:top_k]
            want |= {(other, line) if per == "target" else (line, other) for other in best}
        edges = networks[name].edges
        assert set(zip(edges["source"], edges["target"], strict=True)) == {(NAMES[r], NAMES[t]) for r, t in want}
        for source, target, weight, sign in edges[["source", "target", "weight", "sign"]].itertuples(index=False):
            value = values[NAMES.index(source), NAMES.index(target)]
            assert weight == pytest.approx(abs(value))
            assert sign == np.sign(value)


def test_scores_without_sign_give_no_sign():
    assert "sign" not in infer_networks(scores(signed=False))["A"].edges


def test_regulators_are_those_scored_and_asked_for():
    edges = infer_networks(scores(), regulators=["G1", "G7"])["A"].edges
    assert set(edges["source"]) == {"G1"}
    assert set(infer_networks(scores(square=True), regulators="all")["A"].edges["source"]) > {"G1", "G7"}
    assert set(infer_networks(scores(square=True))["A"].edges["source"]) <= {"G0", "G1", "G2", "G3"}


def test_symmetrised_and_corrected_when_asked():
    found = scores(square=True)
    options = {"regulators": "all", "top_k": 4}
    pd.testing.assert_frame_equal(
        infer_networks(found, symmetrize=True, apc=True, **options)["A"].edges,
        infer_networks(found.symmetrised().apc(), **options)["A"].edges,
    )
    with pytest.raises(ValueError, match="same genes as regulators and targets"):
        infer_networks(scores(), symmetrize=True)


def test_rare_genes_are_no_part_of_the_network():
    fraction = np.array([0.5] * 6 + [0.001] * 3)
    network = infer_networks(scores(fraction=fraction, missing=0))["A"]
    assert list(network.genes.index) == NAMES[:6]
    assert set(network.edges["target"]) == set(NAMES[:6])
    assert network.genes["fraction_expressed"].tolist() == [0.5] * 6


def test_a_group_without_edges_is_a_network_without_edges(caplog):
    found = scores(missing=0)
    empty = PairScores(
        found.genes, found.regulators, found.targets, {"A": np.full((4, 9), np.nan)}, {"A": 5}, method="jacobian"
    )
    network = infer_networks(empty)["A"]
    assert len(network.edges) == len(network.genes) == 0
    assert "has no edge" in caplog.text


def test_provenance_is_json_and_says_what_was_done():
    provenance = infer_networks(scores(), top_k=2)["A"].provenance
    assert json.loads(json.dumps(dict(provenance)))["top_k"] == 2
    assert provenance["model"] == "x"
    assert provenance["n_cells"] == 30


def test_errors():
    with pytest.raises(ValueError, match="heads choose among attention maps"):
        infer_networks(scores(), object())
    with pytest.raises(ValueError, match="top_k=0 must be"):
        infer_networks(scores(), top_k=0)
    with pytest.raises(ValueError, match="per='gene' is unknown"):
        infer_networks(scores(), per="gene")
    plain = scores()
    with pytest.raises(ValueError, match="no column 'is_tf'"):
        infer_networks(replace(plain, genes=plain.genes.drop(columns="is_tf")))
