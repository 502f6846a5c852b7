"""Depth: shallow copies of real cells, enhanced and clustered, beside baselines and peers.

``python benchmarks/depth.py --data DIR --model FOLDER [--quick] [--peer-python PATH] [--json FILE] [--out FILE]``

Cells of data sets that no model here was trained on are down-sampled to 1, 5, 10 and 20 % of their counts (binomial);
of baron and manno there are down-sampled copies made by others too (SAVER, "given"). Every method gets the shallow
counts and is scored against the whole cells, as log1p of counts per 10,000. ``MAE``, ``MRE`` (mean of |error| / truth)
as in the scFoundation paper: over the genes with a count in the whole cell. A method can do well there by never
predicting a zero: ``one count`` predicts one count of every gene in every cell. So beside them ``MAE all``, over all
genes; ``PCC``, between the genes of a cell; and ``PCC cells``, of a gene between the cells, 0 for what knows no cell.
Peers see the shallow copies of all cells of the data set; scores are of the same drawn cells for every method.

Clusters: Leiden (resolution 1, 15 neighbours), NMI and ARI with the labels, silhouette of the labels. Labels of pbmc3k
are its own, those of baron the Leiden clusters of the whole cells.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

import grnlab as gl
from grnlab.backbones.registry import build_model
from grnlab.data.names import align_genes

SETS = {
    "baron": "read_depth/baron_saver_ref.h5ad",
    "manno": "read_depth/manno_saver_ref.h5ad",
    "pbmc3k": "scrna/pbmc3k.h5ad",
}
GIVEN = {"baron": "read_depth/baron_saver_downsampled.h5ad", "manno": "read_depth/manno_saver_downsampled.h5ad"}
RATES = (0.01, 0.05, 0.10, 0.20)
LEAST = 1_000  # counts of a cell that is scored, as in the paper
PEERS = ("magic", "scvi")
SCORES = ("mae", "mre", "mae_all", "pcc", "pcc_cells")


def read(path: Path, model: Any) -> ad.AnnData:
    """Cells with the genes the model knows."""
    adata = ad.read_h5ad(path)
    adata = adata[:, np.sort(align_genes(adata, model.vocab).columns)].copy()
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    return adata


def thinned(adata: ad.AnnData, rate: float, *, seed: int) -> ad.AnnData:
    """Binomial copy."""
    counts = adata.X.copy()
    counts.data = np.random.default_rng(seed).binomial(counts.data.astype(np.int64), rate).astype(np.float32)
    counts.eliminate_zeros()
    return ad.AnnData(counts, obs=adata.obs.copy(), var=adata.var.copy())


def total(adata: ad.AnnData) -> np.ndarray:
    """Counts of each cell."""
    return np.asarray(adata.X.sum(axis=1)).ravel()


def logs(counts: Any, totals: np.ndarray) -> np.ndarray:
    """Log1p of counts per 10,000."""
    dense = counts.toarray() if sp.issparse(counts) else np.asarray(counts)
    return np.log1p(dense / np.maximum(totals, 1)[:, None] * 1e4)


def scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Errors where the truth is above zero, and over all genes; correlations within and between cells."""
    on = truth > 0
    error = np.abs(predicted - truth)
    often = (on.mean(axis=0) >= 0.2) & (truth.std(axis=0) > 0)
    return {
        "mae": float(error[on].mean()),
        "mre": float((error[on] / truth[on]).mean()),
        "mae_all": float(error.mean()),
        "pcc": _correlation(predicted, truth),
        "pcc_cells": _correlation(predicted[:, often].T, truth[:, often].T),
    }


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Mean correlation of the rows; 0 where a row does not vary."""
    one, two = (x - x.mean(axis=1, keepdims=True) for x in (one, two))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(np.where(lengths > 1e-6, (one * two).sum(axis=1) / np.maximum(lengths, 1e-6), 0).mean())


def knn_smoothed(shallow: ad.AnnData, *, k: int = 15) -> np.ndarray:
    """Counts summed over the k nearest cells (PCA of log1p of counts per 10,000), as kNN-smoothing in one step."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    values = logs(shallow.X, total(shallow))
    n = min(20, *values.shape)
    near = PCA(n, svd_solver="randomized", random_state=0).fit_transform(values)
    graph = NearestNeighbors(n_neighbors=k).fit(near).kneighbors_graph(near)
    summed = (graph @ shallow.X).toarray()
    return logs(summed, summed.sum(axis=1))


def enhanced(model: Any, shallow: ad.AnnData, target: np.ndarray) -> np.ndarray:
    """By the model, at the total of the whole cells."""
    copy = ad.AnnData(shallow.X, var=shallow.var)
    target = np.maximum(target, total(copy))
    gl.tl.enhance_depth(copy, model, target_total=target)
    return logs(copy.layers["enhanced"], target)


