"""Sizes and switches of xTrimoGene."""

from dataclasses import dataclass, replace
from typing import Any

from grnlab.backbones.config import ModelConfig

SETTINGS, PARTS = ("paper", "released"), ("encoder", "decoder")


@dataclass(frozen=True)
class XTrimoGeneConfig(ModelConfig):
    """Sizes and switches of :class:`XTrimoGene`; :meth:`published` has those of scFoundation.

    Attributes
    ----------
    n_layers, d_model, n_heads
        Sizes of the encoder; hidden layers are 4 times as wide, in the decoder too.
    n_decoder_layers, d_decoder, n_decoder_heads
        Sizes of the decoder.
    n_features
        Random features of a head of the decoder; by default ``d_head · ln d_head``.
    n_bins
        Vectors that the embedding of a value is a mixture of.
    settings
        Where the paper and the released code differ. ``"paper"``: pre-norm blocks with GELU; the mixture without
        biases, its α learned; an embedding for zero; values from a layer of two. ``"released"``: post-norm blocks with
        ReLU in the encoder; biases, α = 1, slope 0.1; zero is a value like others; values from one layer.
    part
        Whose attention is read: ``"encoder"`` (softmax, expressed genes) or ``"decoder"`` (kernel, all genes).
    recompute
        Compute activations again in the backward pass, cell by cell: less memory, a third more time.
    """

    n_layers: int = 4
    d_model: int = 128
    n_heads: int = 4
    n_decoder_layers: int = 2
    d_decoder: int = 64
    n_decoder_heads: int = 4
    n_features: int | None = None
    n_bins: int = 100
    settings: str = "paper"
    part: str = "encoder"
    recompute: bool = False

    def __post_init__(self) -> None:
        for name, known in (("settings", SETTINGS), ("part", PARTS)):
            if getattr(self, name) not in known:
                msg = f"{name}={getattr(self, name)!r} is unknown; choose one of {known}."
                raise ValueError(msg)
        for name, n_heads in (("d_model", self.n_heads), ("d_decoder", self.n_decoder_heads)):
            if getattr(self, name) % n_heads:
                msg = f"{name}={getattr(self, name)} must be a multiple of its {n_heads} heads."
                raise ValueError(msg)

    @classmethod
    def published(cls, **changes: Any) -> "XTrimoGeneConfig":
        """Sizes and settings of the released scFoundation; `changes` replace some.

        Examples
        --------
        >>> XTrimoGeneConfig.published(recompute=True).d_model
        768
        """
        sizes = cls(12, 768, 12, n_decoder_layers=6, d_decoder=512, n_decoder_heads=8, n_features=266)
        return replace(sizes, settings="released", **changes)
