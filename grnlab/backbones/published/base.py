"""What the published models have in common: special tokens first, then genes, through a stack of blocks.

Shape suffixes: B cells, T gene tokens, P special tokens, M model dimension.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.backbones.base import AttentionSpec, Encoded
from grnlab.backbones.module import BackboneModule, behind_prefix
from grnlab.data.tokens import CellTokens
from grnlab.genes import GeneVocab
from grnlab.nn import BlockStack, Recorder
from grnlab.nn.attention import head_projections


class PublishedModel(BackboneModule, ABC):
    """A published transformer, reduced to what its attention needs: nothing that predicts, no dropout.

    Where the publisher puts special tokens behind the genes, they stand before them here: attention does not know the
    order of tokens, only the position codes that were added to them, and those are kept.

    Parameters
    ----------
    vocab
        Genes the model knows.
    config
        Sizes and switches, with ``n_layers``, ``n_heads`` and ``d_model``.
    name
        What results call the model.
    """

    stack: BlockStack
    whole_cells = False
    """What a gene says depends on all others of the cell: show every gene, whichever are asked about."""

    def __init__(self, vocab: GeneVocab, config: Any, *, name: str) -> None:
        super().__init__(vocab, config, name=name)
        self.gene_embedding = nn.Embedding(len(vocab), config.d_model)
        self.final_norm: nn.Module = nn.Identity()

    @property
    @abstractmethod
    def n_prefix(self) -> int:
        """Number of special tokens P."""

    @abstractmethod
    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Show cells to the model as it was trained to see them, see :class:`grnlab.backbones.Backbone`."""

    @abstractmethod
    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor]:
        """Embeddings of the genes alone (B, T, M), and what enters the first block (B, P + T, M)."""

    @property
    def attention(self) -> AttentionSpec:
        """Sizes and scale of the attention."""
        config = self.config
        return AttentionSpec.softmax(config.n_layers, config.d_model, config.n_heads, n_prefix=self.n_prefix)

    def output_projections(self) -> list[Tensor]:
        """What turns the values of each head into what it adds to a token, per layer: shape (H, M, d_head)."""
        return head_projections(self.stack.layers)

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> Encoded:
        """Run the transformer; `record` receives queries, keys, values and outputs, special tokens first."""
        gene_BTM, x_BTM = self.embed(tokens)
        x_BTM = self.final_norm(self.stack(x_BTM, pad_BT=self._pad(tokens), record=record))
        genes_BTM = x_BTM[:, self.n_prefix :]
        return Encoded(genes_BTM, self.cell(x_BTM, tokens), {}, gene_BTM, tokens.pad_BT)

    def record_qk(self, tokens: CellTokens, *, record: Recorder) -> None:
        """Record queries and keys of every layer, and compute nothing beyond them."""
        self.stack.record_qk(self.embed(tokens)[1], pad_BT=self._pad(tokens), record=record)

    def cell(self, x_BTM: Tensor, tokens: CellTokens) -> Tensor:
        """Embedding of the cells from the last layer: the first special token, or the mean of the genes."""
        if self.n_prefix:
            return x_BTM[:, 0]
        real_BT1 = tokens.real_BT.unsqueeze(-1)
        return (x_BTM * real_BT1).sum(1) / real_BT1.sum(1)

    def _pad(self, tokens: CellTokens) -> Tensor | None:
        return behind_prefix(tokens.pad_BT, self.n_prefix)


def cut_to(width: int, tokens: CellTokens) -> CellTokens:
    """The first `width` genes of every cell."""
    pad_BT = None if tokens.pad_BT is None else tokens.pad_BT[:, :width]
    if pad_BT is not None and not pad_BT.any():
        pad_BT = None
    return CellTokens(tokens.genes_BT[:, :width], tokens.values_BT[:, :width], tokens.totals_B, pad_BT)


def by_token(cells: CellTokens) -> CellTokens:
    """Genes of every cell in the order of the vocabulary, so that the order of columns shows nowhere."""
    last = torch.iinfo(torch.int64).max
    order_BT = cells.genes_BT.masked_fill(~cells.real_BT, last).argsort(dim=1, stable=True)
    return CellTokens(
        cells.genes_BT.gather(1, order_BT), cells.values_BT.gather(1, order_BT), cells.totals_B, cells.pad_BT
    )
