"""Attention: record queries and keys, pool them over cells, stream the maps."""

from grnlab.attention.maps import AttentionMaps, GroupMaps
from grnlab.attention.pool import pool_queries_keys

__all__ = ["AttentionMaps", "GroupMaps", "pool_queries_keys"]
