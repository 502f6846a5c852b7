"""Geneformer (Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9), a BERT that reads the rank of genes in a cell.

Checked against ``transformers.BertForMaskedLM`` and the tokeniser of the helical package; not against the published
weights. Names of the publisher's ``ensembl_mapping_dict`` find their gene where that file is there; where two columns
of the data are one gene to it, the publisher adds their counts up; here one is taken and the report names the other.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab._reading import read_json
from grnlab.backbones.config import ModelConfig
from grnlab.backbones.published.base import PublishedModel, by_token, cut_to
from grnlab.backbones.published.names import vocab_of_ensembl
from grnlab.backbones.published.read import WeightReader, read_dictionary, read_tensors, with_weights
from grnlab.data.tokens import CellTokens, expressed_context
from grnlab.genes import GeneVocab
from grnlab.nn.post_norm import PostNormStack

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_PUBLISHER = "https://huggingface.co/ctheodoris/Geneformer"
_HEADS = ("cls.predictions.", "classifier.", "bert.pooler.", "pooler.", "bert.embeddings.position_ids")


@dataclass(frozen=True)
class GeneformerConfig(ModelConfig):
    """Sizes of :class:`Geneformer`; the defaults are V1-10M.

    Attributes
    ----------
    n_layers, d_model, n_heads, d_hidden
        Sizes of the transformer.
    n_positions
        Longest cell in tokens, special ones included.
    special_tokens
        Cells begin with ``<cls>`` and end with ``<eos>`` (V2).
    activation
        ``"relu"`` or ``"gelu"``.
    eps
        Of the norms.
    """

    n_layers: int = 6
    d_model: int = 256
    n_heads: int = 4
    d_hidden: int = 512
    n_positions: int = 2048
    special_tokens: bool = False
    activation: str = "relu"
    eps: float = 1e-12


class Geneformer(PublishedModel):
    """Genes in the order of count ÷ median of the gene over the training corpus; the order is all it sees.

    The model was trained on whole cells and is shown every gene it knows. Genes beyond `n_positions` are cut off.

    Parameters
    ----------
    vocab, config, name
        See :class:`PublishedModel`.
    """

    whole_cells = True

    def __init__(self, vocab: GeneVocab, config: GeneformerConfig | None = None, *, name: str = "geneformer") -> None:
        config = config or GeneformerConfig()
        super().__init__(vocab, config, name=name)
        self.position_embedding = nn.Embedding(config.n_positions, config.d_model)  # and the one segment of BERT
        self.special = nn.Parameter(torch.zeros(self.n_prefix, config.d_model))  # <cls>, <eos>
        self.norm = nn.LayerNorm(config.d_model, eps=config.eps)
        self.stack = PostNormStack(
            config.n_layers,
            config.d_model,
            config.n_heads,
            config.d_hidden,
            activation=config.activation,
            eps=config.eps,
        )
        self.register_buffer("medians_G", torch.ones(len(vocab), dtype=torch.float64))
        self.medians_G: Tensor

    @property
    def n_prefix(self) -> int:
        """Two special tokens in V2, none in V1."""
        return 2 if self.config.special_tokens else 0

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Expressed genes by falling count ÷ median; ties in the order of the vocabulary.

        Raises
        ------
        ValueError
            For another context than ``"expressed"``.
        """
        if context != "expressed":
            msg = f'context={context!r}: Geneformer ranks the genes a cell expresses; use context="expressed".'
            raise ValueError(msg)
        cells = by_token(expressed_context(counts, tokens, totals))
        scaled_BT = cells.values_BT.double() / self.medians_G.cpu()[cells.genes_BT]
        scaled_BT = scaled_BT.masked_fill(~cells.real_BT, -torch.inf)
        order_BT = scaled_BT.argsort(dim=1, descending=True, stable=True)
        ranked = CellTokens(
            cells.genes_BT.gather(1, order_BT), cells.values_BT.gather(1, order_BT), cells.totals_B, cells.pad_BT
        )
        return cut_to(self.config.n_positions - self.n_prefix, ranked)

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor]:
        """Gene and rank, summed and normed; ``<cls>`` has the first position, ``<eos>`` that after the last gene."""
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        first = 1 if self.n_prefix else 0
        places_T = torch.arange(first, first + gene_BTM.shape[1], device=gene_BTM.device)
        x_BTM = gene_BTM + self.position_embedding(places_T)
        if self.n_prefix:
            last_B = tokens.real_BT.sum(1) + 1
            places_BP = torch.stack([torch.zeros_like(last_B), last_B], dim=1)
            x_BTM = torch.cat([self.special + self.position_embedding(places_BP), x_BTM], dim=1)
        return gene_BTM, self.norm(x_BTM)


