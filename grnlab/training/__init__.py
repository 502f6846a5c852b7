"""Pretraining: a Lightning module, a stream of batches, and one function that runs both."""

from grnlab.training.pretrain import PretrainConfig, pretrain

__all__ = ["PretrainConfig", "pretrain"]
