"""Make fixtures/scgpt: a tiny random scGPT in the layout of its publisher, and what their code gives for real cells.

In an environment of its own: ``pip install torch numpy einops scipy scanpy`` and the wheel of scgpt 0.2.4 unpacked to a
folder (its package does not import beside a current torch; three of its modules do, one by one); then
``python tests/backbones/published/make_scgpt.py SCGPT_FOLDER``.
"""

import contextlib
import importlib
import io
import json
import logging
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent / "fixtures"
CELLS = json.loads((HERE / "cells.json").read_text())
SIZES = {"embsize": 8, "nheads": 2, "d_hid": 12, "nlayers": 2, "n_layers_cls": 1, "dropout": 0.2}
ARGS = SIZES | {"n_bins": 51, "max_seq_len": 54, "pad_token": "<pad>", "pad_value": -2, "mask_value": -1}
ARGS |= {"input_style": "binned", "input_emb_style": "continuous", "fast_transformer": True}


def publishers(folder: str) -> tuple[types.ModuleType, types.ModuleType, types.ModuleType]:
    """The modules of model, binning and collator, past the ``__init__`` of the package."""
    package = types.ModuleType("scgpt")
    package.__path__ = [f"{folder}/scgpt"]
    package.logger = logging.getLogger("scgpt")
    inner = types.ModuleType("scgpt.model")
    inner.__path__ = [f"{folder}/scgpt/model"]
    sys.modules |= {"scgpt": package, "scgpt.model": inner}
    with contextlib.redirect_stdout(io.StringIO()):
        return tuple(
            importlib.import_module(f"scgpt.{name}") for name in ("model.model", "preprocess", "data_collator")
        )


def main(folder: str) -> None:
    """Write the model folder with ``expected.safetensors``."""
    model_module, preprocess, collator_module = publishers(folder)
    out = HERE / "scgpt"
    out.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    known = [gene for number, gene in enumerate(CELLS["genes"]) if number not in (3, 40)]
    names = rng.permutation([*known, "MARCH1", "AC000000.1", "LINC0"]).tolist()
    ids = {name: number for number, name in enumerate([*names, "<pad>", "<cls>", "<eoc>"])}
    torch.manual_seed(0)
    model = model_module.TransformerModel(
        ntoken=len(ids),
        d_model=ARGS["embsize"],
        nhead=ARGS["nheads"],
        d_hid=ARGS["d_hid"],
        nlayers=ARGS["nlayers"],
        nlayers_cls=ARGS["n_layers_cls"],
        vocab=ids,
        dropout=ARGS["dropout"],
        pad_value=ARGS["pad_value"],
        do_mvc=True,
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():  # every bias and norm counts
            weight.add_(0.3 * torch.randn_like(weight))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, out / "best_model.safetensors")
    (out / "args.json").write_text(json.dumps(ARGS) + "\n")
    (out / "vocab.json").write_text(json.dumps(ids) + "\n")

    # binning: the draws of the publisher's generator are kept, so that ours can be given the same
    columns = [column for column, gene in enumerate(CELLS["genes"]) if gene in ids]
    counts = np.array(CELLS["counts"], dtype=np.float32)[:, columns]
    tokens = np.array([ids[CELLS["genes"][column]] for column in columns])
    draws = np.random.default_rng(1).random(counts.shape, dtype=np.float32)
    binned = np.zeros(counts.shape, dtype=np.int64)
    for cell, row in enumerate(counts):
        above = np.flatnonzero(row)
        np.random.rand = lambda n, cell=cell, above=above: draws[cell, above][:n]
        binned[cell, above] = preprocess.binning(torch.from_numpy(row[above]), ARGS["n_bins"]).numpy()

    collator = collator_module.DataCollator(
        do_padding=True,
        pad_token_id=ids["<pad>"],
        pad_value=ARGS["pad_value"],
        do_mlm=False,
        do_binning=False,  # done above
        max_length=10_000,
        sampling=False,
        keep_first_n_tokens=1,
    )
    examples = []
    for row in binned[6:8]:
        above = np.flatnonzero(row)
        genes, values = np.insert(tokens[above], 0, ids["<cls>"]), np.insert(row[above], 0, ARGS["pad_value"])
        examples.append({"genes": torch.from_numpy(genes), "expressions": torch.from_numpy(values).float()})
    batch = collator(examples)
    pad = batch["gene"].eq(ids["<pad>"])
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        hidden = model._encode(batch["gene"], batch["expr"], pad)
        first = model.encoder(batch["gene"]) + model.value_encoder(batch["expr"])
        layer = model.transformer_encoder.layers[0].self_attn
        attention = layer(first, first, first, key_padding_mask=pad, average_attn_weights=False)[1]
    expected = {
        "binned": torch.from_numpy(binned).short(),
        "draws": torch.from_numpy(draws),
        "tokens": batch["gene"].short(),
        "values": batch["expr"].short(),
        "hidden": hidden,
        "attention": attention[0, 1, :8].contiguous(),  # of the first layer, first cell, second head
    }
    save_file(expected, out / "expected.safetensors")
    for file in out.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main(sys.argv[1])
