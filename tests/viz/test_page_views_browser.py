"""Views of the page beyond the plain network: detail, focus, colour, comparison, links, keys, saved pictures."""

import struct
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from grnlab.network import GeneNetwork, NetworkSet
from grnlab.viz.payload import group_payload

from .conftest import ODD_NAMES, TRAP, network, two_types

pytestmark = pytest.mark.browser


def larger(name="large", seed=0):
    return network(name, n_genes=150, n_edges=1200, seed=seed)


def overlapping():
    """Two networks over the same genes that share some edges."""
    first = network("left type", n_genes=40, n_edges=120)
    second = network("right type", n_genes=40, n_edges=120, seed=5)
    edges = pd.concat([first.edges.iloc[:50], second.edges]).drop_duplicates(["source", "target"])
    return NetworkSet([first, GeneNetwork(edges, first.genes, name="right type")])


def test_the_first_view_is_no_hairball_and_more_comes_on_demand(visit):
    net = larger()
    page = visit(net)
    shown = [page.state()["edges"]]
    assert shown[0] <= 170
    for _ in range(page.state()["levels"] - 1):
        page.tab.focus("#detail")
        page.tab.keyboard.press("ArrowDown")
        shown.append(page.state()["edges"])
    assert shown == sorted(set(shown))
    assert shown[-1] == 1200
    page.rested()
    assert "showing 1,200 of 1,200 edges" in page.tab.inner_text("#count")


def test_a_gene_the_first_view_lacks_brings_the_level_that_shows_it(visit):
    net = larger()
    page = visit(net)
    genes = group_payload(net, max_edges=10_000, max_nodes=1_000, seed=0)["genes"]
    hidden = genes["name"][genes["level"].index(1)]
    page.search(hidden)
    assert page.state()["gene"] == hidden
    assert page.state()["level"] > 0
    assert page.state()["lit"] > 0


def test_focus_shows_the_neighbourhood_alone_and_escape_leaves_it(visit):
    net = network("B cell", n_genes=40, n_edges=120)
    page = visit(net)
    page.search("GENE3")
    page.tab.click("#focus")
    around = net.neighbourhood("GENE3").genes.index
    edges = net.edges[(net.edges["source"] == "GENE3") | (net.edges["target"] == "GENE3")]
    state = page.state()
    assert (state["focus"], state["nodes"], state["edges"]) == (True, len(around), len(edges))
    page.tab.keyboard.press("Escape")
    assert (page.state()["focus"], page.state()["gene"], page.state()["edges"]) == (False, "GENE3", 120)
    page.tab.keyboard.press("Escape")
    assert page.state()["gene"] is None


def test_a_double_click_focuses(visit):
    page = visit(two_types())
    page.tab.locator("#canvas").dblclick(position=page.tab.evaluate("grnlab.pointOf('GENE0')"))
    assert (page.state()["gene"], page.state()["focus"]) == ("GENE0", True)


def test_suggestions_are_walked_by_arrow_keys(visit):
    page = visit(two_types())
    page.tab.keyboard.press("/")
    page.tab.keyboard.type("gene1")
    names = page.tab.locator("#suggestions .text").all_text_contents()
    page.tab.keyboard.press("ArrowDown")
    page.tab.keyboard.press("ArrowDown")
    assert page.tab.get_attribute("#gene", "aria-activedescendant") == "suggestion-1"
    page.tab.keyboard.press("Enter")
    assert page.state()["gene"] == names[1]
    page.tab.keyboard.type("2")
    page.tab.keyboard.press("Escape")
    assert page.tab.is_hidden("#suggestions")
    assert page.state()["gene"] == names[1], "the first Escape closes the list only"


def test_tab_reaches_the_controls_and_keys_move_the_drawing(visit):
    page = visit(larger())
    reached = []
    for _ in range(16):
        page.tab.keyboard.press("Tab")
        reached.append(page.tab.evaluate("document.activeElement.id"))
    wanted = ["theme", "gene", "detail", "weight", "colouring", "fit", "save", "canvas"]
    assert [name for name in reached if name in wanted] == wanted
    page.tab.focus("#canvas")
    before = page.tab.evaluate("grnlab.pointOf('GENE0')")
    page.tab.keyboard.press("ArrowLeft")
    assert page.tab.evaluate("grnlab.pointOf('GENE0')")["x"] == pytest.approx(before["x"] + 60)
    scale = page.state()["scale"]
    page.tab.keyboard.press("+")
    assert page.state()["scale"] == pytest.approx(scale * 1.25)
    page.tab.keyboard.press("0")
    assert page.tab.evaluate("grnlab.pointOf('GENE0')") == pytest.approx(before)


