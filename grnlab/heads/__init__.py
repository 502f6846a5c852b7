"""Heads: which attention heads make a network, and with what weight; chosen by hand or by a gold standard."""

from grnlab.heads.headset import HeadSet
from grnlab.heads.select import HeadSelection, SelectionConfig, select_heads

__all__ = ["HeadSelection", "HeadSet", "SelectionConfig", "select_heads"]
