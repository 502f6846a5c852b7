"""xTrimoGene, the architecture of scFoundation (Hao et al. 2024, doi:10.1038/s41592-024-02305-7), to train.

The encoder reads the genes with a visible count, and two special tokens: S, the total of the counts seen, and T, the
total asked for. The decoder, whose attention is a kernel and so linear in the genes, reads all genes: what the encoder
made of the visible ones, an embedding of zero or of the mask for the others. A shared layer makes a value of each.
Values are log1p of counts per 10,000 of their total; S and T enter as log10.

Shape suffixes: B cells, T gene tokens, K visible genes, P special tokens, G genes of the data set, M model dimension.
"""

import copy
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.backbones.base import AttentionSpec
from grnlab.backbones.module import BackboneModule, behind_prefix
from grnlab.backbones.registry import register_architecture
from grnlab.backbones.xtrimogene_config import PARTS, XTrimoGeneConfig
from grnlab.backbones.xtrimogene_tokens import DepthEncoded, DepthTokens, pool, target_of, visible, visible_only
from grnlab.data.tokens import CellTokens
from grnlab.genes import GeneVocab
from grnlab.nn import BlockStack, CountDistribution, PerformerStack, Recorder, TransformerStack
from grnlab.nn.attention import head_projections
from grnlab.nn.discretize import AutoDiscretization
from grnlab.nn.performer import rows_of, take_rows
from grnlab.nn.post_norm import PostNormStack

PER = 1e4
"""Counts are scaled to this total before their logarithm is taken."""
_N_PREFIX = 2  # S, T


