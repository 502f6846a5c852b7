"""Views of a network: the interactive page and static plots."""

from grnlab.viz.notebook import PageView, show
from grnlab.viz.page import render_page, write_page
from grnlab.viz.plots import hub_ranking, neighbourhood
from grnlab.viz.pyvis_network import to_pyvis, write_pyvis

__all__ = ["PageView", "hub_ranking", "neighbourhood", "render_page", "show", "to_pyvis", "write_page", "write_pyvis"]
