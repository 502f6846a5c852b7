"""Training steps of the published scprint package: runs in an environment of its own that has scprint 2.3.8.

Calls the public classes ``scprint.scPrint`` (its ``training_step``) and ``scprint.trainer.TrainingMode`` with its own
defaults: denoising (noise 0.6), classification and dissimilarity of the class embeddings in that pass, and generation
from the embeddings in a second one. Random weights and no gene database; attention is the plain one, since its
FlashAttention needs a CUDA device. Prints one line of JSON; CPU seconds are counted after the first step.
"""

import contextlib
import importlib.metadata
import json
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scprint_embed import _torchvision_stand_in

_ORGANISM = "NCBITaxon:9606"


def run(
    *,
    path: str,
    dtype: str,
    seed: int,
    classes: Mapping[str, int],
    n_groups: int,
    n_genes: int,
    n_layers: int,
    d_model: int,
    n_heads: int,
) -> dict[str, Any]:
    """Steps on the batches of a file, the loop being that of ``training.py``."""
    _torchvision_stand_in()  # the identity, which stochastic depth is at the package's default rate of 0
    from scprint import scPrint
    from scprint.trainer import TrainingMode

    torch.manual_seed(seed)
    n_leaves = classes["cell_type"]
    model = scPrint(
        [f"ENSG{number:011d}" for number in range(n_genes)],
        organisms=[_ORGANISM],
        d_model=d_model,
        nhead=n_heads,
        nlayers=n_layers,
        layers_cls=[d_model],
        classes=dict(classes),
        labels_hierarchy={"cell_type": {n_leaves + g: list(range(10 * g, 10 * g + 10)) for g in range(n_groups)}},
        gene_pos_enc=list(range(1, n_genes + 1)),
        transformer="normal",
        precpt_gene_emb=None,
        normalization="log",
    ).train()
    TrainingMode().setup(None, model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=model.lr, weight_decay=model.weight_decay)
    data = np.load(path)
    imported_mb, spent, losses = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, [], []
    for genes, values, totals, labels in zip(*(data[k] for k in ("genes", "values", "totals", "labels")), strict=True):
        started = time.process_time(), time.perf_counter()
        batch = {
            name: torch.from_numpy(array)
            for name, array in (("genes", genes), ("x", values), ("depth", totals), ("class", labels))
        }
        with torch.autocast("cpu", torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext():
            loss = model.training_step(batch, 0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
        spent.append((time.process_time() - started[0], time.perf_counter() - started[1]))
        losses.append(loss.item())
    return {
        "cpu_s_per_step": min(cpu for cpu, _ in spent[1:]),
        "wall_s_per_step": min(wall for _, wall in spent[1:]),
        "rss_before_mb": imported_mb,
        "tasks": repr(TrainingMode()),
        "losses": losses,
        "finite": bool(np.isfinite(losses).all()),
        "n_parameters": sum(weight.numel() for weight in model.parameters()),
        "scprint": importlib.metadata.version("scprint"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # the package prints
        found = run(**json.loads(sys.argv[1]))
    print(json.dumps(found))
