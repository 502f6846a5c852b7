"""The CellLM backbone (Zhao et al. 2023, https://arxiv.org/abs/2306.04371).

A token is the sum of a gene embedding and the embedding of the **bin** of its expression; only genes that a cell
expresses are read. A CLS token stands first. Pre-norm Performer blocks, so the attention is a kernel, no softmax.

Shape suffixes: B cells, T gene tokens, M model dimension, N chosen places.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.backbones.base import AttentionSpec, Encoded
from grnlab.backbones.config import ClassesConfig
from grnlab.backbones.module import ClassifyingModule, start_branches_small, start_linears
from grnlab.backbones.registry import register_architecture
from grnlab.data.tokens import CellTokens, keep_tokens
from grnlab.genes import GeneVocab
from grnlab.nn import ClassDecoder, PerformerStack, Recorder
from grnlab.nn.attention import head_projections

_TARGET_SUM = 1e4


@dataclass(frozen=True)
class CellLMConfig(ClassesConfig):
    """Sizes of :class:`CellLM`; the defaults are the published model.

    Attributes
    ----------
    n_layers, d_model, n_heads
        Sizes of the Performer.
    n_features
        Random features of a head; ``d_head · ln d_head`` by default.
    n_bins
        Bins of the expression ``ln(1 + counts per 10,000)``, all of one width, from 0 to that of a cell which expresses
        one gene alone.
    classes
        Class name → its labels, told from the CLS token; in the paper tumour and normal.
    dropout
        While training; two passes that differ in it are the two views of a cell of
        :class:`grnlab.objectives.DropoutContrast`.

    Raises
    ------
    ValueError
        For sizes below 1, `d_model` that is no multiple of `n_heads`, or a label that comes twice.
    """

    n_layers: int = 10
    d_model: int = 512
    n_heads: int = 16
    n_features: int | None = None
    n_bins: int = 32
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_heads", "n_bins"):
            if getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)} must be 1 or more."
                raise ValueError(msg)
        if self.d_model % self.n_heads:
            msg = f"d_model={self.d_model} must be a multiple of n_heads={self.n_heads}."
            raise ValueError(msg)
        self.check_labels()


class CellLM(ClassifyingModule):
    """CellLM: the expressed genes of a cell and a CLS token through a Performer.

    The embedding of a cell is what CLS became, plus the paper's pooling: every gene token becomes one number, and the
    numbers, 0 for genes that are not expressed, are mapped linearly from the whole gene list to `d_model`. That map
    starts as the gene embedding, so it profits from vectors the genes start with.

    Parameters
    ----------
    vocab
        Genes the model knows.
    config
        Sizes.
    name
        What results call the model.

    Examples
    --------
    >>> import pandas as pd
    >>> vocab = GeneVocab(pd.DataFrame({"symbol": ["A", "B"], "ensembl_id": "", "aliases": "", "position": [0, 1],
    ...     "species": "none", "is_tf": False}))
    >>> model = CellLM(vocab, CellLMConfig(n_layers=1, d_model=8, n_heads=2))
    >>> tokens = CellTokens(torch.tensor([[0, 1]]), torch.tensor([[3.0, 0.0]]), torch.tensor([3.0]))
    >>> model.encode(tokens).cell_BM.shape
    torch.Size([1, 8])
    """

    cell_token = 0
    objectives = ("mask_bins",)

    def __init__(self, vocab: GeneVocab, config: CellLMConfig | None = None, *, name: str = "celllm") -> None:
        config = config or CellLMConfig()
        super().__init__(vocab, config, name=name)
        d_model = config.d_model
        self.gene_embedding = nn.Embedding(len(vocab), d_model)
        self.bin_embedding = nn.Embedding(config.n_bins + 1, d_model)  # the last is that of hidden expression
        self.special = nn.Parameter(torch.zeros(1, d_model))
        self.transformer = PerformerStack(
            config.n_layers, d_model, config.n_heads, n_features=config.n_features, dropout=config.dropout
        )
        self.norm = nn.LayerNorm(d_model)
        self.bin_decoder = nn.Linear(d_model, config.n_bins)
        self.pool_score = nn.Linear(d_model, 1)
        self.pool_embedding = nn.Embedding(len(vocab), d_model)  # what the pooling adds to the gene embedding
        self.pool_norm = nn.LayerNorm(d_model)
        self.class_decoders = nn.ModuleDict(
            {name: ClassDecoder(d_model, len(labels)) for name, labels in config.classes.items()}
        )
        self._initialise()

    def _initialise(self) -> None:
        start_linears(self)
        start_branches_small(self.transformer.layers, self.config.n_layers)
        nn.init.normal_(self.special)
        nn.init.ones_(self.pool_score.bias)  # every expressed gene counts at first
        nn.init.zeros_(self.pool_embedding.weight)
        bins = torch.arange(self.config.n_bins, dtype=torch.float32)
        alike = torch.exp(-((bins[:, None] - bins) ** 2) / 8)  # bins that are neighbours start alike
        alike = alike / alike.norm(dim=1, keepdim=True)
        with torch.no_grad():
            self.bin_embedding.weight[:-1] = alike @ self.bin_embedding.weight[:-1]

    @property
    def attention(self) -> AttentionSpec:
        """Sizes of the features of the kernel."""
        n_features = self.transformer.layers[0].attention.projection_RD.shape[0]
        return AttentionSpec(self.config.n_layers, self.config.n_heads, n_features, 1.0, 1, "kernel")

    def output_projections(self) -> list[Tensor]:
        """What turns the values of each head into what it adds to a token, per layer: shape (H, M, d_head)."""
        return head_projections(self.transformer.layers)

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Expressed genes and their counts, see :func:`grnlab.data.tokens.tokenize`.

        Raises
        ------
        ValueError
            For another context than ``"expressed"``.
        """
        if context != "expressed":
            msg = f'context={context!r}: CellLM reads the genes a cell expresses; use context="expressed".'
            raise ValueError(msg)
        return super().tokenize(counts, tokens, totals, context=context)

    def bins(self, tokens: CellTokens) -> Tensor:
        """Bin of the expression of each gene, int64 of shape (B, T)."""
        totals_B1 = tokens.totals_B.clamp(min=1e-6).unsqueeze(-1)
        level_BT = torch.log1p(tokens.values_BT * (_TARGET_SUM / totals_B1)) / math.log1p(_TARGET_SUM)
        return (level_BT * self.config.n_bins).long().clamp(0, self.config.n_bins - 1)

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor, Tensor]:
        """Gene embeddings (B, T, M), all tokens (B, 1 + T, M) with CLS first, and which of them are not read."""
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        bin_BT = self.bins(tokens)
        if tokens.hidden_BT is not None:
            bin_BT = bin_BT.masked_fill(tokens.hidden_BT, self.config.n_bins)
        x_BTM = torch.cat([self.special.expand(len(tokens), 1, -1), gene_BTM + self.bin_embedding(bin_BT)], dim=1)
        return gene_BTM, x_BTM, nn.functional.pad(~expressed(tokens), (1, 0))

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> Encoded:
        """Run the Performer over the expressed genes; the output at any other place is 0.

        Parameters
        ----------
        tokens
            A batch of cells.
        record
            Receives features, values and attention outputs of every layer, CLS first.
        """
        if record is not None:  # every token keeps its place
            return self._encode(tokens, record)
        short, place_BN = keep_tokens(tokens, expressed(tokens))
        encoded = self._encode(short, None)
        genes_BTM = encoded.genes_BTM.new_zeros(*tokens.genes_BT.shape, self.config.d_model)
        genes_BTM = genes_BTM.scatter(1, place_BN.unsqueeze(-1).expand_as(encoded.genes_BTM), encoded.genes_BTM)
        return Encoded(
            genes_BTM, encoded.cell_BM, encoded.classes_BM, self.gene_embedding(tokens.genes_BT), ~expressed(tokens)
        )

    def _encode(self, tokens: CellTokens, record: Recorder | None) -> Encoded:
        gene_BTM, x_BTM, pad_BT = self.embed(tokens)
        x_BTM = self.norm(self.transformer(x_BTM, pad_BT=pad_BT, record=record))
        x_BTM = x_BTM.masked_fill(pad_BT.unsqueeze(-1), 0.0)
        cls_BM, genes_BTM = x_BTM[:, 0], x_BTM[:, 1:]
        score_BT = self.pool_score(genes_BTM).squeeze(-1).masked_fill(pad_BT[:, 1:], 0.0)
        map_BTM = gene_BTM + self.pool_embedding(tokens.genes_BT)
        cell_BM = cls_BM + self.pool_norm(torch.einsum("bt,btm->bm", score_BT, map_BTM))
        return Encoded(genes_BTM, cell_BM, dict.fromkeys(self.config.classes, cls_BM), gene_BTM, pad_BT[:, 1:])

    def record_qk(self, tokens: CellTokens, *, record: Recorder) -> None:
        """Record the features of every layer, and compute nothing beyond them."""
        _, x_BTM, pad_BT = self.embed(tokens)
        self.transformer.record_qk(x_BTM, pad_BT=pad_BT, record=record)

    def decode_bins(self, x_NM: Tensor) -> Tensor:
        """Logits of the bins, (N, n_bins), from outputs at some places."""
        return self.bin_decoder(x_NM)


def expressed(tokens: CellTokens) -> Tensor:
    """True at the genes that CellLM reads, bool of shape (B, T)."""
    return tokens.real_BT & (tokens.values_BT > 0)


register_architecture("celllm", CellLM, CellLMConfig)
