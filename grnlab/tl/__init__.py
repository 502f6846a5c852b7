"""Tools: attention of a model on cells, networks from it, and what else a model does."""

from grnlab.attention import read_out
from grnlab.attention.null import matched_null, shuffle_genes
from grnlab.heads import (
    baseline_scores,
    combine_scores,
    fit_translator,
    known_scores,
    pair_features,
    select_heads,
)
from grnlab.network.infer import infer_networks
from grnlab.tasks import (
    annotate,
    denoise,
    differential,
    draw_responses,
    embed,
    embed_at_depth,
    enhance_depth,
    fine_tune,
    fit_responses,
    gene_contexts,
    gene_importance,
    generate,
    predict_responses,
)
from grnlab.tl._attention import attention, estimate_attention
from grnlab.tl._conditions import bootstrap_networks, compare_conditions
from grnlab.tl._networks import sign_edges, store_networks, stored_networks
from grnlab.training.adapt import adapt

__all__ = [
    "adapt",
    "annotate",
    "attention",
    "baseline_scores",
    "bootstrap_networks",
    "combine_scores",
    "compare_conditions",
    "denoise",
    "differential",
    "draw_responses",
    "embed",
    "embed_at_depth",
    "enhance_depth",
    "estimate_attention",
    "fine_tune",
    "fit_responses",
    "fit_translator",
    "gene_contexts",
    "gene_importance",
    "generate",
    "infer_networks",
    "known_scores",
    "matched_null",
    "pair_features",
    "predict_responses",
    "read_out",
    "select_heads",
    "shuffle_genes",
    "sign_edges",
    "store_networks",
    "stored_networks",
]