class XTrimoGene(BackboneModule):
    """Encoder over expressed genes, decoder over all genes, values at the total asked for.

    Parameters
    ----------
    vocab
        Genes the model knows.
    config
        Sizes and switches.
    name
        What results call the model.

    Examples
    --------
    >>> import pandas as pd
    >>> vocab = GeneVocab(pd.DataFrame({"symbol": ["A", "B"], "ensembl_id": "", "aliases": "", "position": [0, 1],
    ...     "species": "none", "is_tf": False}))
    >>> model = XTrimoGene(vocab, XTrimoGeneConfig(n_layers=1, d_model=8, n_heads=2))
    >>> tokens = CellTokens(torch.tensor([[0, 1]]), torch.tensor([[3.0, 0.0]]), torch.tensor([3.0]))
    >>> model.values(model.encode(tokens)).shape
    torch.Size([1, 2])
    """

    whole_cells = True
    objectives = ("read_depth",)
    maps_of_hidden = False  # the encoder never sees hidden genes; the decoder is run again for predictions

    def __init__(self, vocab: GeneVocab, config: XTrimoGeneConfig | None = None, *, name: str = "xtrimogene") -> None:
        config = config or XTrimoGeneConfig()
        super().__init__(vocab, config, name=name)
        d_model, d_decoder, paper = config.d_model, config.d_decoder, config.settings == "paper"
        self.gene_embedding = nn.Embedding(len(vocab), d_model)
        self.special = nn.Parameter(torch.randn(_N_PREFIX, d_model))
        self.value_encoder = AutoDiscretization(
            config.n_bins, d_model, alpha=1.0, learn_alpha=paper, slope=0.01 if paper else 0.1, bias=not paper
        )
        self.zero = nn.Parameter(torch.randn(d_model)) if paper else None
        self.mask = nn.Parameter(torch.randn(d_model))
        sizes = (config.n_layers, d_model, config.n_heads)
        self.encoder: BlockStack = TransformerStack(*sizes) if paper else PostNormStack(*sizes, 4 * d_model)
        self.encoder_norm = nn.Identity() if paper else nn.LayerNorm(d_model)
        self.to_decoder = nn.Linear(d_model, d_decoder)
        self.decoder = PerformerStack(
            config.n_decoder_layers, d_decoder, config.n_decoder_heads, n_features=config.n_features
        )
        self.decoder_norm = nn.LayerNorm(d_decoder)
        hidden = [nn.Linear(d_decoder, d_decoder), nn.GELU()] if paper else []
        self.to_value = nn.Sequential(*hidden, nn.Linear(d_decoder, 1))

    def part(self, name: str) -> "XTrimoGene":
        """The same weights, with the attention of ``"encoder"`` or ``"decoder"`` to be read; a model of its own.

        The maps of the encoder are softmax maps of the genes a cell expresses, those of the decoder **kernel** maps of
        all genes: see :class:`grnlab.backbones.AttentionSpec`.

        Raises
        ------
        ValueError
            For another name.
        """
        part = copy.copy(self)
        part.config = replace(self.config, part=name)
        part.name = self.name.removesuffix("-decoder") + ("-decoder" if name == PARTS[1] else "")
        if name != self.config.part:
            part.heads = {}  # head sets are of other heads
        return part

    @property
    def attention(self) -> AttentionSpec:
        """Sizes and scale of the attention of the part that is read."""
        config = self.config
        if config.part == "decoder":
            attention = self.decoder.layers[0].attention
            n_features = len(attention.projection_RD)
            return AttentionSpec(config.n_decoder_layers, attention.n_heads, n_features, 1.0, _N_PREFIX, "kernel")
        return AttentionSpec.softmax(config.n_layers, config.d_model, config.n_heads, n_prefix=_N_PREFIX)

    @property
    def tokens_per_cell(self) -> int:
        """Least tokens of a cell: the decoder is shown every gene of a data set, of which the vocabulary is a bound."""
        return _N_PREFIX + (len(self.vocab) if self.config.part == "decoder" else 0)

    def output_projections(self) -> list[Tensor]:
        """What turns the values of each head into what it adds to a token, per layer: shape (H, M, d_head)."""
        stack = self.decoder if self.config.part == "decoder" else self.encoder
        return head_projections(stack.layers)

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Genes and their counts; the decoder is shown the other genes of the data set as zeros.

        Raises
        ------
        ValueError
            For the context ``"shared"`` while the attention of the encoder, which sees no zeros, is read.
        """
        if self.config.part == "encoder" and context == "shared":
            msg = (
                'context="shared": the encoder of xTrimoGene sees no zeros; use context="expressed", or the decoder: '
                'model.part("decoder").'
            )
            raise ValueError(msg)
        shown = super().tokenize(counts, tokens, totals, context=context)
        if self.config.part == "encoder":
            return shown
        measured_G = torch.from_numpy(np.sort(np.asarray(tokens, dtype=np.int64)))
        return shown.into(DepthTokens, measured_G=measured_G)

    def embed(self, tokens: CellTokens) -> Tensor:
        """What enters the encoder, S and T first, of tokens that are all visible; (B, P + K, M)."""
        source_B = tokens.totals_B.clamp(min=1)
        scaled_BK = (tokens.values_BT / source_B.unsqueeze(-1) * PER).log1p()
        depths_BP = torch.stack([source_B, target_of(tokens).clamp(min=1)], dim=1).log10()
        values_BTM = self.value_encoder(torch.cat([depths_BP, scaled_BK], dim=1))
        special_BPM = self.special.expand(len(tokens), -1, -1)
        return values_BTM + torch.cat([special_BPM, self.gene_embedding(tokens.genes_BT)], dim=1)

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> DepthEncoded:
        """Run the encoder; and the decoder, where `record` is to hear its attention.

        Parameters
        ----------
        tokens
            A batch of cells.
        record
            Receives queries, keys, values and attention outputs of every layer of the part, special tokens first.

        Raises
        ------
        ValueError
            When the attention of the encoder is to be recorded of tokens that it does not see.
        """
        of_encoder = record if self.config.part == "encoder" else None
        shown, place_BK = self._shown(tokens, of_encoder)
        x_BTM, pad_BT = self.embed(shown), behind_prefix(shown.pad_BT, _N_PREFIX)
        x_BTM = self.encoder_norm(
            self.encoder(x_BTM, pad_BT=pad_BT, record=of_encoder, recompute=self.config.recompute)
        )
        special_BPM, x_BKM = x_BTM[:, :_N_PREFIX], x_BTM[:, _N_PREFIX:]
        genes_BTM = self._unseen(tokens).to(x_BKM.dtype)
        cell, place = shown.real_BT.nonzero(as_tuple=True)
        genes_BTM[cell, place_BK[cell, place]] = x_BKM[cell, place]
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        encoded = DepthEncoded(
            genes_BTM, special_BPM[:, 0], {}, gene_BTM, tokens.pad_BT, special_BPM=special_BPM, tokens=tokens
        )
        if record is not None and self.config.part == "decoder":
            x_BGM, place_BT, pad_BG = self._decoder_input(encoded)
            self.decoder(x_BGM, pad_BT=pad_BG, record=rows_of(record, place_BT))
        return replace(encoded, cell_BM=pool(encoded, "mean"))

    def record_qk(self, tokens: CellTokens, *, record: Recorder) -> None:
        """Record queries and keys (features, of the decoder) of every layer, and compute nothing beyond them."""
        if self.config.part == "encoder":
            shown, _ = self._shown(tokens, record)
            self.encoder.record_qk(self.embed(shown), pad_BT=behind_prefix(shown.pad_BT, _N_PREFIX), record=record)
            return
        x_BGM, place_BT, pad_BG = self._decoder_input(self.encode(tokens))
        self.decoder.record_qk(x_BGM, pad_BT=pad_BG, record=rows_of(record, place_BT))

    def contexts(self, encoded: DepthEncoded) -> Tensor:
        """Context embeddings of the genes that the tokens name, from the decoder, shape (B, T, d_decoder)."""
        x_BGM, place_BT, pad_BG = self._decoder_input(encoded)
        x_BGM = self.decoder(x_BGM, pad_BT=pad_BG, recompute=self.config.recompute)
        return self.decoder_norm(take_rows(x_BGM, place_BT[:, _N_PREFIX:]))

    def values(self, encoded: DepthEncoded) -> Tensor:
        """Predicted log1p of counts per 10,000 at the total asked for, shape (B, T)."""
        return self.to_value(self.contexts(encoded)).squeeze(-1).float()

    def decode(self, encoded: DepthEncoded, depth_B: Tensor) -> CountDistribution:
        """Expected log2(1 + count) of cells of the total asked for, whatever `depth_B`, the total of the context."""
        scaled_BT = self.values(encoded).clamp(0, 12).expm1()  # e¹² is far beyond 10,000: it keeps the exponential
        counts_BT = scaled_BT * (target_of(encoded.tokens) / PER).unsqueeze(-1)
        return CountDistribution("mse", torch.log2(1 + counts_BT))

    def _shown(self, tokens: CellTokens, record: Recorder | None) -> tuple[CellTokens, Tensor]:
        """What the encoder sees of the tokens, and where it stands among them."""
        if torch.equal(visible(tokens), tokens.real_BT):
            place_BT = torch.arange(tokens.genes_BT.shape[1], device=self.device).expand(len(tokens), -1)
            return tokens, place_BT
        if record is not None:
            msg = (
                "tokens name genes without a count, or hidden ones, which the encoder of xTrimoGene does not see; its "
                'attention is recorded of expressed genes only. Leave them out, or read model.part("decoder").'
            )
            raise ValueError(msg)
        shown, place_BK = visible_only(tokens)
        return shown.into(DepthTokens, target_B=target_of(tokens)), place_BK

    def _unseen(self, tokens: CellTokens) -> Tensor:
        """Embedding of zero at every gene, of the mask at hidden ones, (B, T, M)."""
        zero_M = self._zero().expand(*tokens.genes_BT.shape, -1)
        if tokens.hidden_BT is None:
            return zero_M.clone()
        return torch.where(tokens.hidden_BT.unsqueeze(-1), self.mask.to(zero_M.dtype), zero_M)

    def _zero(self) -> Tensor:
        return self.value_encoder(self.special.new_zeros(1, 1))[0, 0] if self.zero is None else self.zero

    def _decoder_input(self, encoded: DepthEncoded) -> tuple[Tensor, Tensor, Tensor | None]:
        """What enters the decoder; where in it the special tokens and the genes of the tokens stand; its padding."""
        tokens, read_BTM = encoded.tokens, encoded.genes_BTM + encoded.input_BTM
        measured_G, pad_BG = getattr(tokens, "measured_G", None), behind_prefix(tokens.pad_BT, _N_PREFIX)
        place_BT = torch.arange(tokens.genes_BT.shape[1], device=self.device).expand(len(tokens), -1)
        if measured_G is not None:
            place_BT = torch.searchsorted(measured_G, tokens.genes_BT.contiguous()).clamp(max=len(measured_G) - 1)
            every_BGM = (self._zero() + self.gene_embedding(measured_G)).expand(len(tokens), -1, -1).clone()
            cell, place = tokens.real_BT.nonzero(as_tuple=True)
            every_BGM[cell, place_BT[cell, place]] = read_BTM[cell, place].to(every_BGM.dtype)
            read_BTM, pad_BG = every_BGM, None
        x_BGM = self.to_decoder(torch.cat([encoded.special_BPM + self.special, read_BTM], dim=1))
        special_BP = torch.arange(_N_PREFIX, device=self.device).expand(len(tokens), -1)
        return x_BGM, torch.cat([special_BP, _N_PREFIX + place_BT], dim=1), pad_BG


register_architecture("xtrimogene", XTrimoGene, XTrimoGeneConfig)
