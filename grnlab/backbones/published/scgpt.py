"""scGPT (Cui et al. 2024, doi:10.1038/s41592-024-02201-0), which reads genes with binned counts.

Checked against the model and the binning of scgpt 0.2.4; not against the published weights, nor against its
FlashAttention build, whose checkpoints hold the same numbers under other names. Pretraining used generative masks that
were never released; like the publisher's own code this runs the plain bidirectional transformer.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grnlab.backbones.config import ModelConfig
from grnlab.backbones.published.base import PublishedModel, by_token
from grnlab.backbones.published.names import vocab_of_symbols
from grnlab.backbones.published.read import WeightReader, read_dictionary, read_tensors, with_weights
from grnlab.data.tokens import CellTokens, tokenize
from grnlab.genes import GeneVocab
from grnlab.nn.post_norm import PostNormStack

FILES = ("args.json", "vocab.json", "best_model.pt")
_PUBLISHER = "https://github.com/bowang-lab/scGPT#pretrained-scgpt-model-zoo"
_HEADS = ("decoder.", "cls_decoder.", "mvc_decoder.", "grad_reverse_discriminator.", "sim.", "batch_encoder.")
_GENERATION = "flag_encoder."  # marks genes to generate while pretraining; the publisher's inference drops it too
_QKV = ("Wqkv.", "in_proj_", "_impl.Wqkv.")  # FlashAttention build, PyTorch build, later wrapper
_MAX_VALUE = 512.0


@dataclass(frozen=True)
class ScGptConfig(ModelConfig):
    """Sizes of :class:`ScGpt`; the defaults are the whole-human model.

    Attributes
    ----------
    n_layers, d_model, n_heads, d_hidden
        Sizes of the transformer.
    n_bins
        Bins of counts; bin 0 is a count of 0.
    max_tokens
        Longest cell in tokens, ``<cls>`` included.
    cls_value
        Value that stands with ``<cls>``.
    """

    n_layers: int = 12
    d_model: int = 512
    n_heads: int = 8
    d_hidden: int = 512
    n_bins: int = 51
    max_tokens: int = 1200
    cls_value: float = -2.0


class ScGpt(PublishedModel):
    """Gene embedding plus embedding of the binned count, each normed; ``<cls>`` first.

    A cell with more genes than `max_tokens` is shown a random part of them, as the publisher does; that choice, and the
    bins of tied counts, are drawn from a seed made of the cell itself: the same cell always gives the same tokens.

    Parameters
    ----------
    vocab, config, name
        See :class:`PublishedModel`.
    """

    def __init__(self, vocab: GeneVocab, config: ScGptConfig | None = None, *, name: str = "scgpt") -> None:
        config = config or ScGptConfig()
        super().__init__(vocab, config, name=name)
        d_model = config.d_model
        self.special = nn.Parameter(torch.zeros(1, d_model))  # <cls>
        self.gene_norm = nn.LayerNorm(d_model)
        self.value_encoder = nn.Sequential(
            nn.Linear(1, d_model), nn.ReLU(), nn.Linear(d_model, d_model), nn.LayerNorm(d_model)
        )
        self.stack = PostNormStack(config.n_layers, d_model, config.n_heads, config.d_hidden)

    @property
    def n_prefix(self) -> int:
        """One special token."""
        return 1

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Genes with their bins; with ``"shared"`` zeros are shown, as bin 0, and no cell is cut.

        Bins are quantiles of the counts above zero, so that scaling and logarithms change nothing.
        """
        cells = tokenize(counts, tokens, totals, context=context)
        if context == "shared":
            order = np.argsort(tokens)
            binned = np.zeros(cells.values_BT.shape, dtype=np.float32)
            for row, values in enumerate(cells.values_BT.numpy()[:, order]):
                binned[row, order] = bin_counts(values, self.config.n_bins, _generator(tokens[order], values))
            return CellTokens(cells.genes_BT, torch.from_numpy(binned), cells.totals_B)
        cells = by_token(cells)
        genes_BT, values_BT = cells.genes_BT.numpy(), cells.values_BT.numpy()
        lengths = cells.real_BT.sum(1).numpy()
        longest = self.config.max_tokens - 1
        shape = (len(cells), min(int(lengths.max()), longest))
        genes, binned = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        for row, n in enumerate(lengths):
            rng = _generator(genes_BT[row, :n], values_BT[row, :n])
            bins = bin_counts(values_BT[row, :n], self.config.n_bins, rng)
            kept = np.sort(rng.permutation(n)[:longest]) if n > longest else np.arange(n)
            genes[row, : len(kept)], binned[row, : len(kept)] = genes_BT[row, kept], bins[kept]
        pad = np.arange(shape[1]) >= lengths[:, None]
        pad_BT = torch.from_numpy(pad) if pad.any() else None
        return CellTokens(torch.from_numpy(genes), torch.from_numpy(binned), cells.totals_B, pad_BT)

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor]:
        """Gene and value, summed."""
        gene_BTM = self.gene_norm(self.gene_embedding(tokens.genes_BT))
        x_BTM = gene_BTM + self._value(tokens.values_BT)
        cls_M = self.gene_norm(self.special[0]) + self._value(x_BTM.new_tensor(self.config.cls_value))
        return gene_BTM, torch.cat([cls_M.expand(len(tokens), 1, -1), x_BTM], dim=1)

    def _value(self, values: Tensor) -> Tensor:
        return self.value_encoder(values.clamp(max=_MAX_VALUE).unsqueeze(-1))


