import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from grnlab.network import GeneNetwork
from grnlab.viz import adjacency, hub_ranking, neighbourhood

from .conftest import TRAP, edgeless, network, two_types

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def test_hub_ranking_shows_the_strongest_first():
    net = network(n_genes=30, n_edges=90)
    ax = hub_ranking(net, n_top=7)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[::-1] == net.hubs(n=7).index.tolist()
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(widths)
    assert widths[-1] == pytest.approx(net.hubs()["pagerank"].max())


@pytest.mark.parametrize(
    ("edges", "shown"),
    [
        ([("A", "B"), ("A", "C"), ("A", "D")], ["A"]),
        ([("A", "B"), ("B", "A")], ["A", "B"]),
        ([("A", "B"), ("B", "C"), ("B", "D")], ["A", "B"]),
    ],
)
def test_genes_that_share_the_lowest_score_are_no_hubs(edges, shown):
    table = pd.DataFrame(edges, columns=["source", "target"]).assign(weight=1.0)
    net = GeneNetwork.from_edges(table, name="few")
    assert sorted(label.get_text() for label in hub_ranking(net).get_yticklabels()) == shown


def test_hub_ranking_draws_into_the_axes_given():
    from matplotlib import pyplot as plt

    _, ax = plt.subplots()
    assert hub_ranking(network(table=False), by="out_degree", ax=ax) is ax
    assert ax.get_xlabel() == "out degree"


@pytest.mark.parametrize("draw", [adjacency, hub_ranking, lambda nets: neighbourhood(nets, "GENE0")])
def test_a_set_of_networks_is_no_network(draw):
    with pytest.raises(ValueError, match=r"network is a NetworkSet; expected a GeneNetwork\. Name one.*\['B cell'\]"):
        draw(two_types())


def test_hub_ranking_refuses_what_it_cannot_rank():
    with pytest.raises(ValueError, match="by must be"):
        hub_ranking(network(), by="fame")
    with pytest.raises(ValueError, match="no edge"):
        hub_ranking(edgeless("A"))


def test_neighbourhood_draws_each_partner_with_an_arrow():
    net = network(n_genes=20, n_edges=60)
    gene = net.edges["target"].iloc[0]
    regulators = net.edges.loc[net.edges["target"] == gene, "source"].tolist()
    targets = net.edges.loc[net.edges["source"] == gene, "target"].tolist()
    ax = neighbourhood(net, gene, n_top=50)
    assert [text.get_text() for text in ax.texts] == [*regulators, *targets, gene]
    assert len(ax.patches) == len(regulators) + len(targets)


def test_neighbourhood_of_odd_names_renders():
    ax = neighbourhood(network(names=[TRAP, "$x^{", "Q" * 200]), "$x^{")
    ax.figure.canvas.draw()


def test_neighbourhood_names_the_nearest_genes():
    with pytest.raises(ValueError, match=r"'GENE3x' is not in network 'group'.*GENE3"):
        neighbourhood(network(), "GENE3x")


def test_two_networks_get_a_bar_each():
    first, second = network("one", n_genes=30, n_edges=90), network("two", n_genes=20, n_edges=60, seed=1)
    ax = hub_ranking(first, second, by="out_degree", n_top=6)
    names = [label.get_text() for label in ax.get_yticklabels()][::-1]
    assert names == first.hubs(by="out_degree", n=6).index.tolist()
    own, other = ax.containers
    assert [bar.get_width() for bar in own][::-1] == first.hubs(by="out_degree")["out_degree"][names].tolist()
    drawn = np.array([bar.get_width() for bar in other])[::-1]
    wanted = second.hubs()["out_degree"].reindex(names).to_numpy(dtype=float)
    assert np.array_equal(drawn, wanted, equal_nan=True)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    with pytest.raises(ValueError, match="'nothing' has no edge"):
        hub_ranking(first, edgeless("A"))
    with pytest.raises(ValueError, match="n_top must be at least 1, got 0"):
        hub_ranking(first, n_top=0)


def test_adjacency_holds_the_weights_in_the_order_of_the_communities():
    net = network(n_genes=40, n_edges=160)
    ax = adjacency(net, n_top=15)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [label.get_text() for label in ax.get_xticklabels()]
    assert set(names) == set(net.hubs(by="strength", n=15).index)
    member = net.communities(seed=0).membership[names].to_numpy()
    assert (np.diff(member) >= 0).all()
    matrix = ax.images[0].get_array()
    weight = net.edges.set_index(["source", "target"])["weight"]
    for row, regulator in enumerate(names):
        for column, target in enumerate(names):
            wanted = weight.get((regulator, target))
            assert matrix.mask[row, column] if wanted is None else matrix[row, column] == wanted
    lines = {line.get_ydata()[0] for line in ax.lines if line.get_ydata()[0] == line.get_ydata()[1]}
    assert lines == set(np.flatnonzero(np.diff(member)) + 0.5)
    assert [int(text.get_text()) for text in ax.texts] == sorted(set(member))


def test_adjacency_of_signed_weights_is_centred_at_zero():
    edges = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "weight": [-0.2, 0.6]})
    net = GeneNetwork(edges, pd.DataFrame(index=pd.Index(list("ABC"), name="gene")), name="signed")
    assert adjacency(net).images[0].get_clim() == (-0.6, 0.6)
    with pytest.raises(ValueError, match="'nothing' has no edge"):
        adjacency(edgeless("A"))


def test_plots_draw_into_the_axes_given_and_take_odd_names():
    from matplotlib import pyplot as plt

    net = network(names=[TRAP, "$x^{", "Q" * 200, "a\nb"])
    for plot in (lambda ax: adjacency(net, ax=ax), lambda ax: hub_ranking(net, net, ax=ax)):
        figure, ax = plt.subplots()
        assert plot(ax) is ax
        figure.canvas.draw()
