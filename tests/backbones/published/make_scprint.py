"""Make fixtures/scprint_*: tiny random scPRINT checkpoints as Lightning saves them, and what their class says.

In an environment of its own with scprint 2.3.8 and safetensors: ``python tests/backbones/published/make_scprint.py``.
"""

import importlib.machinery
import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent / "fixtures"
CELLS = json.loads((HERE / "cells.json").read_text())
COMMON = {"d_model": 8, "nlayers": 2, "layers_cls": [8], "transformer": "normal", "precpt_gene_emb": None}
CLASSES = {"cell_type_ontology_term_id": 3, "sex_ontology_term_id": 2}
VARIANTS = {
    "scprint_v1": {"nhead": 2, "normalization": "sum", "classes": CLASSES, "num_batch_labels": 3},
    "scprint_v15": {
        "nhead": 2,
        "normalization": "log",
        "classes": CLASSES,
        "depth_atinput": False,
        "use_metacell_token": True,
        "expr_encoder_layers": 3,
        "num_batch_labels": 3,
        "mvc_decoder": "inner product",
    },
    "scprint_gqa": {"nhead": 4, "num_heads_kv": 2, "normalization": "sum", "gene_pos_enc": None},
}


def torchvision_stand_in() -> None:
    """torchvision has no CPU wheel on PyPI; one layer of it is used, the identity at inference."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    for name in ("torchvision", "torchvision.ops"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    sys.modules["torchvision"].ops = sys.modules["torchvision.ops"]
    sys.modules["torchvision.ops"].StochasticDepth = type("StochasticDepth", (torch.nn.Identity,), {})


def make(name: str, options: dict) -> None:
    """Write one checkpoint, as safetensors and JSON, with ``expected.safetensors``."""
    import lightning
    from scprint import scPrint

    out = HERE / name
    out.mkdir(exist_ok=True)
    torch.manual_seed(len(name))
    rng = np.random.default_rng(0)
    genes = rng.permutation([*CELLS["ensembl"][:50], "ENSG99999999990", "ENSMUSG00000000001"]).tolist()
    positions = [int(place) for place in np.arange(len(genes)) // 2]
    model = scPrint(genes, **({"gene_pos_enc": positions} | COMMON | options)).eval()
    with torch.no_grad():
        for weight in model.parameters():  # every bias and norm counts
            weight.add_(0.3 * torch.randn_like(weight))
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        trainer.strategy.connect(model)
        trainer.save_checkpoint(f"{folder}/model.ckpt", weights_only=True)
        saved = torch.load(f"{folder}/model.ckpt", weights_only=False)
        try:
            torch.load(f"{folder}/model.ckpt", weights_only=True)
        except Exception as error:  # noqa: BLE001 to be told
            print(name, "cannot be read with weights_only:", str(error)[:300])
    weights = saved.pop("state_dict")
    save_file({key: value.contiguous() for key, value in weights.items()}, out / "state_dict.safetensors")
    (out / "rest.json").write_text(json.dumps(saved, default=lambda value: print(name, "drops", type(value))) + "\n")

    column = {gene: number for number, gene in enumerate(CELLS["ensembl"])}
    known = [gene for gene in genes if gene in column]
    values = torch.tensor(CELLS["counts"])[:2, [column[gene] for gene in known]].float()
    totals = torch.tensor(CELLS["totals"])[:2].float()
    tokens = torch.tensor([[genes.index(gene) for gene in known]] * 2)
    with torch.no_grad():
        metacell = torch.zeros(2, dtype=torch.int64) if options.get("use_metacell_token") else None
        result, qkvs = model(
            tokens, values, req_depth=totals, metacell_token=metacell, get_gene_emb=True, get_attention_layer=[0, 1]
        )
    expected = {
        "tokens": tokens.short(),
        "values": values.short(),
        "totals": totals,
        "genes": result["gene_embedding"],
        "special": result["cell_embs"],
    }
    q, k = (qkvs[1] if isinstance(qkvs[1], tuple) else qkvs[1].unbind(2))[:2]
    logits = torch.einsum("bthd,bshd->bhts", q, k.repeat_interleave(q.shape[2] // k.shape[2], 2)) * q.shape[-1] ** -0.5
    expected["attention"] = logits.softmax(-1)[0, 1, :8]  # of the last layer, first cell, second head
    save_file({key: value.contiguous() for key, value in expected.items()}, out / "expected.safetensors")
    for file in out.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    torchvision_stand_in()
    for variant, options in VARIANTS.items():
        make(variant, options)
