"""Views of a network: the interactive page and static plots."""

from grnlab.viz.page import render_page, write_page
from grnlab.viz.plots import hub_ranking, neighbourhood

__all__ = ["hub_ranking", "neighbourhood", "render_page", "write_page"]
