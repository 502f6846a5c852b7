"""Make fixtures/geneformer_v*: tiny random Geneformers in the publisher's layout, and what the publisher's parts give.

In an environment of its own: ``pip install torch transformers scanpy`` and the wheel of helical 2.2 unpacked to a
folder (its tokeniser is the publisher's); then ``python tests/backbones/published/make_geneformer.py HELICAL_FOLDER``.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM

HERE = Path(__file__).parent / "fixtures"
CELLS = json.loads((HERE / "cells.json").read_text())
CHOSEN = [0, 2]  # of the second model one is cut, one padded


def publishers_tokenizer(folder: str) -> types.ModuleType:
    """The module of the tokeniser; what it imports for files on disk is not needed."""
    sys.modules["datasets"] = types.ModuleType("datasets")
    sys.modules["datasets"].Dataset = None
    path = Path(folder) / "helical/models/geneformer/geneformer_tokenizer.py"
    spec = importlib.util.spec_from_file_location("geneformer_tokenizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(name: str, *, special: bool, n_positions: int, activation: str, tokenizer: types.ModuleType) -> None:
    """Write one model folder and its ``expected.safetensors``."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(len(name) + n_positions)
    # two genes of the cells are unknown to the model, and it knows five that are not in them
    known = [gene for number, gene in enumerate(CELLS["ensembl"]) if number not in (3, 40)]
    known += [f"ENSG9999999999{number}" for number in range(5)]
    names = ["<pad>", "<mask>", *(["<cls>", "<eos>"] if special else []), *rng.permutation(known).tolist()]
    ids = {gene: number for number, gene in enumerate(names)}
    medians = {gene: round(float(rng.lognormal(0, 0.6)), 3) for gene in known}
    torch.manual_seed(n_positions)
    config = BertConfig(
        vocab_size=len(ids),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        hidden_act=activation,
        max_position_embeddings=n_positions,
        layer_norm_eps=1e-12,
        pad_token_id=0,
        attn_implementation="eager",
    )
    model = BertForMaskedLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():  # every bias and norm counts
            weight.add_(0.3 * torch.randn_like(weight))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "token_dictionary.json").write_text(json.dumps(ids) + "\n")
    (folder / "gene_median_dictionary.json").write_text(json.dumps(medians) + "\n")

    cells = []
    for counts, total in zip(CELLS["counts"], CELLS["totals"], strict=True):
        columns = [column for column, gene in enumerate(CELLS["ensembl"]) if gene in ids]
        values = np.array([counts[column] for column in columns]) / total * 10_000
        scaled = values / np.array([medians[CELLS["ensembl"][column]] for column in columns])
        tokens = np.array([ids[CELLS["ensembl"][column]] for column in columns])
        ranked = tokenizer.tokenize_cell(scaled, tokens)
        ranked = ranked[: n_positions - 2] if special else ranked[:n_positions]
        cells.append([ids["<cls>"], *ranked, ids["<eos>"]] if special else list(ranked))
    width = max(map(len, cells))
    mask = torch.tensor([[1] * len(cell) + [0] * (width - len(cell)) for cell in cells])
    tokens = torch.tensor([[*map(int, cell), *[0] * (width - len(cell))] for cell in cells])
    with torch.no_grad():
        out = model.bert(input_ids=tokens[CHOSEN], attention_mask=mask[CHOSEN], output_attentions=True)
    expected = {"tokens": tokens.short(), "mask": mask.bool(), "hidden": out.last_hidden_state}
    expected["attention"] = torch.stack([layer[0, 1, :8] for layer in out.attentions])  # first cell, second head
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    parts = publishers_tokenizer(sys.argv[1])
    make("geneformer_v1", special=False, n_positions=53, activation="relu", tokenizer=parts)
    make("geneformer_v2", special=True, n_positions=54, activation="gelu", tokenizer=parts)
