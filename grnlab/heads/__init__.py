"""Heads: which attention heads make a network, and with what weight."""

from grnlab.heads.headset import HeadSet

__all__ = ["HeadSet"]
