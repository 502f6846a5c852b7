"""The page as a person uses it, in headless Chromium."""

import csv
import io
import re

import pytest

from grnlab.network import NetworkSet

from .conftest import ODD_NAMES, TRAP, edgeless, network, two_types

pytestmark = pytest.mark.browser


def test_the_canvas_holds_the_network(visit):
    page = visit(two_types())
    state = page.state()
    assert (state["group"], state["nodes"], state["edges"]) == ("B cell", 40, 120)
    assert page.tab.locator("#canvas canvas").count() == 1
    assert page.tab.inner_text("#count") == "showing 120 of 120 edges · 40 of 40 genes"


def test_something_is_painted(visit):
    page = visit(two_types())
    colours = page.tab.evaluate(
        """() => { const canvas = document.querySelector('#canvas canvas');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
        return seen.size; }"""
    )
    assert colours > 50


def test_a_larger_network_says_how_much_is_drawn(visit):
    page = visit(network(n_genes=80, n_edges=600), max_edges=100, max_nodes=40)
    state = page.state()
    assert state["edges"] <= 100
    assert f"showing {state['edges']} of 600 edges" in page.tab.inner_text("#count")
    page.tab.click("#tab-edges")
    assert re.search(r"the table holds \d+ of 600, the strongest of every gene", page.tab.inner_text("#view"))


def test_cell_types_switch_by_mouse_and_by_keyboard(visit):
    page = visit(two_types())
    page.tab.click("#groups [role=tab] >> text=T cell")
    state = page.state()
    assert (state["group"], state["nodes"], state["edges"]) == ("T cell", 25, 50)
    page.tab.keyboard.press("ArrowLeft")
    assert page.state()["group"] == "B cell"
    assert page.tab.evaluate("document.activeElement.textContent") == "B cell"


def test_many_cell_types_make_a_list(visit):
    page = visit(NetworkSet([network(f"type {i}", n_genes=8, n_edges=9, seed=i) for i in range(9)]))
    page.tab.select_option("#group", label="type 7")
    assert page.state()["group"] == "type 7"


def test_search_finds_a_gene_whatever_its_case(visit):
    page = visit(two_types())
    page.search("gene3")
    assert page.state()["gene"] == "GENE3"
    assert page.tab.inner_text("#view h2") == "GENE3"


def test_search_suggests_and_says_when_there_is_no_such_gene(visit):
    page = visit(two_types())
    page.tab.fill("#gene", "gene1")
    suggested = page.tab.locator("#suggestions .text").all_text_contents()
    assert suggested[0] == "GENE1"
    assert all(name.startswith("GENE1") for name in suggested)
    page.search("NOBODY")
    assert page.state()["gene"] is None
    assert "No gene called “NOBODY”" in page.tab.inner_text("#status")
    page.search("ENE1")
    assert "Did you mean GENE1" in page.tab.inner_text("#status")


def test_a_click_on_a_gene_shows_its_regulators_and_targets(visit):
    networks = two_types()
    edges = networks["B cell"].edges
    page = visit(networks)
    point = page.tab.evaluate("grnlab.pointOf('GENE0')")
    page.tab.locator("#canvas").click(position=point)
    assert page.state()["gene"] == "GENE0"
    regulators = edges.loc[edges["target"] == "GENE0"]
    targets = edges.loc[edges["source"] == "GENE0"]
    assert [row[0] for row in page.rows("#targets")] == targets["target"].tolist()
    assert [row[0] for row in page.rows("#regulators")] == regulators["source"].tolist()
    assert [float(row[1]) for row in page.rows("#targets")] == pytest.approx(targets["weight"].tolist(), rel=0.01)
    facts = page.tab.inner_text(".facts")
    assert "Transcription factor\nyes" in facts
    assert f"{networks['B cell'].hubs()['rank']['GENE0']} of 40" in facts


def test_tables_sort_and_their_genes_lead_on(visit):
    page = visit(two_types())
    page.search("GENE0")
    page.tab.click("#targets th >> text=target")
    names = [row[0] for row in page.rows("#targets")]
    assert names == sorted(names)
    page.tab.click(f"#targets tbody button >> text=/^{names[0]}$/")
    assert page.state()["gene"] == names[0]
    page.tab.keyboard.press("Escape")
    assert page.state()["gene"] is None


def test_a_chosen_gene_stays_chosen_in_the_next_cell_type(visit):
    page = visit(two_types())
    page.search("GENE2")
    page.tab.click("#groups [role=tab] >> text=T cell")
    assert page.state()["gene"] == "GENE2"
    page.tab.click("#groups [role=tab] >> text=B cell")
    page.search("GENE39")
    page.tab.click("#groups [role=tab] >> text=T cell")
    assert page.state()["gene"] is None
    assert "GENE39 is not listed in T cell" in page.tab.inner_text("#status")


def test_the_slider_hides_weaker_edges_and_brings_them_back(visit):
    networks = two_types()
    weights = networks["B cell"].edges["weight"]
    page = visit(networks)
    page.slide(60)
    state = page.state()
    assert 0 < state["edges"] < 120
    assert state["edges"] == (weights >= state["threshold"] * (1 - 1e-4)).sum()
    assert f"showing {state['edges']} of 120" in page.tab.inner_text("#count")
    page.slide(119)
    assert page.state()["edges"] == 1
    page.slide(0)
    assert page.state()["edges"] == 120


