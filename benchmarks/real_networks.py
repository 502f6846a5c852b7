"""Networks of real cells beside correlation: ``python benchmarks/real_networks.py --data DIR --json FILE``.

`DIR` holds ``scrna/pbmc3k.h5ad``, ``scrna/kang2018_ifnb_pbmc.h5ad`` (never trained on) and ``networks/`` (TRRUST,
DoRothEA). For every cell type of at least 100 cells, and for all cells pooled, the script prints the strongest
regulators of the attention network and of a Pearson network built in the same way, and scores both, with further
baselines, against the gold standards. Universe: the regulators of the gold standard that are expressed × its targets
that are expressed, self excluded. Nothing is fitted or chosen on these data. "untrained model" is the same
architecture with random weights, read out in the same way. "heads selected elsewhere" are chosen by
:func:`grnlab.tl.select_heads` on sorted blood cells of the training set and by the other of the two gold standards.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import grnlab as gl
from grnlab.attention import AttentionMaps
from grnlab.backbones import ScPrint
from grnlab.evaluate import (
    BASELINES,
    GoldStandard,
    candidate_universe,
    score_regulators,
    score_universe,
)
from grnlab.heads import HeadSelection

TRAINING = "scrna/zheng2017_facs_pbmc.h5ad"
DATASETS = {"pbmc3k": "scrna/pbmc3k.h5ad", "kang2018 control": "scrna/kang2018_ifnb_pbmc.h5ad"}


def gold_standards(folder: Path, model: ScPrint) -> dict[str, GoldStandard]:
    """Name → true edges, by the symbols of the model."""
    dorothea = {"confidence": ["A", "B", "C"]}
    found = [
        gl.io.read_gold(folder / "trrust_v2_human.csv.gz", name="TRRUST"),
        gl.io.read_gold(folder / "dorothea_human.csv.gz", name="DoRothEA A-C", keep=dorothea),
    ]
    return {gold.name: gold.align(model.vocab) for gold in found}


def selected_heads(
    model: ScPrint, data: Path, golds: dict[str, GoldStandard], n_genes: int
) -> dict[str, HeadSelection]:
    """Heads chosen on sorted blood cells of the training set, a fifth of them, by each gold standard."""
    adata = gl.io.read(data / TRAINING)[::5].copy()
    maps = gl.tl.attention(adata, model, groupby="cell_type", genes=n_genes, min_cells=50, skip_small=True)
    return {name: gl.tl.select_heads(maps, gold) for name, gold in golds.items()}


def log_counts(adata: object, maps: AttentionMaps, group: str, groupby: str, rows: np.ndarray) -> np.ndarray:
    """Log-normalised expression of the cells of a group, genes as in the network."""
    cells = adata[adata.obs[groupby].astype(str) == group]
    counts = np.asarray(cells.X.sum(axis=1)).ravel()
    columns = adata.var_names.get_indexer(maps.genes["name_in_data"].iloc[rows])
    return np.log1p(cells.X[:, columns].toarray() / counts[:, None] * 1e4)


def joined(adata: object, model: ScPrint, n_genes: int) -> AttentionMaps:
    """Maps of every cell type and of all cells, over the same genes."""
    maps = gl.tl.attention(adata, model, groupby="cell_type", genes=n_genes)
    pooled = gl.tl.attention(adata, model, groupby="pooled", genes=list(maps.genes.index))
    return replace(maps, groups={**maps.groups, **pooled.groups}, expression={**maps.expression, **pooled.expression})


def score_model(
    model: ScPrint, data: Path, *, n_genes: int, baselines: bool = True
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Scores per data set, group, gold standard and method, and hubs per group.

    Without `baselines` the read-outs of the model stand alone.
    """
    torch.manual_seed(0)
    untrained = ScPrint(model.vocab, model.config, name="untrained").eval()
    golds = gold_standards(data / "networks", model)
    chosen = selected_heads(model, data, golds, n_genes) if baselines else {}
    rows_out: list[dict[str, object]] = []
    hubs_out: list[dict[str, object]] = []
    for dataset, path in DATASETS.items():
        adata = gl.io.read(data / path)
        if "condition" in adata.obs:
            adata = adata[adata.obs["condition"].astype(str).str.lower().str.startswith("c")].copy()
        sizes = adata.obs["cell_type"].value_counts()
        adata = adata[adata.obs["cell_type"].isin(sizes.index[sizes >= 100])].copy()
        adata.obs["pooled"] = "all cells"
        maps = joined(adata, model, n_genes)
        blank = joined(adata, untrained, n_genes) if baselines else None
        nets = gl.tl.infer_networks(maps)
        for group, network in nets.items():
            names = network.genes.index
            rows = maps.genes.index.get_indexer(names)
            expression = log_counts(adata, maps, group, "pooled" if group == "all cells" else "cell_type", rows)
            tfs = np.flatnonzero(maps.genes["is_tf"].iloc[rows])
            hubs_out.append(
                {
                    "dataset": dataset,
                    "group": group,
                    "cells": maps.group(group).n_cells,
                    "attention": list(network.hubs(n=10).index),
                    "pearson": pearson_hubs(names, expression, tfs),
                }
            )
            print(json.dumps(hubs_out[-1]), flush=True)
            dense = {
                "attention symmetrised": maps.dense(group, rows=rows, symmetrize=True).T,
                "attention symmetrised + APC": maps.dense(group, rows=rows, symmetrize=True, apc=True).T,
                "attention directed": maps.dense(group, rows=rows).T,
            }
            if blank is not None:
                dense["untrained model, symmetrised"] = blank.dense(group, rows=rows, symmetrize=True).T
            gene = model.gene_embedding.weight.detach()[torch.as_tensor(maps.genes["token"].to_numpy()[rows])]
            unit = torch.nn.functional.normalize(gene, dim=-1)
            dense["gene embedding cosine"] = (unit @ unit.T).numpy()
            for gold_name, gold in golds.items():
                of_gold = candidate_universe(gold, list(names))
                if of_gold.n_true < 10:
                    continue
                pairs = of_gold.regulators, of_gold.targets
                scored = {name: score[np.ix_(*pairs)] for name, score in dense.items()}
                if baselines:
                    scored |= {name: score(expression, *pairs) for name, score in BASELINES.items()}
                for other, selection in chosen.items():  # heads never see the gold standard they are scored with
                    if other != gold_name:
                        weights_LH = selection.heads.weights_LH
                        selected = maps.dense(group, weights_LH, rows=rows, symmetrize=True).T
                        scored["heads selected elsewhere, symmetrised"] = selected[np.ix_(*pairs)]
                for name, score in scored.items():
                    found = score_universe(of_gold, score)
                    row = {"dataset": dataset, "group": group, "gold": gold_name, "method": name}
                    row |= {key: getattr(found, key) for key in ("auprc_ratio", "epr", "auroc")}
                    row["per_tf_auroc"] = score_regulators(of_gold, score)["auroc"].mean()
                    rows_out.append(row | {"candidates": found.n_candidates, "true": found.n_true})
    return rows_out, hubs_out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="grnlab-small")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, hubs = score_model(gl.load_model(options.model), options.data, n_genes=options.genes)
    table = pd.DataFrame(rows)
    table["level"] = np.where(table["group"] == "all cells", "all cells pooled", "mean over cell types")
    for keys in (["dataset", "gold", "level", "method"], ["level", "method"]):
        print(
            table.groupby(keys)[["auprc_ratio", "epr", "auroc", "per_tf_auroc", "candidates", "true"]]
            .mean()
            .round(3)
            .to_string()
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"scores": rows, "hubs": hubs}, indent=1), encoding="utf-8")


def pearson_hubs(names: pd.Index, expression: np.ndarray, tfs: np.ndarray, top_k: int = 10) -> list[str]:
    """Hubs of a network built from |Pearson| in the same way: each gene's `top_k` strongest regulators, PageRank."""
    everyone = np.arange(len(names))
    score = BASELINES["pearson"](expression, tfs, everyone)
    score[np.arange(len(tfs)), tfs] = -1.0
    best = np.argsort(-score, axis=0, kind="stable")[:top_k]
    source, target = tfs[best].ravel(), np.tile(everyone, top_k)
    weight = np.take_along_axis(score, best, axis=0).ravel()
    keep = weight > 0
    edges = pd.DataFrame({"source": names[source[keep]], "target": names[target[keep]], "weight": weight[keep]})
    genes = pd.DataFrame({"is_tf": np.isin(everyone, tfs)}, index=names)
    return list(gl.GeneNetwork(edges, genes, name="pearson").hubs(n=10).index)


if __name__ == "__main__":
    main()
