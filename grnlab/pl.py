"""Plots: the interactive page, and static figures that return matplotlib Axes."""

from grnlab.viz import hub_ranking, neighbourhood, show, to_pyvis, write_pyvis
from grnlab.viz import write_page as network_page

__all__ = ["hub_ranking", "neighbourhood", "network_page", "show", "to_pyvis", "write_pyvis"]
