import html
from html.parser import HTMLParser

import pytest

from grnlab.viz import PageView, render_page, show

from .conftest import ODD_NAMES, TRAP, network, two_types


class Frames(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_frame_carries_the_page_unchanged():
    net = network(names=ODD_NAMES)
    frames = Frames(show(net, title=TRAP, height=500)._repr_html_()).found
    assert [tag for tag, _ in frames] == ["iframe"]
    attributes = frames[0][1]
    assert attributes["srcdoc"] == render_page(net, title=TRAP, max_edges=10_000, max_nodes=2_000)
    assert attributes["sandbox"] == "allow-scripts allow-downloads"
    assert attributes["height"] == "500"
    assert "src" not in attributes


def test_a_view_can_be_saved(tmp_path):
    view = show(network())
    path = view.save(tmp_path / "net.html")
    assert path.read_text("utf-8") == view.html
    with pytest.raises(FileExistsError, match="overwrite=True"):
        view.save(path)
    with pytest.raises(ValueError, match=r"must end in \.html"):
        view.save(tmp_path / "net.txt")
    assert ".save('net.html')" in repr(view)


def test_a_height_below_one_is_refused():
    with pytest.raises(ValueError, match="height must be at least 1 pixel, got 0"):
        PageView("", height=0)


@pytest.mark.browser
def test_the_page_works_inside_a_sandboxed_frame(chromium):
    context = chromium.new_context(viewport={"width": 1100, "height": 900}, offline=True)
    tab = context.new_page()
    problems, requests = [], []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.set_content(f"<p>{html.escape(TRAP)}</p>{show(two_types())._repr_html_()}")
    frame = next(frame for frame in tab.frames if frame != tab.main_frame)
    inside = tab.frame_locator("iframe")
    inside.locator("#canvas canvas").wait_for()
    assert frame.evaluate("grnlab.state().nodes") == 40
    assert frame.evaluate("window.origin") == "null", "the frame reaches nothing of the notebook"
    inside.locator("#gene").fill("gene3")
    inside.locator("#gene").press("Enter")
    assert frame.evaluate("grnlab.state().gene") == "GENE3"
    inside.locator("#theme").click()
    inside.locator("#versus").select_option(label="T cell")
    assert frame.evaluate("grnlab.state().other") == "T cell"
    for kind in ("csv", "png", "svg"):
        with tab.expect_download() as download:
            inside.locator("#save").select_option(kind)
        assert download.value.suggested_filename.endswith(kind)
    context.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("data:", "blob:", "about:"))] == []
