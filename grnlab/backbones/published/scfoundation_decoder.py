"""The decoder of scFoundation: FAVOR+ attention over every gene of its list. Its maps are kernel maps, no softmax.

The weights are for non-commercial use only. Of ``models.ckpt`` the part ``gene`` is read, with its encoder, or the only
one. Checked against the formula of the paper of FAVOR+ in the layout of the publisher's weights; the published weights
were not at hand. The publisher takes the constant c of the keys (:mod:`grnlab.nn.performer`) from the whole batch, so
that there a cell depends a little on the others; here every cell is as if shown alone. The last layer, which predicts
values, is not read.

Shape suffixes: B cells, G genes of the list, T gene tokens, P special tokens, M dimension of the encoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.backbones.base import AttentionSpec, Encoded
from grnlab.backbones.config import ModelConfig
from grnlab.backbones.published.scfoundation import ScFoundation, ScFoundationConfig, known_totals, log_values
from grnlab.backbones.xtrimogene_tokens import visible_only
from grnlab.data.tokens import CellTokens, shared_context
from grnlab.genes import GeneVocab
from grnlab.nn import PerformerStack, Recorder
from grnlab.nn.performer import rows_of, take_rows


@dataclass(frozen=True)
class ScFoundationDecoderConfig(ModelConfig):
    """Sizes of :class:`ScFoundationDecoder`; the defaults are the published model.

    Attributes
    ----------
    encoder
        Sizes of the encoder before it.
    n_layers, d_decoder, n_heads, d_head
        Sizes of the decoder; its hidden layers are 4 times as wide.
    n_features
        Random features of a head.
    """

    encoder: ScFoundationConfig = field(default_factory=ScFoundationConfig)
    n_layers: int = 6
    d_decoder: int = 512
    n_heads: int = 8
    d_head: int = 64
    n_features: int = 266

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of ``to_dict``; an unknown key raises TypeError."""
        return super().from_dict({**values, "encoder": ScFoundationConfig.from_dict(values["encoder"])})


class ScFoundationDecoder(ScFoundation):
    """Encoder over expressed genes, then decoder over all genes of the list, zeros included, and S and T.

    Genes that the data lacks are zeros to the model, as the publisher has them. What is recorded are the features of
    the genes that the tokens name, behind those of S and T: ``q · k`` is the attention to each of them that the model
    used, and what is missing of 1 went to the other genes of the list.

    Parameters
    ----------
    vocab, config, name
        See :class:`grnlab.backbones.published.PublishedModel`.
    """

    def __init__(
        self, vocab: GeneVocab, config: ScFoundationDecoderConfig | None = None, *, name: str = "scfoundation-decoder"
    ) -> None:
        config = config or ScFoundationDecoderConfig()
        super().__init__(vocab, config.encoder, name=name)
        self.config = config
        self.encoder, self.encoder_norm = self.stack, self.final_norm
        self.to_decoder = nn.Linear(config.encoder.d_model, config.d_decoder)
        self.stack = PerformerStack(
            config.n_layers, config.d_decoder, config.n_heads, d_head=config.d_head, n_features=config.n_features
        )
        self.final_norm = nn.Sequential(nn.LayerNorm(config.d_decoder), nn.LayerNorm(config.d_decoder))

    @property
    def tokens_per_cell(self) -> int:
        """Every gene of the list, and the special tokens."""
        return self.n_prefix + len(self.vocab)

    @property
    def attention(self) -> AttentionSpec:
        """Sizes of the features of the kernel."""
        sizes = self.config
        return AttentionSpec(sizes.n_layers, sizes.n_heads, sizes.n_features, 1.0, self.n_prefix, "kernel")

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Genes to read and log1p of their counts per 10,000 of those shown; the model is shown all others as zeros.

        In the context ``"shared"`` all genes of `tokens` are read in every cell, in ``"expressed"`` those it expresses.
        """
        if context == "shared":
            return log_values(shared_context(counts, tokens, known_totals(counts)))
        return super().tokenize(counts, tokens, totals, context=context)

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor]:
        """Embeddings of the genes that are read (B, T, M), and what enters the decoder (B, P + G, d_decoder)."""
        shown, _ = visible_only(tokens)
        x_BTM = self.encoder_norm(self.encoder(super().embed(shown)[1], pad_BT=self._pad(shown)))
        zero_11M = self.value_encoder(x_BTM.new_zeros(1, 1))
        every_BGM = (zero_11M + self.gene_embedding.weight).expand(len(tokens), -1, -1).clone()
        cell, place = shown.real_BT.nonzero(as_tuple=True)
        gene = shown.genes_BT[cell, place]
        every_BGM[cell, gene] = x_BTM[cell, self.n_prefix + place] + self.gene_embedding(gene)
        special_BPM = x_BTM[:, : self.n_prefix] + self.special
        return self.gene_embedding(tokens.genes_BT), self.to_decoder(torch.cat([special_BPM, every_BGM], dim=1))

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> Encoded:
        """Run the transformer; `record` receives features, values and outputs, special tokens first."""
        gene_BTM, x_BGM = self.embed(tokens)
        x_BGM = self.final_norm(
            self.stack(x_BGM, record=None if record is None else rows_of(record, self._places(tokens)))
        )
        genes_BTM = take_rows(x_BGM, self._places(tokens))[:, self.n_prefix :]
        return Encoded(genes_BTM, x_BGM[:, 0], {}, gene_BTM, tokens.pad_BT)

    def record_qk(self, tokens: CellTokens, *, record: Recorder) -> None:
        """Record the features of every layer, and compute nothing beyond them."""
        self.stack.record_qk(self.embed(tokens)[1], record=rows_of(record, self._places(tokens)))

    def _places(self, tokens: CellTokens) -> Tensor:
        """Rows of the special tokens and of the genes that are read, (B, P + T)."""
        special_BP = torch.arange(self.n_prefix, device=tokens.genes_BT.device).expand(len(tokens), -1)
        return torch.cat([special_BP, self.n_prefix + tokens.genes_BT], dim=1)
