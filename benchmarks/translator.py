"""A translator without popularity, on other cells and gold standards: ``python benchmarks/translator.py --data DIR``.

With what gold standards know of genes it is a method of ``grnlab benchmark``; here, what fitting gives without that.

Fitted on sorted blood cells of the training set (``scrna/zheng2017_facs_pbmc.h5ad``, every fifth) with one gold
standard, scored on the cell types of pbmc3k and of the Kang controls with the others. TRRUST, DoRothEA and OmniPath
share edges, so every score is given twice: over all candidates, and over those that are no edge of the gold standard
fitted on. Beside it: symmetrised attention, centred cosine of the gene embeddings and their consensus, heads selected
on the same cells and gold standard, correlation, trivial scores, and the degrees in the gold standard fitted on.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import grnlab as gl
from grnlab.attention import AttentionMaps
from grnlab.benchmark.translate import read_outs
from grnlab.evaluate import GoldStandard, candidate_universe, score_edges, score_regulators
from grnlab.heads import PairFeatures, Translator, baseline_scores, fit_translator, pair_features

TRAINING = "scrna/zheng2017_facs_pbmc.h5ad"
DATASETS = {"pbmc3k": "scrna/pbmc3k.h5ad", "kang2018 control": "scrna/kang2018_ifnb_pbmc.h5ad"}
VARIANTS = {
    "translator": {"heads": True, "expression": True},
    "translator without expression": {"heads": True, "expression": False},
    "translator without single heads": {"heads": False, "expression": True},
    "translator, neither": {"heads": False, "expression": False},
    "translator of consensus and expression": {"heads": False, "expression": True, "of": ("consensus",)},
}
FEATURES = ("attention", "cosine_centred", "consensus", "pearson")
BESIDE = ("pearson", "ridge_partial_correlation", "variance_expression", "mean_expression")


def gold_standards(folder: Path, model: object) -> dict[str, GoldStandard]:
    """Name → true edges, by the symbols of the model."""
    omnipath = pd.read_parquet(folder / "omnipath.parquet")
    omnipath = omnipath[omnipath["type"] == "transcriptional"]
    found = [
        gl.io.read_gold(folder / "trrust_v2_human.csv.gz", name="TRRUST"),
        gl.io.read_gold(folder / "dorothea_human.csv.gz", name="DoRothEA A-C", keep={"confidence": ["A", "B", "C"]}),
        GoldStandard.from_frame(omnipath, name="OmniPath transcriptional"),
    ]
    return {gold.name: gold.align(model.vocab) for gold in found}


def cells(path: Path, *, every: int = 1) -> ad.AnnData:
    """Cells of the control condition, of types with at least 50 (100 for evaluation) cells."""
    adata = gl.io.read(path)[::every].copy()
    if "condition" in adata.obs:
        adata = adata[adata.obs["condition"].astype(str).str.lower().str.startswith("c")].copy()
    sizes = adata.obs["cell_type"].value_counts()
    return adata[adata.obs["cell_type"].isin(sizes.index[sizes >= (50 if every > 1 else 100)])].copy()


def sources(adata: ad.AnnData, model: object, n_genes: int) -> list[object]:
    """Attention maps, and scores of other kinds, over the same genes and groups."""
    maps = gl.tl.attention(adata, model, groupby="cell_type", genes=n_genes)
    every = list(maps.genes.index)
    read = read_outs(adata, model, maps, every, groupby="cell_type")[1:]  # the first is the attention
    return [maps, *read, *(baseline_scores(adata, maps, method=name, groupby="cell_type") for name in BESIDE)]


def features_of(
    found: list[object], regulators: set[str], *, of: tuple[str, ...] = FEATURES, **options: bool
) -> PairFeatures:
    """Features made of some of the sources; the trivial scores stand beside."""
    chosen = [one for one in found if getattr(one, "method", "attention") in of]
    return pair_features(chosen, regulators=regulators, **options)


def degrees(gold: GoldStandard, names: np.ndarray) -> np.ndarray:
    """Sum of the logs of the degrees, plus one, that two genes have in a gold standard."""
    out, into = (gold.edges[column].value_counts().reindex(names).fillna(0) for column in ("source", "target"))
    return np.log1p(out.to_numpy())[:, None] + np.log1p(into.to_numpy())


def score_all(
    found: list[object], fitted: dict[str, Translator], heads: np.ndarray, golds: dict[str, GoldStandard], fit_on: str
) -> list[dict[str, object]]:
    """Rows of scores of one data set by the gold standards that were not fitted on."""
    maps: AttentionMaps = found[0]
    regulators = set().union(*(gold.edges["source"] for gold in golds.values()))
    predicted = {name: t.predict(features_of(found, regulators, **VARIANTS[name])) for name, t in fitted.items()}
    networks = gl.tl.infer_networks(maps)
    rows = []
    for group, network in networks.items():
        names = network.genes.index
        place = maps.genes.index.get_indexer(names)
        square = {
            "attention symmetrised": maps.dense(group, rows=place, symmetrize=True).T,
            "heads selected, symmetrised": maps.dense(group, heads, rows=place, symmetrize=True).T,
            "degrees in the gold standard fitted on": degrees(golds[fit_on], names),
        } | {scores.method: scores.group(group)[np.ix_(place, place)] for scores in found[1:]}
        for gold_name, gold in golds.items():
            if gold_name == fit_on:
                continue
            universe = candidate_universe(gold, list(names))
            if universe.n_true < 10:
                continue
            rows_of, columns = universe.regulators, universe.targets
            score = {name: values[np.ix_(rows_of, columns)] for name, values in square.items()}
            for name, scores in predicted.items():
                row = pd.Index(maps.genes.index[scores.regulators]).get_indexer(names[rows_of])
                score[name] = scores.group(group)[np.ix_(row, place[columns])]
            known = set(zip(golds[fit_on].edges["source"], golds[fit_on].edges["target"], strict=True))
            new_RT = np.array([[(r, t) not in known for t in names[columns]] for r in names[rows_of]])
            for kept, where in (("all", universe.candidate_RT), ("new", universe.candidate_RT & new_RT)):
                part = replace(universe, candidate_RT=where, truth_RT=universe.truth_RT & where)
                if part.n_true < 10:
                    continue
                for name, values in score.items():
                    filled = np.nan_to_num(values, nan=-1e9)
                    of = score_edges(part.truth_RT[where], filled[where])
                    row = {"fit": fit_on, "gold": gold_name, "group": group, "pairs": kept, "method": name}
                    row |= {"auprc_ratio": of.auprc_ratio, "epr": of.epr, "auroc": of.auroc, "n_true": of.n_true}
                    rows.append(row | {"per_tf_auroc": score_regulators(part, filled)["auroc"].mean()})
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="grnlab-small")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = gl.load_model(options.model)
    golds = gold_standards(options.data / "networks", model)
    regulators = set().union(*(gold.edges["source"] for gold in golds.values()))
    train = sources(cells(options.data / TRAINING, every=5), model, options.genes)
    evaluated = {name: sources(cells(options.data / path), model, options.genes) for name, path in DATASETS.items()}
    rows, summaries = [], {}
    for fit_on, gold in golds.items():
        fitted = {
            name: fit_translator({"sorted blood": (features_of(train, regulators, **VARIANTS[name]), gold)})
            for name in options.variants
        }
        summaries[fit_on] = {name: translator.summary().to_dict("index") for name, translator in fitted.items()}
        for name, translator in fitted.items():
            print(f"fitted on {fit_on}: {name}\n{translator.summary().round(3).to_string()}")
            print(translator.coefficients().head(8).round(2).to_string(), flush=True)
        heads = gl.tl.select_heads(train[0], gold).heads.weights_LH
        for dataset, found in evaluated.items():
            rows += [{"dataset": dataset, **row} for row in score_all(found, fitted, heads, golds, fit_on)]
    table = pd.DataFrame(rows)
    columns = ["auprc_ratio", "epr", "auroc", "per_tf_auroc"]
    for keys in (["fit", "pairs", "method"], ["pairs", "method"]):
        print(table.groupby(keys, sort=False)[columns].mean().round(3).to_string(), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({"scores": rows, "held_out": summaries}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
