"""Plots: the interactive page, and static figures that return matplotlib Axes."""

from grnlab.viz import (
    adjacency,
    enrichment_dots,
    head_atlas,
    hub_ranking,
    neighbourhood,
    precision_recall,
    show,
    to_pyvis,
    write_pyvis,
)
from grnlab.viz import write_page as network_page

__all__ = [
    "adjacency",
    "enrichment_dots",
    "head_atlas",
    "hub_ranking",
    "neighbourhood",
    "network_page",
    "precision_recall",
    "show",
    "to_pyvis",
    "write_pyvis",
]
