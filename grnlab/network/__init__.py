"""Networks: one per group of cells, with hubs, communities, enrichment, comparison and files."""

from grnlab.network.communities import Communities
from grnlab.network.compare import NetworkComparison
from grnlab.network.enrichment import bundled_gene_sets, read_gmt
from grnlab.network.network import GeneNetwork
from grnlab.network.networks import NetworkSet

__all__ = ["Communities", "GeneNetwork", "NetworkComparison", "NetworkSet", "bundled_gene_sets", "read_gmt"]
