"""Backbones: pretrained transformers whose attention can be read."""

from grnlab.backbones.base import AttentionSpec, Backbone, Encoded
from grnlab.backbones.checkpoint import builtin_models, load_model, save_model
from grnlab.backbones.scprint import ScPrint, ScPrintConfig

__all__ = [
    "AttentionSpec",
    "Backbone",
    "Encoded",
    "ScPrint",
    "ScPrintConfig",
    "builtin_models",
    "load_model",
    "save_model",
]
