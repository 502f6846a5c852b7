"""Data: counts that are counts, cells as tokens, collections to train on, their labels, signatures of drugs."""

from grnlab.data.collection import CellCollection
from grnlab.data.counts import check_counts, recover_counts, sum_duplicate_genes
from grnlab.data.drug_features import check_features, fingerprints
from grnlab.data.hierarchy import Hierarchy, read_hierarchy
from grnlab.data.labels import Label
from grnlab.data.load import load_collection
from grnlab.data.quality import QualityRules
from grnlab.data.signature_collection import SignatureCollection, SignatureTokens, collect_signatures
from grnlab.data.signatures import cell_signatures, check_signatures, read_signatures, scale_signatures
from grnlab.data.tokens import CellTokens, sample_context

__all__ = [
    "CellCollection",
    "CellTokens",
    "Hierarchy",
    "Label",
    "QualityRules",
    "SignatureCollection",
    "SignatureTokens",
    "cell_signatures",
    "check_counts",
    "check_features",
    "check_signatures",
    "collect_signatures",
    "fingerprints",
    "load_collection",
    "read_hierarchy",
    "read_signatures",
    "recover_counts",
    "sample_context",
    "scale_signatures",
    "sum_duplicate_genes",
]
