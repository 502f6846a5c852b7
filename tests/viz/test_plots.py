import matplotlib as mpl
import pytest

from grnlab.viz import hub_ranking, neighbourhood

from .conftest import TRAP, edgeless, network

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


def test_hub_ranking_draws_into_the_axes_given():
    from matplotlib import pyplot as plt

    _, ax = plt.subplots()
    assert hub_ranking(network(table=False), by="out_degree", ax=ax) is ax
    assert ax.get_xlabel() == "out degree"


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
    with pytest.raises(ValueError, match=r"'GENE3x' is not in the network 'group'.*GENE3"):
        neighbourhood(network(), "GENE3x")
