"""Published scPRINT checkpoints, v1 and v1.5 (Kalfon et al. 2025, doi:10.1038/s41467-025-58699-1).

Checked against scprint 2.3.8 with random weights, checkpoints saved by Lightning; not against the published weights.
:class:`grnlab.backbones.ScPrint` is the architecture to train; this is the one to read, without decoders. scPRINT-2
checkpoints (graph encoder, cell transformer) and those trained with a bias on the attention are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.backbones.base import Encoded
from grnlab.backbones.config import ModelConfig
from grnlab.backbones.published.base import PublishedModel
from grnlab.backbones.published.names import vocab_of_ensembl
from grnlab.backbones.published.read import WeightReader, read_tensors, with_weights
from grnlab.data.tokens import CellTokens, tokenize
from grnlab.genes import GeneVocab
from grnlab.nn import Recorder, TransformerStack
from grnlab.nn.embeddings import scale_values

_DECODERS = ("expr_decoder.", "cls_decoders.", "mvc_decoder.", "grad_reverse_discriminator_loss.", "bottleneck_mlps.")
_GENES = tuple(f"gene_encoder.{name}.weight" for name in ("embeddings", "embedding", "0.embeddings", "0.embedding"))
_SCALES = {"sum": "fraction", "log": "log2"}
_MAX_VALUE = 100_000.0


@dataclass(frozen=True)
class PublishedScPrintConfig(ModelConfig):
    """Sizes and switches of :class:`PublishedScPrint`; the defaults are medium-v1.

    Attributes
    ----------
    n_layers, d_model, n_heads
        Sizes of the transformer.
    value_scale
        ``"fraction"`` of the counts shown, or ``"log2"``.
    value_layers
        Linear layers of the encoders of counts and of the total.
    classes
        Names of the label classes, each with a special token.
    depth_token, metacell_token
        Special tokens for the total counts (v1), for whether a cell is a mean of cells (v1.5).
    positions
        Genes have a code of their place in the genome.
    """

    n_layers: int = 8
    d_model: int = 256
    n_heads: int = 4
    value_scale: str = "fraction"
    value_layers: int = 2
    classes: tuple[str, ...] = ()
    depth_token: bool = True
    metacell_token: bool = False
    positions: bool = True


class PublishedScPrint(PublishedModel):
    """Gene embedding, count and genome position, summed; special tokens: cell, classes, then total or meta-cell.

    Parameters
    ----------
    vocab, config, name
        See :class:`PublishedModel`.
    """

    def __init__(
        self, vocab: GeneVocab, config: PublishedScPrintConfig | None = None, *, name: str = "scprint"
    ) -> None:
        config = config or PublishedScPrintConfig()
        super().__init__(vocab, config, name=name)
        d_model = config.d_model
        self.value_encoder = _mlp(d_model, config.value_layers)
        self.position = nn.Embedding(len(vocab), d_model) if config.positions else None
        self.depth_encoder = _mlp(d_model, config.value_layers) if config.depth_token else None
        self.special = nn.Parameter(torch.zeros(1 + len(config.classes) + config.metacell_token, d_model))
        self.stack = TransformerStack(config.n_layers, d_model, config.n_heads)

    @property
    def n_prefix(self) -> int:
        """Cell, classes, and total or meta-cell."""
        return len(self.special) + self.config.depth_token

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Genes and their counts, see :func:`grnlab.data.tokens.tokenize`."""
        return tokenize(counts, tokens, totals, context=context)

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor]:
        """Genes, with the special tokens before them."""
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        real_BT = None if tokens.pad_BT is None else tokens.real_BT
        values_BT = scale_values(tokens.values_BT, self.config.value_scale, real_BT).clamp(0, _MAX_VALUE)
        x_BTM = gene_BTM + self.value_encoder(values_BT.unsqueeze(-1))
        if self.position is not None:
            x_BTM = x_BTM + self.position(tokens.genes_BT)
        before = [self.special.expand(len(tokens), -1, -1)]
        if self.depth_encoder is not None:
            before.append(self.depth_encoder(torch.log2(1 + tokens.totals_B)[:, None, None]))
        return gene_BTM, torch.cat([*before, x_BTM], dim=1)

    def encode(self, tokens: CellTokens, *, record: Recorder | None = None) -> Encoded:
        """Run the transformer; `record` receives queries, keys, values and outputs, special tokens first."""
        gene_BTM, x_BTM = self.embed(tokens)
        x_BTM = self.stack(x_BTM, pad_BT=self._pad(tokens), record=record)
        classes_BM = {name: x_BTM[:, 1 + place] for place, name in enumerate(self.config.classes)}
        return Encoded(x_BTM[:, self.n_prefix :], x_BTM[:, 0], classes_BM, gene_BTM, tokens.pad_BT)


def _mlp(d_model: int, n_layers: int) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Linear(1, d_model)]
    for _ in range(n_layers - 1):
        parts += [nn.LayerNorm(d_model), nn.ReLU(), nn.Linear(d_model, d_model)]
    return nn.Sequential(*parts)


def is_scprint(path: Path) -> bool:
    """Whether a path is a file with the suffix of Lightning checkpoints."""
    return path.suffix == ".ckpt" and path.is_file()


