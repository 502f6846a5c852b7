"""Read the files of scFoundation: models.ckpt and the list of genes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grnlab._reading import read_separated
from grnlab.backbones.published.names import vocab_of_symbols
from grnlab.backbones.published.read import WeightReader, read_tensors, with_weights
from grnlab.backbones.published.scfoundation import ScFoundation, ScFoundationConfig
from grnlab.backbones.published.scfoundation_decoder import ScFoundationDecoder, ScFoundationDecoderConfig

WEIGHTS, GENES = "models.ckpt", "OS_scRNA_gene_index*.tsv"
PARTS = {"encoder": "cell", "decoder": "gene"}
"""Part of the model → the part of the file that the publisher takes for it."""
_PUBLISHER = "https://github.com/biomap-research/scFoundation"
_MASKS = ("token_emb.emb_mask.", "token_emb.emb_pad.", "to_final.")
_DECODER = ("decoder.", "decoder_embed.", "norm.")
_COUNTER = "decoder.performer.calls_since_last_redraw"


def is_scfoundation(path: Path) -> bool:
    """Whether a path is models.ckpt, or the folder that has it or its list of genes."""
    if path.is_file():
        return path.name == WEIGHTS
    return path.is_dir() and ((path / WEIGHTS).is_file() or any(path.glob(GENES)))


def load_scfoundation(path: Path, *, allow_pickle: bool = False, part: str = "encoder") -> tuple[ScFoundation, Path]:
    """Read models.ckpt and the list of genes beside it; gives the file of weights.

    Parameters
    ----------
    path
        The folder, or models.ckpt in it.
    allow_pickle
        See :func:`grnlab.backbones.published.read.read_tensors`.
    part
        ``"encoder"``; or ``"decoder"``, which comes with the encoder before it.

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
    content = _content(read_tensors(weights_file, allow_pickle=allow_pickle), weights_file, part)
    made = content["config"]["model_config"][content["config"]["model"]]
    table = read_separated(lists[0], separator="\t")
    if "gene_name" not in table or table["gene_name"].duplicated().any():
        msg = f"{lists[0]} must have a column gene_name with a name per row, each once; restore the original file."
        raise ValueError(msg)
    weights = {name.partition("model.")[2] or name: value for name, value in content["state_dict"].items()}
    reader, vocab = WeightReader(weights, weights_file), vocab_of_symbols(table["gene_name"].astype(str).tolist())
    config = ScFoundationConfig(
        n_layers=made["encoder"]["depth"],
        d_model=made["encoder"]["hidden_dim"],
        n_heads=made["encoder"]["heads"],
        n_bins=made["bin_num"],
        bin_alpha=float(made["bin_alpha"]),
    )
    model: ScFoundation
    if part == "encoder":
        found = _embedding(reader, len(table)) | _encoder(reader, config.n_layers, stack="stack", norm="final_norm")
        reader.finish(not_needed=(*_MASKS, *_DECODER))
        model = with_weights(ScFoundation, vocab, config, weights=found, source=weights_file)
    else:
        sizes, found = _decoder(reader, made["decoder"], config)
        found |= _embedding(reader, len(table))
        found |= _encoder(reader, config.n_layers, stack="encoder", norm="encoder_norm")
        reader.finish(not_needed=(*_MASKS, _COUNTER))
        model = with_weights(ScFoundationDecoder, vocab, sizes, weights=found, source=weights_file)
    return model, weights_file


def _content(content: Any, path: Path, part: str) -> Mapping[str, Any]:
    """The part of the file that is read, or the only one."""
    parts = content if isinstance(content, Mapping) else {}
    found = parts.get(PARTS[part], next(iter(parts.values())) if len(parts) == 1 else None)
    expected, kind = {"encoder": ("transformer", "a softmax encoder"), "decoder": ("performer", "a FAVOR+ decoder")}[
        part
    ]
    try:
        module = found["config"]["model_config"][found["config"]["model"]][part]["module_type"]
        if module == expected and isinstance(found["state_dict"], Mapping):
            return found
    except (KeyError, TypeError):
        pass
    msg = f"{path} is no checkpoint of scFoundation with {kind}; it holds {list(parts)[:5]}."
    raise ValueError(msg)


def _embedding(reader: WeightReader, n_genes: int) -> dict[str, Tensor]:
    places = reader.take("pos_emb.weight")  # genes, T, S, and that of padding
    if len(places) != n_genes + 3:
        msg = f"the list of genes has {n_genes:,} rows, but the weights are of {len(places) - 3:,} genes."
        raise ValueError(msg)
    return {
        "gene_embedding.weight": places[:n_genes],
        "special": places[[n_genes + 1, n_genes]],
        **reader.linear("value_encoder.first", "token_emb.mlp"),
        **reader.linear("value_encoder.second", "token_emb.mlp2"),
        "value_encoder.bins.weight": reader.take("token_emb.emb.weight"),
    }


def _encoder(reader: WeightReader, n_layers: int, *, stack: str, norm: str) -> dict[str, Tensor]:
    out = reader.linear(norm, "encoder.norm")
    for layer in range(n_layers):
        ours, theirs = f"{stack}.blocks.{layer}", f"encoder.transformer_encoder.{layer}"
        for part in ("weight", "bias"):
            out[f"{ours}.attention.qkv.{part}"] = reader.take(f"{theirs}.self_attn.in_proj_{part}")
        out |= reader.linear(f"{ours}.attention.out", f"{theirs}.self_attn.out_proj")
        out |= reader.linear(f"{ours}.mlp.0", f"{theirs}.linear1")
        out |= reader.linear(f"{ours}.mlp.2", f"{theirs}.linear2")
        out |= reader.linear(f"{ours}.norm1", f"{theirs}.norm1")
        out |= reader.linear(f"{ours}.norm2", f"{theirs}.norm2")
    return out


def _decoder(
    reader: WeightReader, made: Mapping[str, Any], encoder: ScFoundationConfig
) -> tuple[ScFoundationDecoderConfig, dict[str, Tensor]]:
    out = {
        **reader.linear("to_decoder", "decoder_embed"),
        **reader.linear("final_norm.0", "decoder.norm"),
        **reader.linear("final_norm.1", "norm"),
    }
    n_features = 0
    for layer in range(made["depth"]):
        ours, theirs = f"stack.blocks.{layer}", f"decoder.performer.net.layers.{layer}"
        for part in ("weight", "bias"):
            rows = [reader.take(f"{theirs}.0.fn.to_{name}.{part}") for name in "qkv"]
            out[f"{ours}.attention.qkv.{part}"] = torch.cat(rows)
        directions = reader.take(f"{theirs}.0.fn.fast_attention.projection_matrix")
        out[f"{ours}.attention.projection_RD"], n_features = directions, len(directions)
        out |= reader.linear(f"{ours}.attention.out", f"{theirs}.0.fn.to_out")
        out |= reader.linear(f"{ours}.norm1", f"{theirs}.0.norm")
        out |= reader.linear(f"{ours}.norm2", f"{theirs}.1.norm")
        out |= reader.linear(f"{ours}.mlp.0", f"{theirs}.1.fn.fn.w1")
        out |= reader.linear(f"{ours}.mlp.2", f"{theirs}.1.fn.fn.w2")
    sizes = ScFoundationDecoderConfig(
        encoder, made["depth"], made["hidden_dim"], made["heads"], made.get("dim_head", 64), n_features
    )
    return sizes, out
