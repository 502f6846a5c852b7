import random

import igraph
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grnlab.viz.layout import SPACING, layout


def ring(n_genes, offset=0):
    return np.array([[offset + i, offset + (i + 1) % n_genes] for i in range(n_genes)])


def test_same_seed_same_places_other_seed_other_places():
    edges = ring(40)
    first, again, other = (layout(40, edges, np.ones(40), seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_random_state_of_the_process_is_untouched():
    random.seed(11)
    state = random.getstate()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002 - the legacy state is what must not move
    layout(20, ring(20), np.ones(20))
    assert random.getstate() == state
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    igraph.Graph.Erdos_Renyi(n=10, p=0.5)
    assert random.getstate() != state, "igraph draws from the random module again"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.data())
def test_any_graph_gets_finite_and_distinct_places(n_genes, data):
    pairs = [(i, j) for i in range(n_genes) for j in range(n_genes) if i != j]
    edges = data.draw(st.lists(st.sampled_from(pairs), max_size=20)) if pairs else []
    places = layout(n_genes, np.array(edges, dtype=int).reshape(-1, 2), np.arange(len(edges)))
    assert places.shape == (n_genes, 2)
    assert np.isfinite(places).all()
    assert len({tuple(place) for place in places.round(2)}) == n_genes


def test_components_and_lonely_genes_do_not_overlap():
    edges = np.concatenate([ring(12), ring(6, 12), ring(3, 18)])
    places = layout(25, edges, np.ones(len(edges)))
    boxes = [(places[part].min(0), places[part].max(0)) for part in (slice(0, 12), slice(12, 18), slice(18, 21))]
    boxes += [(place, place) for place in places[21:]]
    for i, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[i + 1 :]:
            assert (high < other_low).any() or (other_high < low).any()


def test_large_hubs_are_kept_apart():
    star = np.array([[0, i] for i in range(1, 30)] + [[30, i] for i in range(1, 30)])
    radius = np.full(31, 8.0)
    radius[[0, 30]] = 40.0
    places = layout(31, star, np.ones(len(star)), radius=radius)
    assert np.linalg.norm(places[0] - places[30]) > 70


def test_genes_of_a_community_lie_closer_than_others():
    generator = np.random.default_rng(0)
    community = np.repeat([0, 1], 30)
    edges = np.array(
        [
            (i, j)
            for i in range(60)
            for j in range(60)
            if i != j and generator.random() < (0.2 if community[i] == community[j] else 0.02)
        ]
    )
    places = layout(60, edges, np.ones(len(edges)), community=community)
    centres = np.array([places[community == group].mean(0) for group in (0, 1)])
    own = np.linalg.norm(places - centres[community], axis=1)
    assert own.mean() < np.linalg.norm(places - centres[1 - community], axis=1).mean() * 0.7


def test_scale_is_that_of_the_page():
    places = layout(100, ring(100), np.ones(100))
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    assert gaps.min(axis=1).mean() == pytest.approx(0.65 * SPACING, rel=0.5)
