"""Depth: shallow copies of real cells, enhanced and clustered, beside baselines and peers.

``python benchmarks/depth.py --data DIR --model FOLDER [--quick] [--peer-python PATH] [--json FILE] [--out FILE]``

Cells of data sets that no model here was trained on are down-sampled to 1, 5, 10 and 20 % of their counts (binomial);
of baron and manno there are down-sampled copies made by others too (SAVER, "given"). Every method gets the shallow
counts and is scored against the whole cells, as log1p of counts per 10,000. ``mae``, ``mre`` (mean of |error| / truth)
and ``pcc`` (between the genes of a cell) as in the scFoundation paper: over the genes with a count in the whole cell. A
method can do well there by never predicting a zero: ``one count`` predicts one count of every gene in every cell. So
beside them ``mae_all`` and ``pcc_all``, over all genes; and ``pcc_cells``, of a gene between the cells (genes that a
fifth of the cells express), 0 for what knows no cell.
Peers see the shallow copies of all cells of the data set; scores are of the same drawn cells for every method.

Clusters: Leiden (resolution 1, 15 neighbours), NMI and ARI with the labels, silhouette of the labels. Embeddings are
made at a total of 10,000 and standardised. Labels of pbmc3k are its own, those of baron the Leiden clusters of the
whole cells.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

import grnlab as gl
from grnlab.benchmark.task import untrained_like
from grnlab.data.names import align_genes

SETS = {
    "baron": "read_depth/baron_saver_ref.h5ad",
    "manno": "read_depth/manno_saver_ref.h5ad",
    "pbmc3k": "scrna/pbmc3k.h5ad",
}
GIVEN = {"baron": "read_depth/baron_saver_downsampled.h5ad", "manno": "read_depth/manno_saver_downsampled.h5ad"}
RATES = (0.01, 0.05, 0.10, 0.20)
PEER_COPY = {"baron": "given", "manno": "given", "pbmc3k": "10%"}  # of which peers are run, and cells clustered
CLUSTERED = ("baron", "pbmc3k")
MOST_CELLS = {"pbmc3k": 600}  # read of it; where nothing is said, all
SCORED = {"baron": 100, "manno": 100, "pbmc3k": 40}  # cells; pbmc3k has six times the genes
LEAST = 1_000  # counts of a cell that is scored, as in the paper
PEERS = ("magic", "scvi")
SCORES = ("mae", "mre", "pcc", "mae_all", "pcc_all", "pcc_cells")


def read(path: Path, model: Any, *, most: int | None = None) -> ad.AnnData:
    """Cells with the genes the model knows; of many cells, the same ones each time."""
    adata = ad.read_h5ad(path)
    if most is not None and adata.n_obs > most:
        adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, most, replace=False))].copy()
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
        "pcc": float(np.mean([_correlation(predicted[c : c + 1, o], truth[c : c + 1, o]) for c, o in enumerate(on)])),
        "mae_all": float(error.mean()),
        "pcc_all": _correlation(predicted, truth),
        "pcc_cells": _correlation(predicted[:, often].T, truth[:, often].T),
    }


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Mean correlation of the rows; 0 where a row does not vary."""
    one, two = (x - x.mean(axis=1, keepdims=True) for x in (one, two))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(np.where(lengths > 1e-6, (one * two).sum(axis=1) / np.maximum(lengths, 1e-6), 0).mean())


