"""Attention: record queries and keys, pool them over cells, stream the maps; other read-outs of a model."""

from grnlab.attention.config import ReadOutConfig
from grnlab.attention.maps import AttentionMaps, GroupMaps
from grnlab.attention.pair_scores import PairScores
from grnlab.attention.pool import pool_queries_keys
from grnlab.attention.read_out import READOUTS, read_out

__all__ = ["READOUTS", "AttentionMaps", "GroupMaps", "PairScores", "ReadOutConfig", "pool_queries_keys", "read_out"]
