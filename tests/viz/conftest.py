"""Networks to show, and a browser to show them in."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grnlab.network import GeneNetwork, NetworkSet
from grnlab.viz import write_page

CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TRAP = "<img src=x onerror=alert(1)>"
ODD_NAMES = [
    TRAP,
    "</script><script>alert(2)</script>",
    "__proto__",
    "constructor",
    "名前-α",
    "a\u2028b",
    "Q" * 200,
    "<!--<script quo\"te's &amp;",
]


def network(name="group", *, n_genes=30, n_edges=60, seed=0, names=None, table=True):
    """Seeded network in which low gene numbers are hubs; every fourth gene is a transcription factor."""
    generator = np.random.default_rng(seed)
    names = list(names or []) + [f"GENE{i}" for i in range(len(names or []), n_genes)]
    chance = 1.0 / (np.arange(n_genes) + 1.0)
    pairs = np.outer(chance, np.ones(n_genes))
    np.fill_diagonal(pairs, 0.0)
    picked = generator.choice(n_genes**2, size=n_edges, replace=False, p=(pairs / pairs.sum()).ravel())
    source, target = np.divmod(picked, n_genes)
    edges = pd.DataFrame(
        {
            "source": np.array(names, dtype=object)[source],
            "target": np.array(names, dtype=object)[target],
            "weight": generator.lognormal(-3.0, 1.0, n_edges),
        }
    )
    genes = pd.DataFrame(index=pd.Index(names, name="gene", dtype=object))
    if table:
        genes["is_tf"] = np.arange(n_genes) % 4 == 0
        genes["mean_counts"] = generator.lognormal(size=n_genes)
        genes["fraction_expressed"] = generator.uniform(size=n_genes)
    return GeneNetwork(edges, genes, name=name, provenance={"model": "tiny", "heads": [[0, 1]], "n_cells": 12})


def edgeless(*genes, name="nothing"):
    edges = pd.DataFrame({"source": [], "target": [], "weight": []}).astype({"source": object, "target": object})
    return GeneNetwork(edges, pd.DataFrame(index=pd.Index(genes, name="gene", dtype=object)), name=name)


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium; tests that need it are skipped, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if program is None:
        pytest.skip("no chromium or google-chrome on PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


def two_types():
    return NetworkSet([network("B cell", n_genes=40, n_edges=120), network("T cell", n_genes=25, n_edges=50, seed=1)])


class Visit:
    """An open page, and everything it did that a page should not do."""

    def __init__(self, browser, path, *, link="", **context):
        self.context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True, **context)
        self.tab = self.context.new_page()
        self.problems, self.requests = [], []
        self.tab.on("console", lambda message: self.problems.append(message.text))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.address = path.as_uri() + link
        self.tab.goto(self.address)
        self.tab.wait_for_function("window.grnlab && grnlab.state()")

    def state(self):
        return self.tab.evaluate("grnlab.state()")

    def search(self, text):
        self.tab.fill("#gene", text)
        self.tab.press("#gene", "Enter")

    def rows(self, table):
        return self.tab.locator(f"{table} tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )

    def rested(self):
        """Wait until the drawing is painted; the policy of the page forbids Playwright's own way of waiting."""
        for _ in range(200):
            if self.tab.evaluate("grnlab.state().resting"):
                return
            self.tab.wait_for_timeout(10)
        raise AssertionError

    def saved(self, kind):
        """Save what is shown; the name and the bytes of the file."""
        with self.tab.expect_download() as download:
            self.tab.select_option("#save", kind)
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()

    def slide(self, value):
        self.tab.locator("#weight").evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
        )
        self.tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture
def visit(chromium, tmp_path):
    """Write a page and open it; afterwards nothing may have gone wrong and nothing may have been fetched."""
    opened = []

    def open_page(networks, *, context=None, link="", **options):
        path = write_page(networks, tmp_path / f"net{len(opened)}.html", **options)
        opened.append(Visit(chromium, path, link=link, **(context or {})))
        return opened[-1]

    yield open_page
    for page in opened:
        page.tab.wait_for_timeout(50)
        page.context.close()
        assert page.problems == []
        assert [url for url in page.requests if not url.startswith(("data:", "blob:"))] == [page.address.split("#")[0]]