def bin_counts(values: np.ndarray, n_bins: int, rng: np.random.Generator) -> np.ndarray:
    """Bins 1 … n_bins − 1 by the quantiles of the values above zero; 0 stays 0.

    Values that span several bins are spread over them at random.

    Parameters
    ----------
    values
        Counts of one cell, or any increasing function of them.
    n_bins
        Number of bins, that of zero included.
    rng
        Draws one number per value above zero.

    Examples
    --------
    >>> bin_counts(np.array([0.0, 5.0, 1.0, 3.0]), 4, np.random.default_rng(0)).tolist()
    [0, 3, 1, 2]
    """
    bins = np.zeros(len(values), dtype=np.int64)
    above = np.flatnonzero(values > 0)
    if len(above) == 0:
        return bins
    edges = np.quantile(values[above], np.linspace(0, 1, n_bins - 1))
    highest, lowest = np.digitize(values[above], edges), np.digitize(values[above], edges, right=True)
    bins[above] = np.ceil(rng.random(len(above)) * (lowest - highest) + highest)
    return bins


def _generator(tokens: np.ndarray, values: np.ndarray) -> np.random.Generator:
    content = np.asarray(tokens, dtype="<i8").tobytes() + np.asarray(values, dtype="<f4").tobytes()
    return np.random.default_rng(zlib.crc32(content))


def is_scgpt(path: Path) -> bool:
    """Whether a folder holds a checkpoint of scGPT, or a part of one."""
    return any((path / name).is_file() for name in FILES)


def load_scgpt(path: Path, *, allow_pickle: bool = False) -> tuple[ScGpt, Path]:
    """Read a folder with args.json, vocab.json and best_model.pt; gives the file of weights.

    Parameters
    ----------
    path
        The folder.
    allow_pickle
        See :func:`grnlab.backbones.published.read.read_tensors`.

    Raises
    ------
    ValueError
        When a file is missing or does not fit the others, or the model is a variant that is not built here.
    """
    if missing := [name for name in FILES if not (path / name).is_file()]:
        msg = f"{path} lacks {', '.join(missing)}; a checkpoint of scGPT is {', '.join(FILES)}, see {_PUBLISHER}."
        raise ValueError(msg)
    args, ids = read_dictionary(path / "args.json"), read_dictionary(path / "vocab.json")
    if lacking := [name for name in ("embsize", "nheads", "nlayers", "d_hid") if name not in args]:
        msg = f"{path / 'args.json'} lacks {lacking}; restore the original file."
        raise ValueError(msg)
    for name, built in (("input_emb_style", "continuous"), ("pre_norm", False)):
        if args.get(name, built) != built:
            msg = f"{path / 'args.json'} has {name}={args[name]!r}; only {built!r} can be read."
            raise ValueError(msg)
    if "<cls>" not in ids:
        msg = f"{path / 'vocab.json'} has no token '<cls>'; restore the original file."
        raise ValueError(msg)
    if len(set(ids.values())) < len(ids) or not all(isinstance(one, int) and one >= 0 for one in ids.values()):
        msg = f"{path / 'vocab.json'} must give each gene a number of its own, 0 or above; restore the original file."
        raise ValueError(msg)
    config = ScGptConfig(
        n_layers=args["nlayers"],
        d_model=args["embsize"],
        n_heads=args["nheads"],
        d_hidden=args["d_hid"],
        n_bins=args.get("n_bins", 51),
        max_tokens=args.get("max_seq_len", 1200),
        cls_value=float(args.get("pad_value", -2)),
    )
    genes = [gene for gene in ids if not (gene.startswith("<") and gene.endswith(">"))]
    weights_file = path / "best_model.pt"
    reader = WeightReader(read_tensors(weights_file, allow_pickle=allow_pickle), weights_file)
    weights = _translate(reader, config, [ids[gene] for gene in genes], ids["<cls>"])
    vocab = vocab_of_symbols(genes)
    return with_weights(ScGpt, vocab, config, weights=weights, source=weights_file, name=path.name), weights_file


def _translate(reader: WeightReader, config: ScGptConfig, genes: list[int], cls: int) -> dict[str, Tensor]:
    embedding = reader.take("encoder.embedding.weight")
    if max(*genes, cls) >= len(embedding):
        msg = f"vocab.json names token {max(*genes, cls)}, but the weights have {len(embedding)}: files of two models."
        raise ValueError(msg)
    out = {
        "gene_embedding.weight": F.embedding(torch.tensor(genes), embedding),
        "special": embedding[[cls]],
        **reader.linear("gene_norm", "encoder.enc_norm"),
        **reader.linear("value_encoder.0", "value_encoder.linear1"),
        **reader.linear("value_encoder.2", "value_encoder.linear2"),
        **reader.linear("value_encoder.3", "value_encoder.norm"),
    }
    for layer in range(config.n_layers):
        ours, theirs = f"stack.blocks.{layer}", f"transformer_encoder.layers.{layer}"
        qkv = next((name for name in _QKV if f"{theirs}.self_attn.{name}weight" in reader), _QKV[1])
        for part in ("weight", "bias"):
            out[f"{ours}.attention.qkv.{part}"] = reader.take(f"{theirs}.self_attn.{qkv}{part}")
        out |= reader.linear(f"{ours}.attention.out", f"{theirs}.self_attn.out_proj")
        out |= reader.linear(f"{ours}.mlp.0", f"{theirs}.linear1")
        out |= reader.linear(f"{ours}.mlp.2", f"{theirs}.linear2")
        out |= reader.linear(f"{ours}.norm1", f"{theirs}.norm1")
        out |= reader.linear(f"{ours}.norm2", f"{theirs}.norm2")
    reader.finish(not_needed=(*_HEADS, _GENERATION))
    return out
