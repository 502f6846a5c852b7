import json
import re
from html.parser import HTMLParser

import pytest

from grnlab.network import NetworkSet
from grnlab.viz import render_page, write_page

from .conftest import ODD_NAMES, TRAP, edgeless, network


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts by id."""

    def __init__(self, html):
        super().__init__()
        self.found, self.scripts, self._script = [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._script = dict(attrs) if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts.append((self._script, data))


def test_writes_one_file_and_nothing_else(tmp_path):
    written = write_page(network(), tmp_path / "net.html")
    assert written == tmp_path / "net.html"
    assert [file.name for file in tmp_path.iterdir()] == ["net.html"]


def test_same_input_and_seed_give_the_same_bytes(tmp_path):
    first = write_page(network(), tmp_path / "a.html", seed=2).read_bytes()
    assert first == write_page(network(), tmp_path / "b.html", seed=2).read_bytes()
    assert first != write_page(network(), tmp_path / "c.html", seed=3).read_bytes()


def test_existing_file_is_kept_unless_asked(tmp_path):
    path = tmp_path / "net.html"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_page(network(), path)
    assert path.read_text() == "mine"
    write_page(network(), path, overwrite=True)
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_failure_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "net.html"
    path.write_text("mine")
    monkeypatch.setattr("grnlab.viz.page._fill", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_page(network(), path, overwrite=True)
    assert path.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_edges": 0}, "max_edges must be at least 1, got 0"),
        ({"max_nodes": -1}, "max_nodes must be at least 1, got -1"),
        ({"networks": {}}, "nothing to show"),
        ({"networks": 3}, "must be a NetworkSet or a GeneNetwork, got int"),
        ({"path": "net.txt"}, "must end in .html"),
    ],
)
def test_bad_input_is_named_with_its_mend(tmp_path, arguments, words):
    given = {"networks": network(), "path": "net.html", **arguments}
    with pytest.raises(ValueError, match=re.escape(words)):
        write_page(given.pop("networks"), tmp_path / given.pop("path"), **given)
    assert not list(tmp_path.iterdir())


def test_names_cannot_leave_their_script_element():
    html = render_page(NetworkSet([network(name, names=ODD_NAMES) for name in ODD_NAMES]), title=TRAP)
    page = Elements(html)
    assert not [tag for tag, _ in page.found if tag == "img"]
    groups = [
        json.loads(text) for attributes, text in page.scripts if str(attributes.get("id")).startswith("grnlab-group-")
    ]
    assert [group["name"] for group in groups] == ODD_NAMES
    assert set(ODD_NAMES) <= set(groups[0]["genes"]["name"])
    assert "\u2028" not in html
    assert sum(tag == "script" for tag, _ in page.found) == len(ODD_NAMES) + 2


def test_nothing_is_loaded_from_anywhere():
    html = render_page(network())
    for tag, attributes in Elements(html).found:
        for key in ("src", "href", "srcset", "action", "poster"):
            assert str(attributes.get(key, "data:,")).startswith("data:"), (tag, attributes)
    assert "sourceMappingURL" not in html
    assert not re.search(r"https?://|@import|url\(", html.replace("http://www.w3.org/2000/svg", ""))
    policy = [attributes["content"] for tag, attributes in Elements(html).found if "http-equiv" in attributes]
    assert policy[0].startswith("default-src 'none'; script-src 'sha256-")


@pytest.mark.parametrize(
    "net", [edgeless(), edgeless("A"), network(n_genes=2, n_edges=1, table=False)], ids=["empty", "one", "two"]
)
def test_the_smallest_networks_have_a_page(net):
    assert "<canvas" not in render_page(net)
    assert net.name in render_page(net)


def test_ten_groups_of_500_genes_stay_a_few_megabytes():
    groups = NetworkSet([network(f"type {i}", n_genes=500, n_edges=2500, seed=i) for i in range(2)])
    one = len(render_page(groups["type 0"]))
    two = len(render_page(groups))
    assert one + 9 * (two - one) < 3_000_000


def test_enrichment_is_listed_by_network():
    net = network("B cell", n_genes=20, n_edges=60)
    table = net.enrich({"all": net.genes.index[:8]}, {"odd <set>": ["GENE1", "GENE2"], "other": ["GENE3", "GENE19"]})
    page = Elements(render_page(net, enrichment=table))
    group = next(json.loads(text) for attributes, text in page.scripts if attributes.get("id") == "grnlab-group-0")
    assert {row["term"] for row in group["enrichment"]} == {"odd <set>", "other"}
    with pytest.raises(ValueError, match="enrichment names 'C cell', which is no network of these: 'B cell'"):
        render_page(net, enrichment={"C cell": table})
    with pytest.raises(ValueError, match="one table for 2 networks"):
        render_page(NetworkSet([net, network("other")]), enrichment=table)
    with pytest.raises(ValueError, match="no column 'term'"):
        render_page(net, enrichment=table.drop(columns="term"))
