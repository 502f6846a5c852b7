"""The published scprint package on the same counts: runs in an environment of its own that has scprint 2.3.8.

Calls the public classes ``scprint.scPrint`` and ``scprint.tasks.GNInfer`` with random weights, float32, and prints one
line of JSON. What the package would fetch from a gene database is given to it, so no CPU second counts against it for
that, and CPU seconds are counted after the imports.
"""

import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import sys
import time
import types
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

_ORGANISM = "NCBITaxon:9606"


def _torchvision_stand_in() -> None:
    """Stand in for torchvision, which has no CPU wheel on PyPI: one layer of it is used, the identity at inference."""
    if importlib.util.find_spec("torchvision") is not None:
        return

    class StochasticDepth(torch.nn.Identity):
        pass

    for name in ("torchvision", "torchvision.ops"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    sys.modules["torchvision"].ops = sys.modules["torchvision.ops"]  # type: ignore[attr-defined]
    sys.modules["torchvision.ops"].StochasticDepth = StochasticDepth  # type: ignore[attr-defined]


def run(
    *, path: str, n_layers: int, d_model: int, n_heads: int, top_k: int, seed: int, batch_size: int
) -> dict[str, Any]:
    """Counts → embeddings, attention → network, by the package's own route."""
    _torchvision_stand_in()
    import anndata as ad
    import scdataloader.collator
    from scprint import scPrint
    from scprint.tasks import GNInfer

    matrix = sp.load_npz(path)
    n_cells, n_genes = matrix.shape
    genes = [f"ENSG{number:011d}" for number in range(n_genes)]
    table = pd.DataFrame({"symbol": genes, "organism": _ORGANISM}, index=genes)
    scdataloader.collator.load_genes = lambda organisms: table
    adata = ad.AnnData(
        matrix,
        obs=pd.DataFrame(
            {"organism_ontology_term_id": _ORGANISM, "cell_type": "all"}, index=[f"cell{i}" for i in range(n_cells)]
        ),
        var=table.copy(),
    )
    torch.manual_seed(seed)
    model = scPrint(
        genes,
        organisms=[_ORGANISM],
        d_model=d_model,
        nhead=n_heads,
        nlayers=n_layers,
        layers_cls=[d_model],
        gene_pos_enc=list(range(n_genes)),
        transformer="normal",
        precpt_gene_emb=None,
    ).eval()
    inferer = GNInfer(
        batch_size=batch_size,
        num_workers=0,
        how="given",
        genes=genes,
        num_genes=n_genes,
        head_agg="mean",
        filtration="top-k",
        k=top_k,
        symmetrize=True,
        max_cells=n_cells,
        dtype=torch.float32,
    )
    started = time.process_time()
    network = inferer(model, adata)
    used = time.process_time() - started
    return {
        "cpu_s": used,
        "cpu_s_per_cell": used / n_cells,
        "scprint": importlib.metadata.version("scprint"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "settings": f"float32, batches of {batch_size}, how='given', head mean, top {top_k}",
        "shape": list(network.varp["GRN"].shape),
        "finite": bool(np.isfinite(sp.csr_matrix(network.varp["GRN"]).data).all()),
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # the package prints
        found = run(**json.loads(sys.argv[1]))
    print(json.dumps(found))
