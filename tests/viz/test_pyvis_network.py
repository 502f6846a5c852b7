import json
import re

import numpy as np
import pandas as pd
import pytest

from grnlab.network import GeneNetwork
from grnlab.viz import to_pyvis, write_pyvis
from grnlab.viz.pyvis_network import vis_network

from .conftest import ODD_NAMES, TRAP, edgeless, network


def test_ids_and_numbers_are_plain_python():
    net = network(names=ODD_NAMES, n_genes=30, n_edges=60)
    view = to_pyvis(net)
    assert set(view.get_nodes()) == set(net.genes.index)
    assert {type(node["id"]) for node in view.nodes} == {str}
    ends = [(edge["from"], edge["to"]) for edge in view.edges]
    assert ends == list(zip(net.edges["source"], net.edges["target"], strict=True))
    assert [edge["value"] for edge in view.edges] == pytest.approx(net.edges["weight"].tolist(), rel=1e-5)
    assert json.loads(json.dumps([view.nodes, view.edges], allow_nan=False)) == [view.nodes, view.edges]
    assert all(edge["arrows"] == "to" for edge in view.edges)


def test_large_networks_are_cut_and_lonely_genes_left_out():
    view = to_pyvis(network(n_genes=200, n_edges=900), max_edges=80, max_nodes=50)
    assert view.num_edges() <= 80
    assert view.num_nodes() <= 50
    assert {gene for edge in view.edges for gene in (edge["from"], edge["to"])} == set(view.get_nodes())


def test_a_missing_flag_is_no_transcription_factor():
    genes = pd.DataFrame({"is_tf": [True, False]}, index=pd.Index(["A", "B"], name="gene"))
    edges = pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [-0.5]})
    view = to_pyvis(GeneNetwork(edges, genes, name="two"))
    assert [view.get_node(name)["shape"] for name in "AB"] == ["diamond", "dot"]
    assert view.edges[0]["value"] == 0.5


def test_bad_limits_and_values_are_named(tmp_path):
    with pytest.raises(ValueError, match="max_edges must be at least 1, got 0"):
        to_pyvis(network(), max_edges=0)
    view = to_pyvis(network())
    view.nodes[3]["size"] = np.float32(2)
    with pytest.raises(ValueError, match=r"a node with size=.*float32"):
        write_pyvis(view, tmp_path / "net.html")
    view.nodes[3]["size"] = float("nan")
    with pytest.raises(ValueError, match="a node with size=nan"):
        write_pyvis(view, tmp_path / "net.html")
    with pytest.raises(ValueError, match=r"must end in \.html"):
        write_pyvis(view, tmp_path / "net.txt")
    assert not list(tmp_path.iterdir())


def test_the_written_page_names_no_server(tmp_path):
    text = write_pyvis(to_pyvis(network()), tmp_path / "net.html").read_text("utf-8")
    assert not re.search(r"https?://|sourceMappingURL", text.replace(vis_network(), ""))
    assert not re.search(r"<(link|script)[^>]+(href|src)=\"(?!data:)", text)


def test_missing_pyvis_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install"):
        vis_network()


@pytest.mark.browser
@pytest.mark.parametrize("net", [network(names=ODD_NAMES, n_genes=30, n_edges=60), edgeless("A")], ids=["odd", "empty"])
def test_the_written_page_opens_offline(chromium, tmp_path, net):
    view = to_pyvis(net)
    view.toggle_physics(True)  # as a person would tune it
    path = write_pyvis(view, tmp_path / "net.html", title=TRAP)
    context = chromium.new_context(offline=True)
    tab = context.new_page()
    problems, requests = [], []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(path.as_uri())
    assert tab.evaluate("network.body.data.nodes.length") == view.num_nodes()
    assert tab.evaluate("network.body.data.edges.length") == view.num_edges()
    assert tab.locator("h1").text_content() == TRAP
    assert tab.locator("img").count() == 0
    tab.wait_for_timeout(100)
    context.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
