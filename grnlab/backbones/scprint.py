"""The scPRINT backbone (Kalfon et al. 2025, doi:10.1038/s41467-025-58699-1).

A token is the **sum** of a gene embedding, an embedding of its count and a code of its place in the genome. Special
tokens stand first: total counts, the cell embedding, one per class. Pre-norm blocks, softmax attention, biases.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from grnlab.backbones.base import AttentionSpec, Encoded
from grnlab.backbones.config import ClassesConfig
from grnlab.backbones.module import ClassifyingModule, behind_prefix, start_branches_small, start_linears
from grnlab.data.tokens import CellTokens
from grnlab.genes import GeneVocab
from grnlab.nn import (
    CellDecoder,
    ClassDecoder,
    CountDistribution,
    DepthEncoder,
    ExpressionDecoder,
    GenomePosition,
    Recorder,
    TransformerStack,
    ValueEncoder,
)
from grnlab.nn.attention import head_projections


@dataclass(frozen=True)
class ScPrintConfig(ClassesConfig):
    """Sizes and switches of :class:`ScPrint`; the defaults are the published small model.

    Attributes
    ----------
    n_layers, d_model, n_heads
        Sizes of the transformer (small 4/128/2, medium 8/256/4, large 16/512/8).
    value_scale
        ``"log2"`` or ``"fraction"``, see :class:`grnlab.nn.ValueEncoder`.
    decoder
        ``"zinb"``, ``"nb"`` or ``"mse"``.
    positions
        Add the code of the genome position.
    classes
        Class name → its leaf labels; each class has a special token and a decoder.
    groups
        Class name → coarse label → its leaf labels, for classes whose labels come from an ontology.
    dropout, drop_path
        While training.
    """

    n_layers: int = 4
    d_model: int = 128
    n_heads: int = 2
    value_scale: str = "log2"
    decoder: str = "zinb"
    positions: bool = True
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    dropout: float = 0.1
    drop_path: float = 0.02

    def __post_init__(self) -> None:
        if strange := sorted(set(self.groups) - set(self.classes)):
            msg = f"groups names the classes {strange}, which are not among classes {sorted(self.classes)}."
            raise ValueError(msg)
        self.check_labels()
        for name in self.classes:
            for label, leaves in self.groups.get(name, {}).items():
                if not leaves or not set(leaves) <= set(self.classes[name]):
                    msg = (
                        f"group {label!r} of class {name!r} has the leaves {sorted(leaves)}; it needs one or more of "
                        f"classes[{name!r}]."
                    )
                    raise ValueError(msg)

    def labels(self, name: str) -> tuple[str, ...]:
        """All labels of a class in the order of their codes: the leaves, then the coarse labels."""
        return (*self.classes[name], *self.groups.get(name, {}))


class ScPrint(ClassifyingModule):
    """scPRINT: gene tokens and special tokens through a pre-norm transformer.

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
    >>> model = ScPrint(vocab, ScPrintConfig(n_layers=1, d_model=8, n_heads=2))
    >>> tokens = CellTokens(torch.tensor([[0, 1]]), torch.tensor([[3.0, 0.0]]), torch.tensor([3.0]))
    >>> model.encode(tokens).genes_BTM.shape
    torch.Size([1, 2, 8])
    """

    cell_token = 1  # that of the total counts stands before it

    def __init__(self, vocab: GeneVocab, config: ScPrintConfig | None = None, *, name: str = "scprint") -> None:
        config = config or ScPrintConfig()
        super().__init__(vocab, config, name=name)
        d_model = config.d_model
        self.gene_embedding = nn.Embedding(len(vocab), d_model)
        self.value_encoder = ValueEncoder(d_model, scale=config.value_scale)
        self.position = GenomePosition(vocab.positions, d_model) if config.positions else None
        self.depth_encoder = DepthEncoder(d_model)
        self.special = nn.Parameter(torch.zeros(1 + len(config.classes), d_model))  # cell embedding, then classes
        self.transformer = TransformerStack(
            config.n_layers, d_model, config.n_heads, dropout=config.dropout, drop_path=config.drop_path
        )
        self.expression_decoder = ExpressionDecoder(d_model, kind=config.decoder)
        self.cell_decoder = CellDecoder(d_model, kind=config.decoder)
        self.class_decoders = nn.ModuleDict(
            {
                class_: ClassDecoder(
                    d_model,
                    len(leaves),
                    groups=[[leaves.index(leaf) for leaf in group] for group in config.groups.get(class_, {}).values()],
                )
                for class_, leaves in config.classes.items()
            }
        )
        self._initialise()

    def _initialise(self) -> None:
        start_linears(self)
        for encoder in (self.value_encoder, self.depth_encoder):
            # LayerNorm(w · x) without an offset is the same for every x > 0: spread the offsets over the range of log2
            # counts (or of fractions), or the model starts blind to values
            small = encoder is self.value_encoder and self.config.value_scale == "fraction"
            nn.init.normal_(cast("nn.Linear", encoder.mlp[0]).bias, std=0.01 if small else 3.0)
        nn.init.normal_(self.cell_decoder.cell.weight, std=0.1 / math.sqrt(self.config.d_model))
        nn.init.normal_(self.gene_embedding.weight, std=1.0)
        nn.init.normal_(self.special, std=1.0)
        nn.init.normal_(self.value_encoder.hidden, std=1.0)
        start_branches_small(self.transformer.layers, self.config.n_layers)

    @property
    def attention(self) -> AttentionSpec:
        """Sizes and scale of the attention."""
        config = self.config
        n_prefix = 2 + len(config.classes)
        return AttentionSpec.softmax(config.n_layers, config.d_model, config.n_heads, n_prefix=n_prefix)

    def output_projections(self) -> list[Tensor]:
        """What turns the values of each head into what it adds to a token, per layer: shape (H, M, d_head)."""
        return head_projections(self.transformer.layers)

    def use_attention(self, backend: str) -> None:
        """Choose the attention implementation of every layer, ``"sdpa"`` or ``"flash"``."""
        for block in self.transformer.layers:
            block.attention.backend = backend

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gene embeddings (B, T, M), all tokens (B, P + T, M) with the special ones first, and their padding."""
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        value_BTM = self.value_encoder(tokens.values_BT, hidden_BT=tokens.hidden_BT, real_BT=tokens.real_BT)
        return gene_BTM, *self._sequence(gene_BTM + value_BTM, self.special.expand(len(tokens), -1, -1), tokens)

    def _sequence(self, x_BTM: Tensor, special_BEM: Tensor, tokens: CellTokens) -> tuple[Tensor, Tensor | None]:
        """Add positions to the gene tokens, set the total and the special tokens before them; with the padding."""
        if self.position is not None:
            x_BTM = x_BTM + self.position(tokens.genes_BT)
        depth_B1M = self.depth_encoder(tokens.totals_B).unsqueeze(1)
        x_BTM = torch.cat([depth_B1M, special_BEM.to(x_BTM.dtype), x_BTM], dim=1)
        return x_BTM, behind_prefix(tokens.pad_BT, self.attention.n_prefix)

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> Encoded:
        """Run the transformer.

        Parameters
        ----------
        tokens
            A batch of cells.
        record
            Receives queries, keys, values and attention outputs of every layer, special tokens first.
        """
        gene_BTM, x_BTM, pad_BT = self.embed(tokens)
        return self._encoded(gene_BTM, self.transformer(x_BTM, pad_BT=pad_BT, record=record), tokens)

    def regenerate(self, encoded: Encoded, tokens: CellTokens) -> Encoded:
        """Run the transformer again with the embeddings of the cells in place of counts and special tokens.

        Parameters
        ----------
        encoded
            Output of :meth:`encode`, of which only ``cell_BM`` and ``classes_BM`` are used.
        tokens
            Genes to make counts for, which need not be those that were encoded, and the total to make; their counts
            are not read.
        """
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        special_BEM = torch.stack([encoded.cell_BM, *(encoded.classes_BM[name] for name in self.config.classes)], dim=1)
        x_BTM, pad_BT = self._sequence(gene_BTM, special_BEM, tokens)
        return self._encoded(gene_BTM, self.transformer(x_BTM, pad_BT=pad_BT), tokens)

    def _encoded(self, gene_BTM: Tensor, x_BTM: Tensor, tokens: CellTokens) -> Encoded:
        n_prefix = self.attention.n_prefix
        return Encoded(
            genes_BTM=x_BTM[:, n_prefix:],
            cell_BM=x_BTM[:, 1],
            classes_BM={name: x_BTM[:, 2 + place] for place, name in enumerate(self.config.classes)},
            input_BTM=gene_BTM,
            pad_BT=tokens.pad_BT,
        )

    def record_qk(self, tokens: CellTokens, *, record: Recorder) -> None:
        """Record queries and keys of every layer, and compute nothing beyond them."""
        _, x_BTM, pad_BT = self.embed(tokens)
        self.transformer.record_qk(x_BTM, pad_BT=pad_BT, record=record)

    def decode(self, encoded: Encoded, depth_B: Tensor) -> CountDistribution:
        """Counts of the genes of the context; `depth_B` is the total the context should hold."""
        return self.expression_decoder(encoded.genes_BTM, depth_B, pad_BT=encoded.pad_BT)

    def decode_from_cell(self, encoded: Encoded, depth_B: Tensor) -> CountDistribution:
        """Counts of the genes of the context from the cell embeddings alone."""
        cell_BM = encoded.cell_BM + sum(encoded.classes_BM.values(), torch.zeros_like(encoded.cell_BM))
        return self.cell_decoder(encoded.input_BTM, cell_BM, depth_B, pad_BT=encoded.pad_BT)
