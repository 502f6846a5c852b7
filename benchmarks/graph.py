"""What the graph layer costs: hubs, communities, enrichment, comparison, files; and a permutation on real cells.

``python benchmarks/graph.py [--quick] [--json FILE]`` prints a Markdown table and writes JSON (case, seconds,
conditions). Networks are simulated: every target has 20 regulators, most of them of its own module, weights are
exponential. Everything but the permutation test and the bootstrap is to take at most 10 s at 5,000 genes and 100,000
edges on 2 cores; each case runs once, after its libraries were imported. The exit status is 1 when a target is missed.
"""

import argparse
import datetime as dt
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import grnlab as gl
from grnlab.network import (
    bootstrap,
    joint_communities,
    nested_communities,
    permutation_test,
    read_network,
    resolution_sweep,
    sign_edges,
)
from grnlab.network.formats import FORMATS
from grnlab.network.hubs import centralities

HERE = Path(__file__).parent
SEED = 0
TARGET_S = 10.0
N_SETS = 2_000


def simulate(n_genes: int, n_edges: int, *, seed: int = SEED, name: str = "simulated") -> gl.GeneNetwork:
    """Network of ``n_edges / n_genes`` regulators a target, 70 % of them drawn from its own module of 50."""
    rng = np.random.default_rng(seed)
    per_target, n_modules = n_edges // n_genes, max(2, n_genes // 100)
    target = np.repeat(np.arange(n_genes), int(per_target * 1.4))
    module = target % n_modules
    fame = rng.zipf(1.8, n_genes).clip(max=200).astype(float)
    anyone = rng.choice(n_genes, size=len(target), p=fame / fame.sum())
    own = module + n_modules * rng.integers(0, n_genes // n_modules, size=len(target))
    source = np.where(rng.random(len(target)) < 0.7, own, anyone)
    table = pd.DataFrame({"source": source, "target": target, "weight": rng.exponential(size=len(target))})
    table = table[source != target].drop_duplicates(["source", "target"])
    table = table.sample(n_edges, random_state=seed)  # an error when there are fewer
    names = np.array([f"GENE{i:05d}" for i in range(n_genes)], dtype=object)
    edges = table.assign(source=names[table["source"]], target=names[table["target"]])
    genes = pd.DataFrame({"is_tf": np.arange(n_genes) % 10 == 0}, index=names)
    return gl.GeneNetwork(edges, genes, name=name)


def small_cases(n_genes: int, n_edges: int) -> dict[str, Callable[[], Any]]:
    """Name → call, of everything that has a target."""
    rng = np.random.default_rng(SEED)
    net, other = (simulate(n_genes, n_edges, seed=seed, name=f"net {seed}") for seed in (0, 1))
    nets = gl.NetworkSet([net, other])
    tested = net._with_edge_columns({"pvalue": rng.random(len(net.edges))})
    names = net.genes.index.to_numpy()
    sets = {f"set {i}": rng.choice(names, rng.integers(10, 200), replace=False).tolist() for i in range(N_SETS)}
    cells = rng.poisson(1.0, (500, n_genes)).astype(np.float32)
    found = net.communities()
    folder = Path(tempfile.mkdtemp())
    files = {name: net.write(folder / f"net.{name}", name) for name in FORMATS}
    return {
        "check and sort the tables": lambda: gl.GeneNetwork(net.edges, net.genes, name="again"),
        "subset, half of the genes": lambda: net.subset(names[::2]),
        "neighbourhood, radius 2": lambda: net.neighbourhood(names[0], radius=2),
        "top 10 per target": lambda: net.top(10, per="target"),
        "quantile": lambda: net.threshold(quantile=0.9),
        "false discovery rate": tested.significant,
        "disparity backbone": net.backbone,
        "consensus of 2": nets.combine,
        "signs, Spearman, 500 cells": lambda: sign_edges(net, cells, names.tolist()),
        "regulons": net.to_regulons,
        "hubs, eight centralities": net.hubs,
        "hubs, betweenness": lambda: net.hubs("betweenness"),
        "compare two networks": lambda: nets.compare("net 0", "net 1").centralities(),
        "communities, Leiden (igraph)": net.communities,
        "communities, Louvain": lambda: net.communities(method="louvain"),
        "communities, directed (leidenalg)": lambda: net.communities(directed=True),
        "communities, joint of 2 (leidenalg)": lambda: joint_communities(list(nets.values())),
        "communities, three levels": lambda: nested_communities(net),
        "resolution sweep, 8 × 10 seeds": lambda: resolution_sweep(net),
        "match communities of 2": lambda: nets.match_communities("net 0", "net 1"),
        f"enrichment of {len(found)} communities in {N_SETS:,} sets": lambda: net.enrich(gene_sets=sets),
        f"prerank of {N_SETS:,} sets": lambda: net.prerank(sets),
        **{
            f"write {name}": lambda name=name: net.write(folder / f"w.{name}", name, overwrite=True) for name in FORMATS
        },
        **{f"read {name}": lambda name=name: read_network(files[name], name) for name in FORMATS},
    }


def correlation_infer(cells: np.ndarray, names: np.ndarray) -> Callable[[np.ndarray], gl.GeneNetwork]:
    """infer: the 10 strongest absolute correlations of each gene."""

    def infer(rows: np.ndarray) -> gl.GeneNetwork:
        strength = np.abs(np.corrcoef(cells[rows].T))
        np.fill_diagonal(strength, 0)
        best = np.argpartition(-strength, 10, axis=1)[:, :10]
        target = np.repeat(np.arange(len(names)), 10)
        edges = {"source": names[best.ravel()], "target": names[target], "weight": strength[target, best.ravel()]}
        return gl.GeneNetwork(pd.DataFrame(edges), pd.DataFrame(index=names), name="cells")

    return infer


def resampling_cases(n_again: int) -> dict[str, Callable[[], Any]]:
    """Permutation and bootstrap, without a target: they infer networks again and again."""
    rng = np.random.default_rng(SEED)
    names = np.array([f"GENE{i:05d}" for i in range(1_000)], dtype=object)
    infer = correlation_infer(rng.normal(size=(200, 1_000)), names)
    labels = ["a", "b"] * 100
    adata = gl.datasets.pbmc68k()
    adata.obs["half"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    model = gl.load_model("grnlab-small")
    real = f"{adata.n_obs} cells, 700 genes, grnlab-small, {n_again} times"
    options = {"genes": 700, "n_blocks": 20, "seed": SEED}
    return {
        f"permutation test, correlations, 1,000 genes, {n_again} times": lambda: permutation_test(
            infer, labels, a="a", b="b", n_permutations=n_again
        ),
        f"bootstrap, correlations, 1,000 genes, {n_again} times": lambda: bootstrap(infer, 200, n_bootstraps=n_again),
        f"tl.compare_conditions, {real}": lambda: gl.tl.compare_conditions(
            adata, model, condition="half", a="a", b="b", n_permutations=n_again, **options
        ),
        f"tl.bootstrap_networks, {real}": lambda: gl.tl.bootstrap_networks(
            adata, model, n_bootstraps=n_again, **options
        ),
    }


def run(cases: dict[str, Callable[[], Any]], size: str, target: float | None) -> list[dict[str, Any]]:
    """Time every case once."""
    rows = []
    for case, call in cases.items():
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        met = None if target is None else wall <= target
        rows.append({"case": case, "size": size, "seconds": round(wall, 3), "cpu_s": round(cpu, 3), "met": met})
        print(
            f"| {case} | {size} | {wall:.3f} | {cpu:.3f} | {'' if met is None else 'yes' if met else 'NO'} |",
            flush=True,
        )
    return rows


def main() -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the genes and edges, few permutations")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "graph.json")
    options = parser.parse_args()
    factor = 10 if options.quick else 1
    sizes = [(5_000 // factor, 100_000 // factor), (20_000 // factor, 1_000_000 // factor)]
    load = os.getloadavg()[0]
    conditions = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "load_at_start": round(load, 2),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        "grnlab": gl.__version__,
        "seed": SEED,
        "repeats": 1,
        "quick": options.quick,
    }
    warm = simulate(200, 2_000)
    warm.hubs()
    warm.communities(directed=True)
    print("| case | size | seconds | CPU-s | ≤ 10 s |\n|---|---|---|---|---|")
    small, big = (f"{genes:,} genes, {edges:,} edges" for genes, edges in sizes)
    rows = run(small_cases(*sizes[0]), small, TARGET_S)
    large = simulate(*sizes[1])
    cases = {
        "check and sort the tables": lambda: gl.GeneNetwork(large.edges, large.genes, name="again"),
        "eight centralities": lambda: centralities(large),
        "communities, Leiden (igraph)": large.communities,
    }
    rows += run(cases, big, TARGET_S)
    rows += run(resampling_cases(5 if options.quick else 20), "", None)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return int(any(row["met"] is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
