"""The work that is timed: each case runs in a process of its own and says what it found as one line of JSON.

``python benchmarks/cases.py --case CASE '{"parameter": value}'``; :mod:`main_job` starts these and adds time and
memory. CPU seconds measured here start after the imports.
"""

import sys
import time
from typing import Any

import processes

HEAVY = (
    "anndata",
    "gseapy",
    "igraph",
    "leidenalg",
    "lightning",
    "matplotlib",
    "networkx",
    "numba",
    "pandas",
    "pyvis",
    "scanpy",
    "scipy",
    "sklearn",
    "torch",
)


def conditions() -> dict[str, Any]:
    """Versions, threads, and the models that come with the package."""
    import torch

    from grnlab.backbones import builtin_models

    models = sorted(builtin_models())
    return processes.conditions() | {"torch_threads": torch.get_num_threads(), "builtin_models": models}


def import_package() -> dict[str, Any]:
    """Import the package, and nothing of it."""
    before = set(sys.modules)
    started = time.perf_counter()
    import grnlab  # noqa: F401

    seconds = time.perf_counter() - started
    return {"import_s": seconds, "heavy": sorted((set(sys.modules) - before) & set(HEAVY))}


def import_tools() -> dict[str, Any]:
    """Import the package and its verbs, as the first call of one does."""
    started = time.perf_counter()
    import grnlab as gl

    verbs = [gl.io, gl.pp, gl.tl, gl.pl]
    return {"import_s": time.perf_counter() - started, "n_namespaces": len(verbs)}


def counts(path: str, *, n_cells: int, n_genes: int, seed: int) -> dict[str, Any]:
    """Write synthetic counts: gamma-Poisson, log-normal gene means and cell depths, about 40 % of values not zero."""
    import numpy as np
    import scipy.sparse as sp

    rng = np.random.default_rng(seed)
    gene_means = rng.lognormal(-0.55, 1.2, n_genes)
    depths = rng.lognormal(0.0, 0.4, (n_cells, 1))
    values = rng.poisson(gene_means * depths * rng.gamma(1.0, 1.0, (n_cells, n_genes)))
    # a gene that no cell expresses would be left out, and the two packages would not do the same work
    silent = np.flatnonzero(values.sum(axis=0) == 0)
    values[rng.integers(n_cells, size=len(silent)), silent] = 1
    sp.save_npz(path, sp.csr_matrix(values, dtype=np.float32))
    return {"fraction_expressed": float((values > 0).mean()), "median_depth": float(np.median(values.sum(axis=1)))}


def infer(
    path: str, *, n_layers: int, d_model: int, n_heads: int, top_k: int, seed: int, context: str = "shared"
) -> dict[str, Any]:
    """Counts → attention → network, the way a user does it, with random weights over a synthetic vocabulary."""
    import anndata as ad
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp
    import torch

    import grnlab as gl
    from grnlab.backbones import ScPrint, ScPrintConfig
    from grnlab.genes import GeneVocab

    attention, infer_networks = gl.tl.attention, gl.tl.infer_networks
    matrix = sp.load_npz(path)
    n_cells, n_genes = matrix.shape
    names = [f"ENSG{number:011d}" for number in range(n_genes)]
    table = {
        "symbol": [f"GENE{number}" for number in range(n_genes)],
        "ensembl_id": names,
        "aliases": "",
        "position": np.arange(n_genes),
        "species": "Homo sapiens",
        "is_tf": np.arange(n_genes) % 12 == 0,
    }
    torch.manual_seed(seed)
    model = ScPrint(
        GeneVocab(pd.DataFrame(table)), ScPrintConfig(n_layers=n_layers, d_model=d_model, n_heads=n_heads)
    ).eval()
    adata = ad.AnnData(matrix, var=pd.DataFrame(index=names))
    started = time.process_time()
    maps = attention(adata, model, genes="all", context=context)
    attended = time.process_time()
    networks = infer_networks(maps, top_k=top_k, regulators="all", min_fraction=0.0)
    return {
        "attention_cpu_s": attended - started,
        "network_cpu_s": time.process_time() - attended,
        "cpu_s_per_cell": (time.process_time() - started) / n_cells,
        "n_genes": len(maps.genes),
        "n_edges": len(networks["all"].edges),
        "threads": torch.get_num_threads(),
    }


def top_edges(
    *, n_genes: int, n_layers: int, n_heads: int, d_head: int, n_edges: int, symmetrize: bool, seed: int
) -> dict[str, Any]:
    """Strongest partners of every gene from random pooled queries and keys, through the maps object."""
    import pandas as pd
    import torch

    from grnlab.attention import AttentionMaps, GroupMaps
    from grnlab.backbones import AttentionSpec

    q, k = _random_queries_keys((n_layers, n_heads, n_genes, d_head), seed)
    genes = pd.DataFrame(index=[f"GENE{number}" for number in range(n_genes)])
    group = GroupMaps("all", q, k, torch.ones(n_genes, dtype=torch.int64), 1)
    maps = AttentionMaps(genes, {"all": group}, AttentionSpec(n_layers, n_heads, d_head, d_head**-0.5, 0))
    started = time.process_time()
    partner, value = maps.topk("all", n_edges, symmetrize=symmetrize)
    return {"op_cpu_s": time.process_time() - started, "n_found": int((partner >= 0).sum()), "sum": float(value.sum())}


def top_edges_naive(
    *, n_genes: int, n_layers: int, n_heads: int, d_head: int, n_edges: int, symmetrize: bool, seed: int
) -> dict[str, Any]:
    """Do the same with the whole map in memory and a softmax per head."""
    import torch

    q, k = _random_queries_keys((n_layers * n_heads, n_genes, d_head), seed)
    started = time.process_time()
    total = torch.zeros(n_genes, n_genes)
    for q_GD, k_GD in zip(q, k, strict=True):
        head = torch.softmax(q_GD @ k_GD.T * d_head**-0.5, dim=-1)
        total += (head + head.T) / 2 if symmetrize else head
    total = (total / len(q)).fill_diagonal_(-torch.inf)
    value, partner = total.topk(n_edges, dim=-1)
    return {"op_cpu_s": time.process_time() - started, "n_found": partner.numel(), "sum": float(value.sum())}


def _random_queries_keys(shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


CASES = {
    case.__name__: case
    for case in (conditions, import_package, import_tools, counts, infer, top_edges, top_edges_naive)
}

if __name__ == "__main__":
    processes.run_script(CASES)
