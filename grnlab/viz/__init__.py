"""Views of a network: the interactive page and static plots."""

from grnlab.viz.notebook import PageView, show
from grnlab.viz.page import render_page, write_page
from grnlab.viz.plots import adjacency, enrichment_dots, head_atlas, hub_ranking, neighbourhood, precision_recall
from grnlab.viz.pyvis_network import to_pyvis, write_pyvis

__all__ = [
    "PageView",
    "adjacency",
    "enrichment_dots",
    "head_atlas",
    "hub_ranking",
    "neighbourhood",
    "precision_recall",
    "render_page",
    "show",
    "to_pyvis",
    "write_page",
    "write_pyvis",
]