def knn_smoothed(shallow: ad.AnnData) -> np.ndarray:
    """Counts summed over the 15 nearest cells (PCA of log1p of counts per 10,000), as kNN-smoothing in one step."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    values = logs(shallow.X, total(shallow))
    n = min(20, *values.shape)
    near = PCA(n, svd_solver="randomized", random_state=0).fit_transform(values)
    graph = NearestNeighbors(n_neighbors=15).fit(near).kneighbors_graph(near)
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


def copies_of(name: str, whole: ad.AnnData, options: argparse.Namespace) -> dict[str, ad.AnnData]:
    """Shallow copies of a data set, by name."""
    found = {f"{rate:.0%}": thinned(whole, rate, seed=options.seed) for rate in RATES}
    if name in GIVEN:
        given = ad.read_h5ad(options.data / GIVEN[name])
        shared = [gene for gene in whole.var_names if gene in set(given.var_names)]
        counts = sp.csr_matrix(given[:, shared].X, dtype=np.float32)
        found["given"] = ad.AnnData(counts, obs=whole.obs, var=whole.var.loc[shared])
    return found


def enhance(
    name: str, whole: ad.AnnData, copies: dict[str, ad.AnnData], *, models: dict[str, Any], peers: dict[str, Any],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of the first table of a data set."""
    rows = []
    deep = np.flatnonzero(total(whole) >= LEAST)
    n_cells = min(len(deep), 20 if options.quick else SCORED[name])
    drawn = np.sort(np.random.default_rng(options.seed).choice(deep, n_cells, replace=False))
    for copy, shallow in copies.items():
        chosen = drawn[total(shallow)[drawn] > 0]
        part, target = shallow[chosen], total(whole)[chosen]
        truth = logs(whole[chosen, shallow.var_names].X, target)
        n_cells, pooled = len(chosen), np.asarray(shallow.X.sum(axis=0)).ravel()
        started = time.process_time()
        smoothed = knn_smoothed(shallow)[chosen]
        results = {
            "not enhanced": (logs(part.X, target), 0.0),
            "not enhanced, scaled": (logs(part.X, total(part)), 0.0),
            "one count": (np.repeat(np.log1p(1e4 / target)[:, None], shallow.n_vars, axis=1), 0.0),
            "mean profile": (np.repeat(np.log1p(pooled / pooled.sum() * 1e4)[None], n_cells, axis=0), 0.0),
            "kNN-smoothing": (smoothed, time.process_time() - started),
        }
        for called, model in models.items():
            if called == "untrained" and copy != PEER_COPY[name]:
                continue
            started = time.process_time()
            results[called] = enhanced(model, part, target), time.process_time() - started
        if copy == PEER_COPY[name]:
            results |= {called: (found["values"][chosen], float(found["cpu_s"])) for called, found in peers.items()}
        for method, (values, cpu_s) in results.items():
            row = {"data": name, "copy": copy, "method": method, **scores(values, truth)}
            row |= {"cpu_s": round(cpu_s, 2), "n_cells": len(chosen), "n_genes": shallow.n_vars}
            rows.append(row | {"median_total": float(np.median(total(part)))})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
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


def cluster(
    name: str, whole: ad.AnnData, shallow: ad.AnnData, *, models: dict[str, Any], peers: dict[str, Any],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of the second table of a data set."""
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
        for pooling in ("all", "max", "mean", "S", "T") if called != "untrained" else ("all", "mean"):
            cells = ad.AnnData(shallow.X, var=shallow.var)
            gl.tl.embed_at_depth(cells, model, pooling=pooling, target_total=np.maximum(1e4, total(cells)))
            values = cells.obsm["X_depth"]
            found[f"{called}, {pooling}"] = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    if peers:
        found["magic, PCA"] = components(peers["magic"]["values"][keep], seed=options.seed)
        found["scvi, latent"] = peers["scvi"]["latent"][keep]
    rows = []
    for method, values in found.items():
        clusters = leiden(values, seed=options.seed)
        row: dict[str, Any] = {"data": name, "copy": PEER_COPY[name], "method": method, "n_cells": len(values)}
        row["nmi"] = float(normalized_mutual_info_score(labels, clusters))
        row["ari"] = float(adjusted_rand_score(labels, clusters))
        row["silhouette"] = float(silhouette_score(values, labels))
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
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=tuple(SETS), help="data sets (all)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write settings and rows there; rows of other --sets stay"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--seed", type=int, default=0, help="of draws and clusters (%(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = gl.load_model(options.model)
    models = {model.name: model, "untrained": untrained_like(model, options.seed)}
    said: dict[str, Any] = {"model": model.name, "weights": model.weights_hash, "steps": model.provenance.get("steps")}
    said |= {"quick": options.quick, "seed": options.seed, "torch": torch.__version__}
    kept = {"enhance": [], "cluster": []}
    if options.json is not None and options.json.exists():
        before = json.loads(options.json.read_text(encoding="utf-8"))
        if all(before[name] == value for name, value in said.items()):
            kept = {table: [row for row in before[table] if row["data"] not in options.sets] for table in kept}
    for name in options.sets:
        whole = read(options.data / SETS[name], model, most=MOST_CELLS.get(name))
        copies = copies_of(name, whole, options)
        shallow, peers = copies[PEER_COPY[name]], {}
        if options.peer_python is not None:
            peers = {
                one: peer(one, shallow, options.peer_python, quick=options.quick, seed=options.seed) for one in PEERS
            }
        kept["enhance"] += enhance(name, whole, copies, models=models, peers=peers, options=options)
        if name in CLUSTERED:
            kept["cluster"] += cluster(name, whole, shallow, models=models, peers=peers, options=options)
    said |= kept | {"targets": targets(kept["enhance"], model.name)}
    text = [
        table(said["enhance"], ("data", "copy", "method", *SCORES, "cpu_s")),
        table(said["targets"], ("data", "copy", "mae_ratio", "mre_ratio", "pcc_gain", "beats", "halved")),
        table(said["cluster"], ("data", "copy", "method", "nmi", "ari", "silhouette", "n_clusters")),
    ]
    print("\n\n".join(text))
    for path, content in ((options.json, json.dumps(said, indent=1)), (options.out, "\n\n".join(text))):
        if path is not None:
            path.write_text(content + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
