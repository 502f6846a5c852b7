"""Attention: record queries and keys, pool them over cells, stream the maps; other read-outs of a model."""

from grnlab.attention.maps import AttentionMaps, GroupMaps
from grnlab.attention.pair_scores import PairScores
from grnlab.attention.pool import pool_queries_keys

__all__ = ["AttentionMaps", "GroupMaps", "PairScores", "pool_queries_keys"]
