"""The encoder of scFoundation (Hao et al. 2024, doi:10.1038/s41592-024-02305-7): softmax attention, continuous values.

The weights are for non-commercial use only. Checked against PyTorch's own ``TransformerEncoderLayer``, which the
publisher's encoder is made of, and the formulas of its value embedding; there is no package to run, and the published
weights were not at hand. Of ``models.ckpt`` the part ``cell`` is read, or the only one. The decoder, whose attention
is a kernel and no softmax, is not read.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.backbones.published.base import PublishedModel, by_token
from grnlab.backbones.published.names import vocab_of_symbols
from grnlab.backbones.published.read import WeightReader, load_weights, read_tensors
from grnlab.data.tokens import CellTokens, expressed_context
from grnlab.genes import GeneVocab
from grnlab.nn.post_norm import PostNormStack

WEIGHTS, GENES = "models.ckpt", "OS_scRNA_gene_index*.tsv"
_PUBLISHER = "https://github.com/biomap-research/scFoundation"
_DECODER = ("decoder.", "decoder_embed.", "norm.", "to_final.", "token_emb.emb_mask.", "token_emb.emb_pad.")
_TARGET_SUM = 1e4


@dataclass(frozen=True)
class ScFoundationConfig:
    """Sizes of :class:`ScFoundation`; the defaults are the published model.

    Attributes
    ----------
    n_layers, d_model, n_heads
        Sizes of the encoder; its hidden layers are 4 times as wide.
    n_bins
        Vectors that the embedding of a value is a mixture of.
    bin_alpha
        Weight of the first layer of the mixture beside the second.
    target
        Token T, the total to make, as log10. 4 is the publisher's setting for single cells.
    """

    n_layers: int = 12
    d_model: int = 768
    n_heads: int = 12
    n_bins: int = 100
    bin_alpha: float = 1.0
    target: float = 4.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ScFoundationConfig":
        """Inverse of :meth:`to_dict`; an unknown key raises TypeError."""
        return cls(**values)


class AutoDiscretization(nn.Module):
    """A value as a mixture of `n_bins` learned vectors, whose weights two layers make of the value.

    Parameters
    ----------
    n_bins, d_model
        Number and size of the vectors.
    alpha
        Weight of the first layer beside the second.
    """

    def __init__(self, n_bins: int, d_model: int, *, alpha: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, n_bins), nn.Linear(n_bins, n_bins)
        self.bins = nn.Embedding(n_bins, d_model)
        self.alpha = alpha

    def forward(self, values_BT: Tensor) -> Tensor:
        """Embeddings of shape (B, T, M)."""
        first_BTK = nn.functional.leaky_relu(self.first(values_BT.unsqueeze(-1)), 0.1)
        return (self.alpha * first_BTK + self.second(first_BTK)).softmax(-1) @ self.bins.weight


class ScFoundation(PublishedModel):
    """The encoder: expressed genes with log1p of counts per 10,000; S (total) and T (total to make) as special tokens.

    Totals are those of the genes the model knows, as the publisher computes them.

    Parameters
    ----------
    vocab, config, name
        See :class:`PublishedModel`.
    """

    whole_cells = True

    def __init__(
        self, vocab: GeneVocab, config: ScFoundationConfig | None = None, *, name: str = "scfoundation"
    ) -> None:
        config = config or ScFoundationConfig()
        super().__init__(vocab, config, name=name)
        self.special = nn.Parameter(torch.zeros(2, config.d_model))  # S, T
        self.value_encoder = AutoDiscretization(config.n_bins, config.d_model, alpha=config.bin_alpha)
        self.stack = PostNormStack(config.n_layers, config.d_model, config.n_heads, 4 * config.d_model)
        self.final_norm = nn.LayerNorm(config.d_model)

    @property
    def n_prefix(self) -> int:
        """Two special tokens."""
        return 2

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Expressed genes and log1p of their counts per 10,000 of those shown.

        Raises
        ------
        ValueError
            For another context than ``"expressed"``.
        """
        if context != "expressed":
            msg = f'context={context!r}: the encoder of scFoundation sees no zeros; use context="expressed".'
            raise ValueError(msg)
        known = np.asarray(counts.sum(axis=1)).ravel()
        cells = by_token(expressed_context(counts, tokens, known))
        scaled_BT = cells.values_BT / cells.totals_B.clamp(min=1).unsqueeze(-1) * _TARGET_SUM
        return CellTokens(cells.genes_BT, scaled_BT.log1p(), cells.totals_B, cells.pad_BT)

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor]:
        """Gene and value, summed."""
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        source_B = tokens.totals_B.log10()
        values_BP = torch.stack([source_B, torch.full_like(source_B, self.config.target)], dim=1)
        values_BT = torch.cat([values_BP, tokens.values_BT], dim=1)
        x_BTM = torch.cat([self.special.expand(len(tokens), -1, -1), gene_BTM], dim=1)
        return gene_BTM, x_BTM + self.value_encoder(values_BT)


