"""The Exceiver backbone (Connell, Khan & Keiser 2022, doi:10.48550/arXiv.2210.14330): a Perceiver IO of genes.

A token is the embedding of a gene **times** its expression: the standard score of ``log1p(counts per 10,000)``, shifted
to a mean of 1. Latents read the genes a cell expresses (a zero is not attended to: it may be a dropout), mix, and
answer the unscaled embeddings of the genes whose expression is asked for. Cost is linear in the genes.

Shape suffixes: B cells, T gene tokens, Q queries among them, P class tokens, N latents, M model dimension, G genes.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import anndata as ad
import numpy as np
import torch
from torch import Tensor, nn

from grnlab.backbones.base import AttentionSpec, Encoded
from grnlab.backbones.config import ClassesConfig
from grnlab.backbones.exceiver_statistics import GeneStatistics, gene_statistics
from grnlab.backbones.module import ClassifyingModule
from grnlab.backbones.registry import register_architecture
from grnlab.data.collection import CellCollection
from grnlab.data.counts import counts_of
from grnlab.data.names import align_genes
from grnlab.data.tokens import CellTokens
from grnlab.genes import GeneVocab
from grnlab.nn import ClassDecoder, CountDistribution, Recorder
from grnlab.nn.perceiver import Perceiver, TwoHops


@dataclass(frozen=True)
class ExceiverConfig(ClassesConfig):
    """Sizes and switches of :class:`Exceiver`.

    Attributes
    ----------
    n_latents, n_layers, d_model, n_heads
        Latents, their self-attention blocks, and the sizes of all blocks.
    limit
        Standard scores are cut off there, either way; the paper has no limit, and a gene seen in one of 10,000 cells a
        score of 100.
    mixing
        Whether two-hop maps follow the self-attention of the latents, see :class:`grnlab.nn.perceiver.TwoHops`.
    classes
        Class name → its labels; each class has a token that is read with the genes, asks the latents and is decoded.
    dropout
        While training.
    """

    n_latents: int = 32
    n_layers: int = 4
    d_model: int = 128
    n_heads: int = 4
    limit: float = 10.0
    mixing: bool = True
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_latents", "n_layers", "d_model", "n_heads", "limit"):
            if not getattr(self, name) > 0:
                msg = f"{name}={getattr(self, name)} must be above 0."
                raise ValueError(msg)
        if self.d_model % self.n_heads:
            msg = f"d_model={self.d_model} must be a multiple of n_heads={self.n_heads}."
            raise ValueError(msg)
        self.check_labels()


@dataclass(frozen=True, kw_only=True)
class QueriedTokens(CellTokens):
    """Cells of which only some genes are asked for.

    Attributes
    ----------
    query_BQ
        Places of the genes that ask the latents, int64.
    """

    query_BQ: Tensor


@dataclass(frozen=True, kw_only=True)
class ExceiverEncoded(Encoded):
    """Output of :class:`Exceiver`; the gene tokens are those asked for, all by default.

    Attributes
    ----------
    latents_BNM
        Latents of the cells, whose mean is the cell embedding.
    genes_BQ
        Genes asked for.
    totals_B
        Total counts of the cells.
    """

    latents_BNM: Tensor
    genes_BQ: Tensor
    totals_B: Tensor


class Exceiver(ClassifyingModule):
    """Exceiver: expressed genes, scaled by expression, through a Perceiver IO.

    What is recorded is the **two-hop map** gene → latents → gene, see :class:`grnlab.nn.perceiver.TwoHops`: one layer
    of ``n_heads²`` heads, a pair of a decoder's and an encoder's.

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
    >>> model = Exceiver(vocab, ExceiverConfig(n_latents=3, n_layers=1, d_model=8, n_heads=2))
    >>> tokens = CellTokens(torch.tensor([[0, 1]]), torch.tensor([[3.0, 0.0]]), torch.tensor([3.0]))
    >>> model.encode(tokens).genes_BTM.shape
    torch.Size([1, 2, 8])
    """

    objectives = ("discrete_noise",)
    maps_of_hidden = False  # two hops are read beside what the model computes
    mean_G: Tensor
    sd_G: Tensor
    expressed_G: Tensor

    def __init__(self, vocab: GeneVocab, config: ExceiverConfig | None = None, *, name: str = "exceiver") -> None:
        config = config or ExceiverConfig()
        super().__init__(vocab, config, name=name)
        d_model = config.d_model
        self.gene_embedding = nn.Embedding(len(vocab), d_model)
        self.mask_embedding = nn.Parameter(torch.randn(d_model))
        self.special = nn.Parameter(torch.randn(len(config.classes), d_model))
        self.perceiver = Perceiver(
            config.n_latents, config.n_layers, d_model, n_heads=config.n_heads, dropout=config.dropout
        )
        self.head = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, d_model), nn.GELU(), nn.Linear(d_model, 1))
        self.class_decoders = nn.ModuleDict(
            {class_: ClassDecoder(d_model, len(labels)) for class_, labels in config.classes.items()}
        )
        self.register_buffer("mean_G", torch.zeros(len(vocab)))
        self.register_buffer("sd_G", torch.ones(len(vocab)))
        self.register_buffer("expressed_G", torch.zeros(len(vocab)))
        nn.init.normal_(self.gene_embedding.weight, std=1.0)
        last = cast("nn.Linear", self.head[3])  # the first guess is the mean of the gene where it is expressed
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @property
    def attention(self) -> AttentionSpec:
        """Sizes and kind of the two-hop maps."""
        config = self.config
        return AttentionSpec(1, config.n_heads**2, config.n_latents, 1.0, len(config.classes), "two_hop")

    def fit_statistics(self, cells: CellCollection, rows: np.ndarray) -> None:
        """Take the statistics that standard scores are made with from these cells; training begins with it."""
        self._use(gene_statistics(cells, rows, limit=self.config.limit))

    def standardised(self, adata: ad.AnnData, *, layer: str | None = None) -> "Exceiver":
        """Return the model, weights shared, with the statistics of another data set: as in the paper, of each its own.

        Without it, cells are scored by the statistics of the cells the model was trained on.

        Parameters
        ----------
        adata
            Counts of the whole data set, two cells or more. Genes it lacks keep their statistics.
        layer
            Layer that holds the counts; ``X`` by default.

        Raises
        ------
        ValueError
            When `adata` holds no counts, cells without any, or genes the model does not know.
        """
        counts, found = counts_of(adata, layer=layer), align_genes(adata, self.vocab)
        totals = np.asarray(counts.sum(axis=1)).ravel()
        cells = CellCollection.from_columns(counts, found.columns, found.tokens, n_vocab=len(self.vocab), totals=totals)
        model = copy.copy(self)
        model._buffers = dict(self._buffers)
        model._use(gene_statistics(cells, np.arange(len(cells)), limit=self.config.limit), found.tokens)
        model.name = f"{self.name}, standardised on {len(cells)} cells"
        return model

    def _use(self, found: GeneStatistics, tokens: np.ndarray | None = None) -> None:
        for name in ("mean_G", "sd_G", "expressed_G"):
            values_G = getattr(self, name).clone()
            where = slice(None) if tokens is None else torch.from_numpy(tokens).to(values_G.device)
            values_G[where] = torch.from_numpy(getattr(found, name)).to(values_G.device)[where]
            self._buffers[name] = values_G

    def scores(self, tokens: CellTokens) -> Tensor:
        """Standard scores of the counts, cut off at ``config.limit`` and shifted to a mean of 1, float32 (B, T)."""
        logged_BT = torch.log1p(tokens.values_BT.float() * (1e4 / tokens.totals_B.clamp(min=1e-6)).unsqueeze(-1))
        scores_BT = (logged_BT - self.mean_G[tokens.genes_BT]) / self.sd_G[tokens.genes_BT]
        return scores_BT.clamp(-self.config.limit, self.config.limit) + 1.0

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor]:
        """Class tokens and scaled gene tokens (B, P + T, M), and where nothing attends to: padding and zeros."""
        x_BTM = self.gene_embedding(tokens.genes_BT)
        scale_BT, blind_BT = self.scores(tokens), tokens.values_BT == 0
        if tokens.hidden_BT is not None:  # the mean of every gene is 1
            x_BTM = torch.where(tokens.hidden_BT.unsqueeze(-1), self.mask_embedding.to(x_BTM.dtype), x_BTM)
            scale_BT = scale_BT.masked_fill(tokens.hidden_BT, 1.0)
            blind_BT = blind_BT & ~tokens.hidden_BT
        if tokens.pad_BT is not None:
            blind_BT = blind_BT | tokens.pad_BT
        x_BTM = torch.cat([self._special(len(tokens)), x_BTM * scale_BT.unsqueeze(-1)], dim=1)
        return x_BTM, nn.functional.pad(blind_BT, (len(self.special), 0))

    def _special(self, n_cells: int) -> Tensor:
        return self.special.expand(n_cells, -1, -1)

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> ExceiverEncoded:
        """Run the model.

        Parameters
        ----------
        tokens
            A batch of cells; of :class:`QueriedTokens` only some genes are decoded.
        record
            Receives the two-hop map as queries and keys, the encoder's values, and what the two hops make of them.
        """
        x_BTM, blind_BT = self.embed(tokens)
        latents_BNM = self.perceiver.encode(x_BTM, blind_BT=blind_BT)
        genes_BQ = tokens.genes_BT
        if isinstance(tokens, QueriedTokens):
            genes_BQ = genes_BQ.gather(1, tokens.query_BQ)
        asked_BQM = self.gene_embedding(genes_BQ)
        n_classes = len(self.special)
        answer_BQM = self.perceiver.decode(torch.cat([self._special(len(tokens)), asked_BQM], dim=1), latents_BNM)
        if record is not None:
            hops = self._hops(tokens, x_BTM, blind_BT)
            record(0, *hops.features(), *hops.values())
        return ExceiverEncoded(
            genes_BTM=answer_BQM[:, n_classes:],
            cell_BM=latents_BNM.mean(1),
            classes_BM={name: answer_BQM[:, place] for place, name in enumerate(self.config.classes)},
            input_BTM=asked_BQM,
            pad_BT=None if isinstance(tokens, QueriedTokens) else tokens.pad_BT,
            latents_BNM=latents_BNM,
            genes_BQ=genes_BQ,
            totals_B=tokens.totals_B,
        )

    def record_qk(self, tokens: CellTokens, *, record: Recorder) -> None:
        """Record the two-hop map of every gene of the context, and compute nothing beyond it."""
        record(0, *self._hops(tokens, *self.embed(tokens)).features(), None, None)

    def _hops(self, tokens: CellTokens, x_BTM: Tensor, blind_BT: Tensor) -> TwoHops:
        query_BTM = torch.cat([self._special(len(tokens)), self.gene_embedding(tokens.genes_BT)], dim=1)
        return self.perceiver.hops(query_BTM, x_BTM, blind_BT=blind_BT, mixing=self.config.mixing)

    def predict(self, encoded: ExceiverEncoded) -> Tensor:
        """Predicted scores of the genes asked for, given that they are expressed; on the scale of :meth:`scores`."""
        return self.head(encoded.genes_BTM).squeeze(-1).float() + self.expressed_G[encoded.genes_BQ] + 1.0

    def decode(self, encoded: ExceiverEncoded, depth_B: Tensor) -> CountDistribution:
        """Predicted ``log2(1 + count)``; pretrained by discrete noise masking, that of a gene that **is** expressed.

        The counts are those of a cell with the total that was encoded; `depth_B` is not used.
        """
        scores_BT = self.predict(encoded) - 1.0
        logged_BT = (scores_BT * self.sd_G[encoded.genes_BQ] + self.mean_G[encoded.genes_BQ]).clamp(0.0, 9.22)
        counts_BT = torch.expm1(logged_BT) * (encoded.totals_B / 1e4).unsqueeze(-1)
        return CountDistribution("mse", torch.log2(1 + counts_BT))


register_architecture("exceiver", Exceiver, ExceiverConfig)
