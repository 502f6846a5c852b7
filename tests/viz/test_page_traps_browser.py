"""Terms, sets, columns, links and pictures that attack the page, in a real browser; genes are tried elsewhere."""

import xml.etree.ElementTree as ET

from grnlab.network import NetworkSet

from .conftest import TRAP, network

TRAPS = [
    TRAP,
    "javascript:alert(1)",
    "\u202egnp.exe",
    "a\u0001\u001b[31m",
    "]]><script>alert(3)</script>",
    "\ud83e\uddec".encode("utf-16", "surrogatepass").decode("utf-16"),
    "=HYPERLINK(1)",
    "${alert(4)}",
]


def test_terms_of_an_enrichment_are_text(visit):
    net = network("B cell")
    sets = {name: list(net.genes.index[start : start + 6]) for start, name in enumerate(TRAPS)}
    page = visit(net, enrichment=net.enrich({TRAP: net.genes.index[:12]}, sets))
    page.tab.click("#tab-communities")
    shown = {cell for row in page.rows("#view .table") for cell in row}
    assert set(TRAPS) & shown
    assert page.tab.locator("img, #view script").count() == 0


def test_pictures_and_links_of_odd_names_are_text(visit):
    names = NetworkSet([network(name, names=TRAPS) for name in TRAPS])
    page = visit(names, title=TRAPS[2], link="#gene=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&group=%22%3E%3Cscript%3E")
    for number in range(len(TRAPS)):
        page.tab.evaluate("number => grnlab.showGroup(number)", number)
    page.tab.evaluate("name => grnlab.chooseGene(name)", TRAP)
    page.rested()
    name, picture = page.saved("svg")
    assert name.endswith(".svg")
    assert not {"script", "img", "foreignObject"} & {
        one.tag.rpartition("}")[2] for one in ET.fromstring(picture).iter()
    }
    assert page.tab.locator("img").count() == 0