def is_scfoundation(path: Path) -> bool:
    """Whether a path is models.ckpt, or the folder that has it or its list of genes."""
    if path.is_file():
        return path.name == WEIGHTS
    return path.is_dir() and ((path / WEIGHTS).is_file() or any(path.glob(GENES)))


def load_scfoundation(path: Path, *, allow_pickle: bool = False) -> tuple[ScFoundation, Path]:
    """Read models.ckpt and the list of genes beside it; gives the file of weights.

    Parameters
    ----------
    path
        The folder, or models.ckpt in it.
    allow_pickle
        See :func:`grnlab.backbones.published.read.read_tensors`.

    Raises
    ------
    ValueError
        When a file is missing or does not fit the other.
    """
    folder = path.parent if path.is_file() else path
    weights_file, lists = folder / WEIGHTS, sorted(folder.glob(GENES))
    if not weights_file.is_file() or len(lists) != 1:
        msg = f"{folder} must hold {WEIGHTS} and one {GENES}; both are at {_PUBLISHER} (the folder model)."
        raise ValueError(msg)
    part = _part(read_tensors(weights_file, allow_pickle=allow_pickle), weights_file)
    made = part["config"]["model_config"][part["config"]["model"]]
    table = pd.read_csv(lists[0], sep="\t")
    if "gene_name" not in table or table["gene_name"].duplicated().any():
        msg = f"{lists[0]} must have a column gene_name with a name per row, each once; restore the original file."
        raise ValueError(msg)
    config = ScFoundationConfig(
        n_layers=made["encoder"]["depth"],
        d_model=made["encoder"]["hidden_dim"],
        n_heads=made["encoder"]["heads"],
        n_bins=made["bin_num"],
        bin_alpha=float(made["bin_alpha"]),
    )
    model = ScFoundation(vocab_of_symbols(table["gene_name"].astype(str).tolist()), config, name="scfoundation")
    weights = {name.partition("model.")[2] or name: value for name, value in part["state_dict"].items()}
    load_weights(model, _translate(WeightReader(weights, weights_file), config, len(table)), weights_file)
    return model, weights_file


def _part(content: Any, path: Path) -> Mapping[str, Any]:
    """The part of the file that is read: ``cell``, or the only one."""
    parts = content if isinstance(content, Mapping) else {}
    part = parts.get("cell", next(iter(parts.values())) if len(parts) == 1 else None)
    try:
        encoder = part["config"]["model_config"][part["config"]["model"]]["encoder"]["module_type"]
        if encoder == "transformer" and isinstance(part["state_dict"], Mapping):
            return part
    except (KeyError, TypeError):
        pass
    msg = f"{path} is no checkpoint of scFoundation with a softmax encoder; it holds {list(parts)[:5]}."
    raise ValueError(msg)


def _translate(reader: WeightReader, config: ScFoundationConfig, n_genes: int) -> dict[str, Tensor]:
    places = reader.take("pos_emb.weight")  # genes, T, S, and that of padding
    if len(places) != n_genes + 3:
        msg = f"the list of genes has {n_genes:,} rows, but the weights are of {len(places) - 3:,} genes."
        raise ValueError(msg)
    out = {
        "gene_embedding.weight": places[:n_genes],
        "special": places[[n_genes + 1, n_genes]],
        **reader.linear("value_encoder.first", "token_emb.mlp"),
        **reader.linear("value_encoder.second", "token_emb.mlp2"),
        "value_encoder.bins.weight": reader.take("token_emb.emb.weight"),
        **reader.linear("final_norm", "encoder.norm"),
    }
    for layer in range(config.n_layers):
        ours, theirs = f"stack.blocks.{layer}", f"encoder.transformer_encoder.{layer}"
        for part in ("weight", "bias"):
            out[f"{ours}.attention.qkv.{part}"] = reader.take(f"{theirs}.self_attn.in_proj_{part}")
        out |= reader.linear(f"{ours}.attention.out", f"{theirs}.self_attn.out_proj")
        out |= reader.linear(f"{ours}.mlp.0", f"{theirs}.linear1")
        out |= reader.linear(f"{ours}.mlp.2", f"{theirs}.linear2")
        out |= reader.linear(f"{ours}.norm1", f"{theirs}.norm1")
        out |= reader.linear(f"{ours}.norm2", f"{theirs}.norm2")
    reader.finish(not_needed=_DECODER)
    return out
