"""Heads: which attention heads make a network, and what else can be learned of pairs from a gold standard."""

from grnlab.heads.ensemble import combine_scores
from grnlab.heads.features import PairFeatures, baseline_scores, pair_features
from grnlab.heads.fit_translator import TranslatorConfig, fit_translator
from grnlab.heads.headset import HeadSet
from grnlab.heads.popularity import Popularity, known_scores, overlap
from grnlab.heads.select import HeadSelection, SelectionConfig, select_heads
from grnlab.heads.translator import Translator

__all__ = [
    "HeadSelection",
    "HeadSet",
    "PairFeatures",
    "Popularity",
    "SelectionConfig",
    "Translator",
    "TranslatorConfig",
    "baseline_scores",
    "combine_scores",
    "fit_translator",
    "known_scores",
    "overlap",
    "pair_features",
    "select_heads",
]
