"""Static plots for publication: each draws into an Axes and returns it."""

from grnlab.viz.plots.adjacency import adjacency
from grnlab.viz.plots.enrichment import enrichment_dots
from grnlab.viz.plots.heads import head_atlas
from grnlab.viz.plots.hubs import hub_ranking
from grnlab.viz.plots.neighbourhood import neighbourhood
from grnlab.viz.plots.precision_recall import precision_recall

__all__ = ["adjacency", "enrichment_dots", "head_atlas", "hub_ranking", "neighbourhood", "precision_recall"]