def test_the_drawing_and_single_genes_can_be_dragged(visit):
    page = visit(two_types())
    box = page.tab.locator("#canvas").bounding_box()
    before = page.tab.evaluate("['GENE0', 'GENE9'].map(name => grnlab.pointOf(name))")

    def drag(x, y):
        page.tab.mouse.move(box["x"] + x, box["y"] + y)
        page.tab.mouse.down()
        page.tab.mouse.move(box["x"] + x + 30, box["y"] + y + 20, steps=3)
        page.tab.mouse.up()

    drag(before[0]["x"], before[0]["y"])
    after = page.tab.evaluate("['GENE0', 'GENE9'].map(name => grnlab.pointOf(name))")
    assert after[0] == pytest.approx({"x": before[0]["x"] + 30, "y": before[0]["y"] + 20}, abs=0.1)
    assert after[1] == before[1]
    assert page.state()["gene"] is None, "a drag is no click"
    drag(box["width"] - 8, 8)
    moved = page.tab.evaluate("grnlab.pointOf('GENE9')")
    assert moved == pytest.approx({"x": before[1]["x"] + 30, "y": before[1]["y"] + 20}, abs=0.1)


def test_colour_by_centrality_changes_the_legend_and_the_drawing(visit):
    page = visit(network("B cell", n_genes=30, n_edges=60))
    painted = "document.querySelector('#canvas canvas').toDataURL()"
    page.rested()
    before = page.tab.evaluate(painted)
    page.tab.select_option("#colouring", "out_degree")
    page.rested()
    assert page.tab.evaluate(painted) != before
    assert "NUMBER OF TARGETS" in page.tab.inner_text("#legend-body").upper()


def test_the_overview_lists_every_cell_type_and_opens_it(visit):
    networks = two_types()
    page = visit(networks)
    rows = page.rows("#view")
    assert [row[0] for row in rows] == ["B cell", "T cell"]
    assert [row[1:3] for row in rows] == [["40", "120"], ["25", "50"]]
    assert [int(row[3]) for row in rows] == [len(net.communities(seed=0)) for net in networks.values()]
    assert rows[0][4].split(", ") == networks["B cell"].hubs(n=3).index.tolist()
    page.tab.click("#view button >> text=T cell")
    assert page.state()["group"] == "T cell"


def test_comparison_counts_what_compare_counts(visit):
    networks = overlapping()
    found = networks.compare("left type", "right type")
    page = visit(networks)
    page.tab.select_option("#versus", label="right type")
    counts = page.tab.locator("#compare-counts dd").all_text_contents()
    tables = (found.edges_shared, found.edges_a_only, found.edges_b_only)
    assert [int(value) for value in counts[:3]] == list(map(len, tables))
    assert float(counts[3]) == pytest.approx(found.jaccard, abs=5e-4)
    assert page.tab.is_visible("#canvas-right canvas")
    hubs = found.hubs()
    rows = page.rows("#view")
    assert [row[0] for row in rows[:5]] == hubs.index[:5].tolist()
    assert rows[0][4] == f"{hubs['rank_a'].iloc[0]} → {hubs['rank_b'].iloc[0]}"
    assert float(rows[0][3].replace("−", "-")) == pytest.approx(hubs["difference"].iloc[0], rel=0.01)
    page.search("GENE2")
    assert page.state()["gene"] == "GENE2"
    assert page.state()["lit"] is not None
    for _ in range(3):  # out of the search field, the gene, the comparison
        page.tab.keyboard.press("Escape")
    assert page.state()["other"] is None
    assert page.tab.is_hidden("#canvas-right")