def is_geneformer(path: Path) -> bool:
    """Whether a folder holds a BERT in the layout of transformers."""
    try:
        config = read_json(path / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "bert"


def load_geneformer(path: Path, *, allow_pickle: bool = False) -> tuple[Geneformer, Path]:
    """Read a folder with config.json, weights, and the dictionaries of tokens and medians; gives the file of weights.

    Parameters
    ----------
    path
        The folder.
    allow_pickle
        See :func:`grnlab.backbones.published.read.read_tensors`.

    Raises
    ------
    ValueError
        When a file is missing or does not fit the others.
    """
    bert = read_json(path / "config.json")
    if bert.get("position_embedding_type", "absolute") != "absolute":
        msg = f"{path / 'config.json'} has position_embedding_type={bert['position_embedding_type']!r}, not 'absolute'."
        raise ValueError(msg)
    weights_file = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if weights_file is None:
        msg = f"{path} holds no weights; expected {' or '.join(WEIGHTS)} of {_PUBLISHER}."
        raise ValueError(msg)
    ids, medians, other_names = _dictionaries(path, bert["vocab_size"])
    genes = [gene for gene in ids if not gene.startswith("<") and medians.get(gene, 0) > 0]
    special = all(name in ids for name in ("<cls>", "<eos>"))
    config = GeneformerConfig(
        n_layers=bert["num_hidden_layers"],
        d_model=bert["hidden_size"],
        n_heads=bert["num_attention_heads"],
        d_hidden=bert["intermediate_size"],
        n_positions=bert["max_position_embeddings"],
        special_tokens=special,
        activation=bert["hidden_act"],
        eps=bert["layer_norm_eps"],
    )
    reader = WeightReader(read_tensors(weights_file, allow_pickle=allow_pickle), weights_file)
    weights = _translate(reader, config, [ids[gene] for gene in genes], [ids["<cls>"], ids["<eos>"]] if special else [])
    weights["medians_G"] = torch.tensor([float(medians[gene]) for gene in genes], dtype=torch.float64)
    vocab = vocab_of_ensembl(genes, other_names=other_names)
    return with_weights(Geneformer, vocab, config, weights=weights, source=weights_file, name=path.name), weights_file


def _dictionaries(path: Path, n_tokens: int) -> tuple[dict[str, int], dict[str, float], dict[str, str]]:
    """Tokens, medians and other names, if any, beside the weights or where the publisher's repository has them."""
    folders = [path]
    for shared in (path / "geneformer", path.parent / "geneformer"):
        folders += [shared, *sorted(child for child in shared.glob("*") if child.is_dir())]
    seen = {}
    for folder in folders:
        for file in _files(folder, "token_dictionary"):
            ids = read_dictionary(file)
            seen[file.name] = len(ids)
            if len(ids) != n_tokens or sorted(ids.values()) != list(range(n_tokens)):
                continue
            medians = _files(folder, "gene_median_dictionary")
            if len(medians) != 1:
                names = [median.name for median in medians]
                msg = f"{folder} must hold one gene_median_dictionary*.pkl (or .json) of {_PUBLISHER}; it has {names}."
                raise ValueError(msg)
            others = _files(folder, "ensembl_mapping_dict")
            return ids, read_dictionary(medians[0]), read_dictionary(others[0]) if len(others) == 1 else {}
    msg = (
        f"{path} lacks the dictionary of the model's {n_tokens:,} tokens, token_dictionary*.pkl (or a .json of it); "
        f"found {seen or 'none'}. It is in the folder geneformer of {_PUBLISHER}, with gene_median_dictionary*.pkl; V1 "
        "and V2 have one each."
    )
    raise ValueError(msg)


def _files(folder: Path, stem: str) -> list[Path]:
    return sorted(file for file in folder.glob(f"{stem}*") if file.suffix in (".pkl", ".json"))


def _translate(
    reader: WeightReader, config: GeneformerConfig, genes: list[int], special: list[int]
) -> dict[str, Tensor]:
    bert = "bert." if "bert.embeddings.word_embeddings.weight" in reader else ""
    words = reader.take(f"{bert}embeddings.word_embeddings.weight")
    positions = reader.take(f"{bert}embeddings.position_embeddings.weight")
    segment = reader.take(f"{bert}embeddings.token_type_embeddings.weight")[0]
    out = {
        "gene_embedding.weight": words[genes],
        "special": words[special],
        "position_embedding.weight": positions + segment,
        **reader.linear("norm", f"{bert}embeddings.LayerNorm"),
    }
    for layer in range(config.n_layers):
        ours, theirs = f"stack.blocks.{layer}", f"{bert}encoder.layer.{layer}"
        for part in ("weight", "bias"):
            qkv = [reader.take(f"{theirs}.attention.self.{name}.{part}") for name in ("query", "key", "value")]
            out[f"{ours}.attention.qkv.{part}"] = torch.cat(qkv)
        out |= reader.linear(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        out |= reader.linear(f"{ours}.norm1", f"{theirs}.attention.output.LayerNorm")
        out |= reader.linear(f"{ours}.mlp.0", f"{theirs}.intermediate.dense")
        out |= reader.linear(f"{ours}.mlp.2", f"{theirs}.output.dense")
        out |= reader.linear(f"{ours}.norm2", f"{theirs}.output.LayerNorm")
    reader.finish(not_needed=_HEADS)
    return out
