"""What every backbone offers, so that attention is read the same way from each.

Shape suffixes: B cells, T gene tokens, P prefix tokens, M model dimension.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from grnlab.data.tokens import CellTokens
from grnlab.genes import GeneVocab
from grnlab.nn.attention import Recorder

ATTENTION_KINDS = ("softmax", "kernel", "two_hop")


@dataclass(frozen=True)
class Encoded:
    """Output of a backbone for a batch.

    Attributes
    ----------
    genes_BTM
        Gene tokens after the last layer.
    cell_BM
        Cell embedding.
    classes_BM
        Class name → embedding of the cell for that class.
    input_BTM
        Embeddings of the genes alone, without value, as a query for decoders.
    pad_BT
        Padded places of the batch, or None.
    """

    genes_BTM: Tensor
    cell_BM: Tensor
    classes_BM: dict[str, Tensor]
    input_BTM: Tensor
    pad_BT: Tensor | None = None


@dataclass(frozen=True)
class AttentionSpec:
    """All that makes the true attention of a backbone of its recorded queries and keys.

    Attributes
    ----------
    n_layers, n_heads, d_head
        Sizes; every layer has the same. Of a kernel, `d_head` is the number of its features; of two hops, of latents.
    scale
        Factor of the logits; 1 for a kernel and for two hops.
    n_prefix
        Special tokens that stand before the genes in every layer.
    kind
        ``"softmax"``: attention is the softmax of ``scale · q · k``. ``"kernel"`` (linear attention, as in Performers):
        what is recorded are features, none negative, and attention is ``q · k`` itself, scaled so that a row over all
        tokens sums to 1. ``"two_hop"`` (genes attend to latents, which attend to genes, as in Perceivers): what is
        recorded is the attention of a gene over the latents and that of the latents over a gene, none negative, and a
        map is ``q · k`` too. Neither is softmax attention between genes, nor to be reported as such.

    Raises
    ------
    ValueError
        For another kind.
    """

    n_layers: int
    n_heads: int
    d_head: int
    scale: float
    n_prefix: int
    kind: str = "softmax"

    def __post_init__(self) -> None:
        if self.kind not in ATTENTION_KINDS:
            msg = f"kind={self.kind!r} is unknown; choose one of {ATTENTION_KINDS}."
            raise ValueError(msg)

    @classmethod
    def softmax(cls, n_layers: int, d_model: int, n_heads: int, *, n_prefix: int) -> "AttentionSpec":
        """Softmax attention whose heads share the model dimension, of scale 1/√d_head.

        Parameters
        ----------
        n_layers, d_model, n_heads, n_prefix
            Sizes.
        """
        d_head = d_model // n_heads
        return cls(n_layers, n_heads, d_head, 1 / math.sqrt(d_head), n_prefix)

    @property
    def arithmetic(self) -> str:
        """How maps are made of what is recorded, a kind of :mod:`grnlab_kernels`: ``"softmax"`` or ``"kernel"``."""
        return "softmax" if self.kind == "softmax" else "kernel"


@runtime_checkable
class Backbone(Protocol):
    """A pretrained transformer whose attention can be read.

    The invariant every backbone passes in tests: attention rebuilt from the recorded queries and keys, times the
    recorded values, equals the module's own output before projection (≤ 1e-5 in float32). A model that shows itself
    tokens beyond those it is given, as genes that the data lacks, passes it once it is given them all.

    What a backbone may have besides, and what holds where it has not:

    - ``whole_cells``: it is shown every gene it knows, whichever a map is asked of (False).
    - ``tokens_per_cell``: it makes at least so many tokens of a cell, which bounds the cells of a batch (1).
    - ``reads``: ``"signatures"``, signed changes, see :mod:`grnlab.data.signatures` (``"counts"``).
    - ``maps_of_hidden``: predictions of hidden genes flow through the maps that are recorded (True).
    - ``objectives``: what :func:`grnlab.tl.adapt` trains it on where nothing is asked for (masking).
    - ``cell_token``: place of the embedding of the cell among the special tokens (0).
    - ``device``: where its weights are (the CPU).
    """

    name: str
    vocab: GeneVocab

    @property
    def attention(self) -> AttentionSpec:
        """Sizes and scale of the attention."""
        ...

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Show cells to the model as it was trained to see them; parameters as in :func:`grnlab.data.tokens.tokenize`.

        Genes keep the tokens of `vocab`, each at most once in a cell, in the order the model needs; values are its own.
        Special tokens are none of them: the model adds its own, and they come first.
        """
        ...

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> Encoded:
        """Run the model; `record` receives queries, keys, values and outputs of every layer, prefix tokens first."""
        ...

    def record_qk(self, tokens: CellTokens, *, record: Recorder) -> None:
        """Run the model no further than needed to record the queries and keys of every layer."""
        ...
