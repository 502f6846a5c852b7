"""What every backbone offers, so that attention is read the same way from each.

Shape suffixes: B cells, T gene tokens, P prefix tokens, M model dimension.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from grnlab.data.tokens import CellTokens
from grnlab.genes import GeneVocab
from grnlab.nn.attention import Recorder


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
    """All that enters the true attention logits of a backbone, ``scale · q · k``.

    Attributes
    ----------
    n_layers, n_heads, d_head
        Sizes; every layer has the same.
    scale
        Factor of the logits.
    n_prefix
        Special tokens that stand before the genes in every layer.
    kind
        ``"softmax"``.
    """

    n_layers: int
    n_heads: int
    d_head: int
    scale: float
    n_prefix: int
    kind: str = "softmax"


@runtime_checkable
class Backbone(Protocol):
    """A pretrained transformer whose attention can be read.

    The invariant every backbone passes in tests: attention rebuilt from the recorded queries and keys, times the
    recorded values, equals the module's own output before projection (≤ 1e-5 in float32).

    A backbone with the attribute ``whole_cells`` True is shown every gene it knows, whichever a map is asked of.
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
