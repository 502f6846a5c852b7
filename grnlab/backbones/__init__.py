"""Backbones: pretrained transformers whose attention can be read."""

from grnlab.backbones.base import AttentionSpec, Backbone, Encoded
from grnlab.backbones.celllm import CellLM, CellLMConfig
from grnlab.backbones.checkpoint import builtin_models, load_model, save_model
from grnlab.backbones.config import ClassesConfig, ModelConfig
from grnlab.backbones.drugbert import DrugBert
from grnlab.backbones.drugbert_config import DrugBertConfig
from grnlab.backbones.exceiver import Exceiver, ExceiverConfig
from grnlab.backbones.module import BackboneModule, ClassifyingModule
from grnlab.backbones.scprint import ScPrint, ScPrintConfig
from grnlab.backbones.xtrimogene import XTrimoGene
from grnlab.backbones.xtrimogene_config import XTrimoGeneConfig

__all__ = [
    "AttentionSpec",
    "Backbone",
    "BackboneModule",
    "CellLM",
    "CellLMConfig",
    "ClassesConfig",
    "ClassifyingModule",
    "DrugBert",
    "DrugBertConfig",
    "Encoded",
    "Exceiver",
    "ExceiverConfig",
    "ModelConfig",
    "ScPrint",
    "ScPrintConfig",
    "XTrimoGene",
    "XTrimoGeneConfig",
    "builtin_models",
    "load_model",
    "save_model",
]