def peer(name: str, shallow: ad.AnnData, python: str, *, quick: bool, seed: int) -> dict[str, Any]:
    """Values, latent cells and CPU seconds of a peer, run in another environment."""
    with tempfile.TemporaryDirectory() as folder:
        shallow.write_h5ad(Path(folder) / "cells.h5ad")
        script = Path(__file__).parent / "peers" / "depth_peers.py"
        epochs = 10 if quick else 60
        job = [python, str(script), name, folder, str(epochs), str(seed)]
        subprocess.run(job, check=True, capture_output=True)
        found = dict(np.load(Path(folder) / "out.npz"))
    return {name: found[name] for name in ("values", "latent", "cpu_s")}


def methods(
    shallow: ad.AnnData,
    chosen: np.ndarray,
    target: np.ndarray,
    models: dict[str, Any],
    *,
    python: str | None,
    quick: bool,
    seed: int,
    peers: Sequence[str],
) -> dict[str, Callable[[], tuple[np.ndarray, float]]]:
    """Name → function that gives the values of the drawn cells, and CPU seconds."""
    part = shallow[chosen]
    mean = np.asarray(shallow.X.sum(axis=0)).ravel()
    mean = np.log1p(mean / mean.sum() * 1e4)

    def timed(function: Callable[[], np.ndarray]) -> Callable[[], tuple[np.ndarray, float]]:
        def run() -> tuple[np.ndarray, float]:
            started = time.process_time()
            return function(), time.process_time() - started

        return run

    def of_peer(name: str) -> Callable[[], tuple[np.ndarray, float]]:
        def run() -> tuple[np.ndarray, float]:
            found = peer(name, shallow, str(python), quick=quick, seed=seed)
            return found["values"][chosen], float(found["cpu_s"])

        return run

    found = {
        "not enhanced": timed(lambda: logs(part.X, target)),
        "not enhanced, scaled": timed(lambda: logs(part.X, total(part))),
        "one count": timed(lambda: np.repeat(np.log1p(1e4 / target)[:, None], shallow.n_vars, axis=1)),
        "mean profile": timed(lambda: np.repeat(mean[None], len(chosen), axis=0)),
        "kNN-smoothing": timed(lambda: knn_smoothed(shallow)[chosen]),
        **{name: timed(lambda model=model: enhanced(model, part, target)) for name, model in models.items()},
    }
    return found | {name: of_peer(name) for name in peers if python is not None}