def test_export_holds_exactly_the_edges_shown(visit):
    networks = NetworkSet([network("B cell", names=['a,"b"'], n_genes=20, n_edges=40)])
    page = visit(networks)
    page.slide(20)
    name, content = page.saved("csv")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert name == "B_cell_edges.csv"
    wanted = networks["B cell"].edges.head(page.state()["edges"])
    assert [(row["source"], row["target"]) for row in rows] == list(
        zip(wanted["source"], wanted["target"], strict=True)
    )
    assert [float(row["weight"]) for row in rows] == pytest.approx(wanted["weight"].tolist(), rel=1e-5)


def test_hubs_communities_edges_and_provenance_are_listed(visit):
    networks = two_types()
    net = networks["B cell"]
    page = visit(networks)
    page.tab.click("#tab-hubs")
    assert [row[1] for row in page.rows("#view")] == net.hubs().index.tolist()
    page.tab.click("#tab-communities")
    assert [int(row[1]) for row in page.rows("#view")] == [entry.size for entry in community_genes(net)]
    page.tab.click("#tab-edges")
    page.tab.fill("#edge-filter", "gene7")
    hit = net.edges[(net.edges["source"] == "GENE7") | (net.edges["target"] == "GENE7")]
    assert [row[:2] for row in page.rows("#view")] == hit[["source", "target"]].to_numpy().tolist()
    page.tab.click("#provenance summary")
    assert "tiny" in page.tab.inner_text("#provenance-body")


def community_genes(net):
    membership = net.communities(seed=0).membership
    return [part for number, part in membership.groupby(membership) if number >= 0]


def test_a_community_lights_up_from_the_legend(visit):
    page = visit(two_types())
    page.tab.click("#legend-body button >> nth=0")
    assert page.state()["community"] == 0
    assert page.tab.get_attribute("#legend-body button >> nth=0", "aria-pressed") == "true"
    page.tab.keyboard.press("Escape")
    assert page.state()["community"] is None


def test_names_are_text_wherever_they_appear(visit):
    page = visit(NetworkSet([network(name, names=ODD_NAMES) for name in ODD_NAMES]), title=TRAP)
    for name in ODD_NAMES:
        page.tab.evaluate("name => grnlab.chooseGene(name)", name)
        assert page.state()["gene"] == name
        assert page.tab.locator("#view h2").text_content() == name
    for view in ("hubs", "communities", "edges"):
        page.tab.click(f"#tab-{view}")
    page.search(TRAP)
    page.search("<b>" + TRAP)
    page.tab.hover("#canvas", position=page.tab.evaluate("name => grnlab.pointOf(name)", TRAP))
    page.tab.wait_for_timeout(300)
    assert page.tab.locator("img").count() == 0
    assert page.tab.locator("h1").text_content() == TRAP
    for number in range(len(ODD_NAMES)):
        page.tab.evaluate("number => grnlab.showGroup(number)", number)
        assert page.state()["group"] == ODD_NAMES[number]
    assert page.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("genes", [(), ("A",)], ids=["no gene", "one gene"])
def test_a_network_without_edges_opens(visit, genes):
    page = visit(edgeless(*genes))
    assert (page.state()["nodes"], page.state()["edges"]) == (len(genes), 0)
    assert page.tab.is_visible("#empty")
    assert page.tab.is_disabled("#save")
    for view in ("gene", "hubs", "communities", "edges"):
        page.tab.click(f"#tab-{view}")
    if genes:
        page.search("A")
        assert page.state()["gene"] == "A"


def test_dark_and_light_follow_the_system(visit):
    page = visit(two_types(), context={"color_scheme": "dark"})
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.tab.evaluate(background)
    page.tab.emulate_media(color_scheme="light")
    assert page.tab.evaluate(background) != dark


def test_a_narrow_window_needs_no_sideways_scrolling(visit):
    page = visit(two_types())
    page.tab.set_viewport_size({"width": 800, "height": 900})
    page.search("GENE0")
    assert page.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    canvas, panel = (page.tab.locator(part).bounding_box() for part in ("#canvas", ".panel"))
    assert panel["y"] >= canvas["y"] + canvas["height"]
    assert canvas["height"] >= 400


@pytest.mark.parametrize("width", [1400, 1280, 420])
def test_choices_are_read_whole_and_controls_leave_room_for_the_drawing(visit, width):
    page = visit(two_types())
    page.tab.set_viewport_size({"width": width, "height": 760})
    page.tab.select_option("#colouring", label="Hub score (PageRank)")
    for choice in ("#detail", "#colouring", "#save"):
        cut = page.tab.locator(choice).evaluate(
            """select => { const free = select.cloneNode(true); free.style.cssText = 'width: auto; max-width: none';
            free.replaceChildren(select.selectedOptions[0].cloneNode(true)); select.after(free);
            const cut = free.offsetWidth - select.offsetWidth; free.remove(); return cut; }"""
        )
        assert cut <= 1, choice
    assert page.tab.locator(".bar").bounding_box()["height"] < (260 if width < 640 else 110)
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
