"""Networks: one per group of cells, with hubs, communities, enrichment, comparison and files."""

from grnlab.network.combine import combine
from grnlab.network.communities import Communities
from grnlab.network.compare import NetworkComparison
from grnlab.network.degrees import power_law
from grnlab.network.differential import DifferentialNetworks, permutation_test
from grnlab.network.formats import read_network
from grnlab.network.gene_sets import bundled_gene_sets, fetch_gene_sets, read_gmt
from grnlab.network.modules import joint_communities, match_communities, nested_communities, resolution_sweep
from grnlab.network.network import GeneNetwork
from grnlab.network.networks import NetworkSet
from grnlab.network.signs import sign_edges
from grnlab.network.similarity import from_embedding
from grnlab.network.stability import bootstrap

__all__ = [
    "Communities",
    "DifferentialNetworks",
    "GeneNetwork",
    "NetworkComparison",
    "NetworkSet",
    "bootstrap",
    "bundled_gene_sets",
    "combine",
    "fetch_gene_sets",
    "from_embedding",
    "joint_communities",
    "match_communities",
    "nested_communities",
    "permutation_test",
    "power_law",
    "read_gmt",
    "read_network",
    "resolution_sweep",
    "sign_edges",
]
