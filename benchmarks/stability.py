"""Does the network stay the same: ``python benchmarks/stability.py --data DIR [--json FILE]``.

Jaccard index of the strongest edges (transcription factors × genes) of types of cells of pbmc3k, (a) between runs with
other seeds, all pairs of them, and (b) between all cells and those left when a random tenth is removed. Genes are
chosen once, on all cells. Attention and Pearson draw nothing; "200 cells" reads as many cells of a type, drawn by the
seed, as :func:`grnlab.tl.read_out` does by default. The product of variances stands beside: what is stable need not be
right.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import grnlab as gl
from grnlab.attention.prepare import prepare_cells
from grnlab.evaluate import BASELINES, SLOW_BASELINES
from grnlab.evaluate.baselines import log_normalise

TARGETS = {"seeds": 0.9, "a tenth of the cells removed": 0.8}
Score = Callable[[ad.AnnData, int], np.ndarray]  # cells, seed → regulators × targets


def methods(model: object, genes: pd.DataFrame) -> dict[str, tuple[Score, bool]]:
    """Name → how pairs are scored, and whether the seed matters."""
    names, regulators = list(genes.index), np.flatnonzero(genes["is_tf"])
    targets = np.arange(len(names))

    def read_out(name: str, max_cells: int | None) -> Score:
        def score(cells: ad.AnnData, seed: int) -> np.ndarray:
            options = {"genes": names, "max_cells": max_cells, "min_cells": 1, "seed": seed}
            return gl.tl.read_out(cells, model, name, **options).strength("all")

        return score

    def baseline(name: str) -> Score:
        def score(cells: ad.AnnData, seed: int) -> np.ndarray:
            columns = cells.var_names.get_indexer(genes["name_in_data"])
            expression = log_normalise(cells.X.toarray())[:, columns]
            options = {"seed": seed} if name in SLOW_BASELINES else {}
            return (BASELINES | SLOW_BASELINES)[name](expression, regulators, targets, **options)

        return score

    found = {"attention": (read_out("attention", None), False), "consensus": (read_out("consensus", None), False)}
    found |= {f"{name}, 200 cells": (read_out(name, 200), True) for name in ("attention", "consensus")}
    found |= {name: (baseline(name), False) for name in ("pearson", "variance_expression")}
    return found | {"grnboost2": (baseline("grnboost2"), True)}


def strongest(score_RT: np.ndarray, genes: pd.DataFrame, n_edges: int) -> set[int]:
    """Numbers of the strongest pairs, a gene with itself left out; ties by a fixed random order."""
    own = np.flatnonzero(genes["is_tf"])[:, None] == np.arange(len(genes))
    score = np.where(own | np.isnan(score_RT), -np.inf, score_RT).ravel()
    tie = np.random.default_rng(0).random(len(score))
    return set(np.lexsort((tie, -score))[:n_edges].tolist())


def jaccard(one: set[int], two: set[int]) -> float:
    """Shared edges among those of either."""
    return len(one & two) / len(one | two)


def measure(
    cells: ad.AnnData, model: object, genes: pd.DataFrame, *, n_edges: int, n_seeds: int, n_draws: int
) -> Iterator[dict[str, object]]:
    """A row per method and question."""
    rng = np.random.default_rng(0)
    kept = [np.sort(rng.permutation(cells.n_obs)[cells.n_obs // 10 :]) for _ in range(n_draws)]
    for name, (score, seeded) in methods(model, genes).items():
        start = time.process_time()
        runs = [strongest(score(cells, seed), genes, n_edges) for seed in range(n_seeds if seeded else 1)]
        left = [strongest(score(cells[rows].copy(), 0), genes, n_edges) for rows in kept]
        found = {
            "seeds": [jaccard(one, two) for one, two in combinations(runs, 2)] or [1.0],  # nothing is drawn
            "a tenth of the cells removed": [jaccard(runs[0], one) for one in left],
        }
        seconds = (time.process_time() - start) / (len(runs) + len(left))
        for question, values in found.items():
            row = {"method": name, "question": question, "jaccard": float(np.mean(values)), "lowest": min(values)}
            yield row | {"highest": max(values), "drawn": seeded or question != "seeds", "cpu_s_a_run": seconds}
        print(name, {question: np.round(values, 3).tolist() for question, values in found.items()}, flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="grnlab-small")
    parser.add_argument("--types", nargs="+", default=["CD14+ Mono", "B"])
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--edges", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model, adata = gl.load_model(options.model), gl.io.read(options.data / "scrna/pbmc3k.h5ad")
    shown = prepare_cells(
        adata, model, groupby=None, genes=options.genes, layer=None, min_cells=1, skip_small=False
    )  # chooses genes as gl.tl.attention does
    genes = shown.genes.iloc[shown.chosen]
    rows = []
    for one in options.types:
        cells = adata[adata.obs["cell_type"] == one].copy()
        shape = {"group": one, "n_cells": cells.n_obs, "n_regulators": int(genes["is_tf"].sum()), "n_genes": len(genes)}
        print(shape, flush=True)
        how = {"n_edges": options.edges, "n_seeds": options.seeds, "n_draws": options.draws}
        rows += [shape | row for row in measure(cells, model, genes, **how)]
    for row in rows:
        row["met"] = row["jaccard"] >= TARGETS[row["question"]]
    print(pd.DataFrame(rows).pivot_table("jaccard", "method", ["question", "group"]).round(3).to_string())
    if options.json is not None:
        settings = {name: value for name, value in vars(options).items() if name not in ("data", "json")}
        content = {"settings": settings, "weights_sha256": model.weights_hash, "targets": TARGETS, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