def test_edges_of_genes_that_only_one_network_knows_are_not_counted(visit):
    first = network("left type", n_genes=40, n_edges=120)
    second = network("right type", n_genes=30, n_edges=90)
    networks = NetworkSet([first, GeneNetwork(second.edges, second.genes.drop(columns="is_tf"), name="right type")])
    found = networks.compare("left type", "right type")
    page = visit(networks)
    page.tab.select_option("#versus", label="right type")
    counts = page.tab.locator("#compare-counts dd").all_text_contents()
    tables = (found.edges_shared, found.edges_a_only, found.edges_b_only)
    assert [int(value) for value in counts[:3]] == list(map(len, tables))
    apart = 120 - len(found.edges_shared) - len(found.edges_a_only)
    assert apart > 0
    assert page.tab.inner_text("#apart").startswith(f"{apart} further edges")


def test_the_comparison_is_saved_edge_by_edge(visit):
    networks = overlapping()
    found = networks.compare("left type", "right type")
    page = visit(networks)
    page.tab.select_option("#versus", label="right type")
    name, content = page.saved("csv")
    assert name == "left_type_right_type_edges.csv"
    lines = content.decode().splitlines()
    assert sum(",shared," in line for line in lines) == len(found.edges_shared)
    assert len(lines) - 1 == len(found.edges_shared) + len(found.edges_a_only) + len(found.edges_b_only)


def test_a_link_opens_what_was_shown(visit):
    networks = NetworkSet([larger("B & cell #1"), larger("T cell", seed=1)])
    page = visit(networks)
    page.tab.evaluate("grnlab.showGroup(1)")
    page.tab.select_option("#detail", label="all edges")
    page.slide(700)
    page.tab.select_option("#colouring", "score")
    page.search("GENE1")
    page.tab.click("#theme")
    state = page.state()
    again = visit(networks, link=page.tab.evaluate("location.hash"))
    for key in ("group", "gene", "level", "threshold", "colouring", "view", "edges"):
        assert again.state()[key] == state[key], key
    assert again.tab.evaluate("document.documentElement.dataset.theme") == "dark"
    page.tab.evaluate("grnlab.compareWith(0)")
    third = visit(networks, link=page.tab.evaluate("location.hash"))
    assert third.state()["other"] == "B & cell #1"


@pytest.mark.parametrize(
    "link", ["#type=nobody&gene=x&detail=99&weight=-1&view=zzz", "#detail=abc&compare=&%%%", "#focus=1"]
)
def test_a_broken_link_opens_the_page_all_the_same(visit, link):
    page = visit(two_types(), link=link)
    assert (page.state()["group"], page.state()["gene"], page.state()["focus"]) == ("B cell", None, False)


def test_png_and_svg_hold_the_drawing(visit):
    page = visit(network("B <cell>", names=ODD_NAMES, n_genes=20, n_edges=60))
    box = page.tab.locator("#canvas").bounding_box()
    name, content = page.saved("png")
    assert name == "B_cell.png"
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == pytest.approx((2 * box["width"], 2 * box["height"]), abs=2)
    name, content = page.saved("svg")
    tree = ET.fromstring(content)
    space = "{http://www.w3.org/2000/svg}"
    assert len(tree.findall(f".//{space}line")) == 60
    assert len(tree.findall(f".//{space}circle")) == 15
    texts = [text.text for text in tree.iter(f"{space}text")]
    assert TRAP[:23] + "…" in texts
    assert not [element for element in tree.iter() if element.tag.endswith(("script", "img", "image"))]


def test_the_theme_button_overrides_the_system(visit):
    page = visit(two_types(), context={"color_scheme": "dark"})
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.tab.evaluate(background)
    page.tab.click("#theme")
    assert page.tab.evaluate(background) != dark
    assert "theme=light" in page.tab.evaluate("location.hash")


def test_tables_are_saved_as_csv(visit):
    net = network("B cell", n_genes=40, n_edges=120)
    page = visit(net, enrichment=net.enrich({"all": net.genes.index[:9]}, {'a "set"': ["GENE1", "GENE2"]}))
    page.tab.click("#tab-communities")
    assert page.rows("#view h3 + .table")[0][1] == 'a "set"'
    with page.tab.expect_download() as download:
        page.tab.click("#view .save >> nth=1")
    assert download.value.suggested_filename == "B_cell_enrichment.csv"
    assert '"a ""set"""' in Path(download.value.path()).read_text("utf-8")