def enhance(options: argparse.Namespace, models: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the first table."""
    rows = []
    model = next(iter(models.values()))
    for name, path in SETS.items():
        whole = read(options.data / path, model)
        deep = np.flatnonzero(total(whole) >= LEAST)
        n_cells = min(len(deep), 20 if options.quick else 100)
        drawn = np.sort(np.random.default_rng(options.seed).choice(deep, n_cells, replace=False))
        copies = {f"{rate:.0%}": thinned(whole, rate, seed=options.seed) for rate in RATES}
        if name in GIVEN:
            given = ad.read_h5ad(options.data / GIVEN[name])
            place = {gene: number for number, gene in enumerate(given.var_names)}
            shared = [gene for gene in whole.var_names if gene in place]
            counts = sp.csr_matrix(given.X)[:, [place[gene] for gene in shared]]
            copies["given"] = ad.AnnData(counts.astype(np.float32), obs=whole.obs, var=whole.var.loc[shared])
        for copy, shallow in copies.items():
            true = whole[:, shallow.var_names]
            chosen = drawn[total(shallow)[drawn] > 0]
            target = total(whole)[chosen]
            truth = logs(true.X[chosen], target)
            few = options.quick or copy not in ("10%", "given")
            jobs = methods(
                shallow, chosen, target,
                {k: v for k, v in models.items() if k != "untrained" or copy in ("10%", "given")},
                python=options.peer_python, quick=options.quick, seed=options.seed,
                peers=[one for one in PEERS if one != "scvi" or (not few and name != "pbmc3k")],
            )  # fmt: skip
            for method, job in jobs.items():
                values, cpu_s = job()
                row = {"data": name, "copy": copy, "method": method, **scores(values, truth)}
                row |= {"cpu_s": round(cpu_s, 2), "n_cells": len(chosen), "n_genes": shallow.n_vars}
                row["median_total"] = float(np.median(total(shallow)[chosen]))
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def leiden(values: np.ndarray, *, seed: int) -> np.ndarray:
    """Clusters of a representation."""
    adata = ad.AnnData(np.asarray(values, dtype=np.float32))
    sc.pp.neighbors(adata, use_rep="X", n_neighbors=15, random_state=seed)
    sc.tl.leiden(adata, resolution=1.0, random_state=seed, flavor="igraph", n_iterations=2, directed=False)
    return adata.obs["leiden"].to_numpy()


def components(values: np.ndarray, *, seed: int) -> np.ndarray:
    """50 principal components of the 2,000 most variable genes."""
    order = np.argsort(-values.var(axis=0))[:2_000]
    from sklearn.decomposition import PCA

    n = min(50, len(values) - 1, len(order))
    return PCA(n, svd_solver="randomized", random_state=seed).fit_transform(values[:, order])


def cluster(options: argparse.Namespace, models: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the second table."""
    rows, first = [], next(iter(models.values()))
    for name, copy in (("pbmc3k", "10%"), ("baron", "given")):
        whole = read(options.data / SETS[name], first)
        if options.quick:
            whole = whole[:: max(1, whole.n_obs // 300)].copy()
        if copy == "given":
            given = read(options.data / GIVEN[name], first)
            shallow = given[:: max(1, given.n_obs // 300)].copy() if options.quick else given
        else:
            shallow = thinned(whole, 0.1, seed=options.seed)
        keep = total(shallow) > 0
        whole, shallow = whole[keep].copy(), shallow[keep].copy()
        reference = components(logs(whole.X, total(whole)), seed=options.seed)
        labels = whole.obs["cell_type"].to_numpy() if name == "pbmc3k" else leiden(reference, seed=options.seed)
        found = {
            "whole cells, PCA": reference,
            "shallow, PCA": components(logs(shallow.X, total(shallow)), seed=options.seed),
            "kNN-smoothing, PCA": components(knn_smoothed(shallow), seed=options.seed),
        }
        for called, model in models.items():
            for pooling in ("all", "max", "mean", "S") if called != "untrained" else ("all",):
                cells = ad.AnnData(shallow.X, var=shallow.var)
                target = np.maximum(total(whole), total(cells))
                gl.tl.embed_at_depth(cells, model, pooling=pooling, target_total=target)
                found[f"{called}, {pooling}"] = cells.obsm["X_depth"]
        if options.peer_python is not None:
            made = {
                one: peer(one, shallow, options.peer_python, quick=options.quick, seed=options.seed) for one in PEERS
            }
            found["magic, PCA"] = components(made["magic"]["values"], seed=options.seed)
            found["scvi, latent"] = made["scvi"]["latent"]
        for method, values in found.items():
            clusters = leiden(values, seed=options.seed)
            row: dict[str, Any] = {"data": name, "copy": copy, "method": method, "n_cells": len(values)}
            row["nmi"] = float(normalized_mutual_info_score(labels, clusters))
            row["ari"] = float(adjusted_rand_score(labels, clusters))
            row["silhouette"] = float(silhouette_score(values, labels, sample_size=1_000, random_state=options.seed))
            row["n_clusters"] = len(np.unique(clusters))
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [f"{row[c]:.3f}" if isinstance(row[c], float) else f"{row[c]}" for c in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def targets(rows: Sequence[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    """Ratios to the shallow cells scaled to the same total; MAE and MRE are to be halved at 10 % and less."""
    found = []
    for row in rows:
        if row["method"] != model:
            continue
        same = [r for r in rows if (r["data"], r["copy"]) == (row["data"], row["copy"])]
        base = next(r for r in same if r["method"] == "not enhanced, scaled")
        ratios = {name: row[name] / base[name] for name in ("mae", "mre")}
        judged = row["copy"] in ("1%", "5%", "10%", "given")
        beaten = ratios["mae"] < 1 and ratios["mre"] < 1 and row["pcc"] > base["pcc"]
        found.append(
            {"data": row["data"], "copy": row["copy"], "mae_ratio": ratios["mae"], "mre_ratio": ratios["mre"]}
            | {"pcc_gain": row["pcc"] - base["pcc"], "beats": beaten}
            | {"halved": max(ratios.values()) <= 0.5 if judged else None}
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint of an xTrimoGene")
    parser.add_argument("--quick", action="store_true", help="fewer cells, peers trained shortly")
    parser.add_argument("--peer-python", metavar="PATH", help="Python that has magic-impute and scvi-tools")
    parser.add_argument("--only", choices=("enhance", "cluster"), help="one of the tables")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write settings and rows there")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--seed", type=int, default=0, help="of draws and clusters (%(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = gl.load_model(options.model)
    torch.manual_seed(options.seed)
    untrained = build_model(model.vocab, model.config, name="untrained").eval()
    models = {model.name: model, "untrained": untrained}
    started = time.process_time()
    said: dict[str, Any] = {"model": model.name, "weights": model.weights_hash, "seed": options.seed}
    said |= {"quick": options.quick, "steps": model.provenance.get("steps"), "torch": torch.__version__}
    text = []
    if options.only != "cluster":
        said["enhance"] = enhance(options, models)
        said["targets"] = targets(said["enhance"], model.name)
        text.append(table(said["enhance"], ("data", "copy", "method", *SCORES, "cpu_s")))
        text.append(table(said["targets"], ("data", "copy", "mae_ratio", "mre_ratio", "pcc_gain", "beats", "halved")))
    if options.only != "enhance":
        said["cluster"] = cluster(options, models)
        text.append(table(said["cluster"], ("data", "copy", "method", "nmi", "ari", "silhouette", "n_clusters")))
    said["cpu_s"] = round(time.process_time() - started, 1)
    print("\n\n".join(text))
    for path, content in ((options.json, json.dumps(said, indent=1)), (options.out, "\n\n".join(text))):
        if path is not None:
            path.write_text(content + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
