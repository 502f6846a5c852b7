"""What the models of this package have in common, whatever their architecture."""

import html
import math
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens, tokenize
from grnlab.genes import GeneVocab
from grnlab.nn import ClassDecoder


class BackboneModule(nn.Module):
    """A module with what checkpoints, provenance and people ask of every model.

    Parameters
    ----------
    vocab
        Genes the model knows.
    config
        Sizes and switches.
    name
        What results call the model.

    Attributes
    ----------
    weights_hash
        Hash of the file the weights came from; empty for new weights.
    provenance
        How the model was made; JSON values.
    heads
        Head sets: name → (layer, head, weight) of each head.
    """

    def __init__(self, vocab: GeneVocab, config: Any, *, name: str) -> None:
        super().__init__()
        self.vocab, self.config, self.name = vocab, config, name
        self.weights_hash = ""
        self.provenance: dict[str, Any] = {}
        self.heads: dict[str, list[list[float]]] = {}

    def __str__(self) -> str:
        """Class, name and sizes in a line; ``repr(model)`` lists the modules."""
        spec: Any = self.attention  # every backbone says its sizes
        n_weights = sum(weight.numel() for weight in self.parameters())
        return (
            f"{type(self).__name__} {self.name!r}: {spec.n_layers} layers × {spec.n_heads} heads, "
            f"{len(self.vocab):,} genes, {n_weights / 1e6:.1f} M parameters"
        )

    def _repr_html_(self) -> str:
        """That line in notebooks, too."""
        return f"<code>{html.escape(str(self))}</code>"

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Genes and their counts as they are, see :func:`grnlab.data.tokens.tokenize`."""
        return tokenize(counts, tokens, totals, context=context)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


class ClassifyingModule(BackboneModule):
    """A model with a decoder of labels for each class of its configuration.

    Attributes
    ----------
    class_decoders
        Class name → :class:`grnlab.nn.ClassDecoder`.
    """

    class_decoders: nn.ModuleDict

    def classify(self, encoded: Encoded) -> dict[str, Tensor]:
        """Logits of the leaf labels of each class, shape (B, n_leaves)."""
        return {name: decoder(encoded.classes_BM[name]) for name, decoder in self.class_decoders.items()}

    def members(self, name: str) -> Tensor:
        """Which leaves each label of a class stands for, bool of shape (n_labels, n_leaves); rows in order of codes."""
        return cast("ClassDecoder", self.class_decoders[name]).members_LK


def behind_prefix(pad_BT: Tensor | None, n_prefix: int) -> Tensor | None:
    """Padding of a sequence in which special tokens, none of them padding, stand before the genes.

    Parameters
    ----------
    pad_BT
        True where a gene token is padding; None where none is.
    n_prefix
        Number of special tokens.
    """
    return None if pad_BT is None else nn.functional.pad(pad_BT, (n_prefix, 0))


def start_linears(model: nn.Module) -> None:
    """Start every linear layer at outputs of the size of its inputs, without offsets."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_branches_small(blocks: Iterable[Any], n_layers: int) -> None:
    """Start what the branches of blocks add small, so that depth does not blow up the residual.

    Parameters
    ----------
    blocks
        With ``attention.out`` and ``mlp[2]``, the last layers of their branches.
    n_layers
        Number of blocks.
    """
    for block in blocks:
        for last in (block.attention.out, block.mlp[2]):
            nn.init.normal_(last.weight, std=0.5 / math.sqrt(last.in_features * n_layers))
