"""Data: counts that are counts, cells as tokens, and collections of cells to train on."""

from grnlab.data.collection import CellCollection
from grnlab.data.counts import check_counts, recover_counts, sum_duplicate_genes
from grnlab.data.labels import Label
from grnlab.data.load import load_collection
from grnlab.data.quality import QualityRules
from grnlab.data.tokens import CellTokens, sample_context

__all__ = [
    "CellCollection",
    "CellTokens",
    "Label",
    "QualityRules",
    "check_counts",
    "load_collection",
    "recover_counts",
    "sample_context",
    "sum_duplicate_genes",
]