def load_scprint(path: Path, *, allow_pickle: bool = False) -> tuple[PublishedScPrint, Path]:
    """Read a Lightning checkpoint; gives the file of weights, which is the same.

    Parameters
    ----------
    path
        The file.
    allow_pickle
        See :func:`grnlab.backbones.published.read.read_tensors`.

    Raises
    ------
    ValueError
        When the file is no scPRINT checkpoint, or one of a variant that is not built here.
    """
    content = read_tensors(path, allow_pickle=allow_pickle)
    if not isinstance(content, Mapping) or not {"state_dict", "hyper_parameters"} <= set(content):
        msg = f"{path} is no checkpoint of scPRINT: it has no state_dict and hyper_parameters, as Lightning saves them."
        raise ValueError(msg)
    made, reader = content["hyper_parameters"], WeightReader(content["state_dict"], path)
    if lacking := [name for name in ("genes", "d_model", "nhead", "nlayers") if name not in made]:
        msg = f"the hyper_parameters of {path} lack {lacking}; it is no checkpoint of scPRINT."
        raise ValueError(msg)
    if made.get("attn_bias", "none") != "none":
        msg = f"{path} was trained with attn_bias={made['attn_bias']!r}, a table that is not in the checkpoint."
        raise ValueError(msg)
    scale = made.get("normalization", "sum")
    if scale not in _SCALES:
        msg = f"{path} has normalization={scale!r}; only {list(_SCALES)} can be read."
        raise ValueError(msg)
    genes, n_value_layers = [str(gene) for gene in made["genes"]], 1
    while f"expr_encoder.encoder.{4 * n_value_layers}.weight" in reader:
        n_value_layers += 1
    config = PublishedScPrintConfig(
        n_layers=int(made["nlayers"]),
        d_model=int(made["d_model"]),
        n_heads=int(made["nhead"]),
        value_scale=_SCALES[scale],
        value_layers=n_value_layers,
        classes=_class_names(made, len(content["state_dict"].get("class_encoder.embedding.weight", [0])) - 1),
        depth_token="depth_encoder.encoder.0.weight" in reader,
        metacell_token="metacell_encoder.embedding.weight" in reader,
        positions="pos_encoder.pe" in reader,
    )
    weights = _translate(reader, config, path)
    if len(weights["gene_embedding.weight"]) != len(genes):
        n_rows = len(weights["gene_embedding.weight"])
        msg = f"{path} names {len(genes):,} genes and holds embeddings of {n_rows:,}; which is which is unknown."
        raise ValueError(msg)
    vocab = vocab_of_ensembl(genes)
    return with_weights(PublishedScPrint, vocab, config, weights=weights, source=path, name=path.stem), path


def _class_names(made: Mapping[str, Any], n_classes: int) -> tuple[str, ...]:
    """Names of the classes, under one of the two keys that versions of the package use; or their numbers."""
    for key in ("classes", "label_counts"):
        if len(names := made.get(key) or ()) == n_classes:
            return tuple(str(name) for name in names)
    return tuple(f"class_{number}" for number in range(n_classes))


def _translate(reader: WeightReader, config: PublishedScPrintConfig, path: Path) -> dict[str, Tensor]:
    special = [reader.take("class_encoder.embedding.weight")]
    if config.metacell_token:
        special.append(reader.take("metacell_encoder.embedding.weight")[:1])  # row 0: a cell, row 1: a mean of cells
    out = {
        "gene_embedding.weight": reader.take(next((name for name in _GENES if name in reader), _GENES[0])),
        "special": torch.cat(special),
        **_value_layers(reader, "value_encoder", "expr_encoder", config),
        **reader.linear("stack.norm", "transformer.norm"),
    }
    if config.positions:
        out["position.weight"] = reader.take("pos_encoder.pe").squeeze(1)
    if config.depth_token:
        out |= _value_layers(reader, "depth_encoder", "depth_encoder", config)
    for layer in range(config.n_layers):
        ours, theirs = f"stack.blocks.{layer}", f"transformer.blocks.{layer}"
        for part in ("weight", "bias"):
            rows = reader.take(f"{theirs}.mixer.Wqkv.{part}")
            out[f"{ours}.attention.qkv.{part}"] = _full_heads(rows, config, path)
        out |= reader.linear(f"{ours}.attention.out", f"{theirs}.mixer.out_proj")
        out |= reader.linear(f"{ours}.mlp.0", f"{theirs}.mlp.fc1")
        out |= reader.linear(f"{ours}.mlp.2", f"{theirs}.mlp.fc2")
        out |= reader.linear(f"{ours}.norm1", f"{theirs}.norm1")
        out |= reader.linear(f"{ours}.norm2", f"{theirs}.norm2")
    reader.finish(not_needed=_DECODERS)
    return out


def _value_layers(reader: WeightReader, ours: str, theirs: str, config: PublishedScPrintConfig) -> dict[str, Tensor]:
    """Layers 0, 1, 4, 5, 8, … of the publisher, who counts dropout, are 0, 1, 3, 4, 6, … here."""
    out = reader.linear(f"{ours}.0", f"{theirs}.encoder.0")
    for number in range(config.value_layers - 1):
        out |= reader.linear(f"{ours}.{3 * number + 1}", f"{theirs}.encoder.{4 * number + 1}")
        out |= reader.linear(f"{ours}.{3 * number + 3}", f"{theirs}.encoder.{4 * number + 4}")
    return out


def _full_heads(rows: Tensor, config: PublishedScPrintConfig, path: Path) -> Tensor:
    """Rows of queries, keys, values with keys and values repeated where several heads share them."""
    d_head = config.d_model // config.n_heads
    n_shared, rest = divmod(len(rows) - config.d_model, 2 * d_head)
    if rest or n_shared < 1 or config.n_heads % n_shared:
        msg = f"{path} has {len(rows)} rows of queries, keys and values, which {config.n_heads} heads cannot share."
        raise ValueError(msg)
    queries, shared = rows[: config.d_model], rows[config.d_model :].unflatten(0, (2, n_shared, d_head))
    repeated = shared.repeat_interleave(config.n_heads // n_shared, dim=1).flatten(0, 2)
    return torch.cat([queries, repeated])
