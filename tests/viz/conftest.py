"""Networks to show, and a browser to show them in."""

import shutil

import numpy as np
import pandas as pd
import pytest

from grnlab.network import GeneNetwork

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
