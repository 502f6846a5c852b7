"""Drug response, drug sensitivity and perturbations, by embeddings of a model and by what is simpler.

``python benchmarks/downstream.py --data DIR [--model PATH ...] [--tables NAME ...] [--quick] [--json FILE]``
prints a Markdown table for each task. ``--model`` may be given several times (by default ``grnlab-small``); beside each
stands an untrained model of its shape. ``--json`` keeps the rows of tables that are not run again.

ic50: 182 drugs with a structure × 561 lines with methylation (GDSC), 20 % held out as pairs, drugs or lines. lines:
eight lines of which single cells exist, each left out in turn. sensitivity: their cells, sensitive or resistant by the
median of the drug over all lines; cells held out within lines, and pairs of lines. fine_tune: the same by
:func:`grnlab.tl.fine_tune`. perturbation: over-expression of genes never seen (L1000), ligands never seen (NicheNet).
"""

import argparse
import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import downstream_data as source
import numpy as np
import pandas as pd
import torch

import grnlab as gl
from grnlab.benchmark.task import untrained_like
from grnlab.tasks import (
    DrugResponseConfig,
    FineTuneConfig,
    PerturbationConfig,
    baseline_effects,
    baseline_responses,
    drug_response_scores,
    few_shot,
    fit_drug_response,
    fit_perturbation,
    gene_embeddings,
    label_sensitivity,
    perturbation_scores,
    sensitivity_scores,
    split_responses,
)

Row = dict[str, Any]
Models = dict[str, Any]
N_GENES = 2_000  # shown to a model


class Timed:
    """CPU seconds of a block."""

    def __enter__(self) -> Self:
        self.start = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = time.process_time() - self.start


def models_of(paths: Sequence[str]) -> Models:
    """Name → model, and an untrained one of the same shape beside each."""
    found: Models = {}
    for path in paths:
        model = gl.load_model(path)
        found[model.name] = model
        found[f"untrained {model.name}"] = untrained_like(model, 0)
    return found


def nearest_drug(train: pd.DataFrame, bits: pd.DataFrame) -> pd.DataFrame:
    """Responses to the known drug of the most alike fingerprint (Tanimoto), where the drug itself is unknown."""
    x = bits.to_numpy(dtype=np.float64)
    both = x @ x.T
    alike = both / (x.sum(1)[:, None] + x.sum(1)[None] - both)
    known = train.notna().any().reindex(bits.index).to_numpy()
    filled = baseline_responses(train, "additive").where(train.isna(), train)
    nearest = np.argmax(np.where(known[None], alike, -1), axis=1)
    place = np.where(known, np.arange(len(known)), nearest)
    return pd.DataFrame(filled[bits.index].to_numpy()[:, place], index=train.index, columns=bits.index)[train.columns]


def ic50(data: Path, models: Models, seeds: Sequence[int], *, quick: bool) -> Iterator[Row]:
    """The large table."""
    cells = {"methylation": source.methylation(data), "tissue": source.tissues(data)}
    table = source.responses(data)
    table = table.loc[table.index.intersection(cells["methylation"].index)]
    if quick:
        table = table.iloc[:120, :50]
    cells = {name: features.loc[table.index] for name, features in cells.items()}
    drugs = {"fingerprints": source.fingerprints(data, table.columns)}
    for name, model in models.items():
        drugs[f"targets in {name}"] = source.targets(data, table.columns, gene_embeddings(model))
    fitted = [("ridge", "methylation", of_drug) for of_drug in drugs]
    fitted += [("ridge", "tissue", "fingerprints"), ("mlp", "methylation", "fingerprints")]
    fitted += [("per_drug", "methylation", "none"), ("per_drug", "tissue", "none")]
    for hold_out in ("pairs", "drugs", "cell_lines"):
        for seed in seeds:
            test = split_responses(table, hold_out=hold_out, seed=seed)
            train, truth = table.mask(test), table.where(test)
            about = {"table": "ic50", "split": hold_out, "seed": seed, "n_test": int(test.to_numpy().sum())}
            for kind in ("mean", "drug_mean", "additive"):
                with Timed() as timed:
                    scores = drug_response_scores(truth, baseline_responses(train, kind))
                yield about | {"method": kind} | scores | {"cpu_s": timed.cpu_s}
            if hold_out == "drugs":
                scores = drug_response_scores(truth, nearest_drug(train, drugs["fingerprints"]))
                yield about | {"method": "nearest drug, lines as measured"} | scores
            for head, of_cell, of_drug in fitted:
                if head == "per_drug" and hold_out == "drugs":
                    continue
                with Timed() as timed:
                    config = DrugResponseConfig(head=head, seed=seed)
                    one = fit_drug_response(train, cells[of_cell], drugs.get(of_drug), config=config)
                    scores = drug_response_scores(truth, one.predict(cells[of_cell], drugs.get(of_drug)))
                yield about | {"method": f"{head}: {of_cell} × {of_drug}"} | scores | {"cpu_s": timed.cpu_s}


def features_of_cells(adata: Any, models: Models) -> dict[str, np.ndarray]:
    """Name → features of every cell."""
    from sklearn.decomposition import PCA

    logged = source.expression(adata, n_genes=N_GENES)
    found = {f"expression, {N_GENES:,} genes": logged}
    found["expression, 50 components"] = PCA(50, random_state=0).fit_transform(logged)
    found |= {f"embedding of {name}": source.embedding(adata, model, n_genes=N_GENES) for name, model in models.items()}
    return found


def lines(data: Path, models: Models, seeds: Sequence[int], *, quick: bool) -> Iterator[Row]:
    """Eight lines, each left out in turn: every drug measured in six of them or more."""
    adata = source.line_cells(data, per_line=20 if quick else 60, seed=0)
    everything = source.responses(data)
    table = everything.loc[adata.obs["line"].unique()]
    table = table.loc[:, table.notna().sum() >= 6]
    features = {
        name: pd.DataFrame(values).groupby(adata.obs["line"].to_numpy()).mean().loc[table.index]
        for name, values in features_of_cells(adata, models).items()
        if "components" not in name
    }
    features["methylation"] = source.methylation(data).loc[table.index]
    features["tissue"] = source.tissues(data).loc[table.index]
    means = pd.DataFrame([table.drop(index=line).mean() for line in table.index], index=table.index)
    others = everything.drop(index=table.index)[table.columns].mean()
    of_others = pd.DataFrame([others] * len(table), index=table.index)
    reference = float(((table - of_others) ** 2).sum().sum())

    def row(method: str, predicted: pd.DataFrame, seed: int, cpu_s: float = 0.0) -> Row:
        scores = drug_response_scores(table, predicted)
        scores["gain_over_gdsc_mean"] = 1 - float(((table - predicted) ** 2).sum().sum()) / reference
        about = {"table": "lines", "split": "line left out", "seed": seed, "n_test": int(table.notna().sum().sum())}
        return about | {"method": method} | scores | {"cpu_s": cpu_s}

    yield row("drug mean of the other 7", means, 0)
    yield row("drug mean of the other 961 lines of GDSC", of_others, 0)
    for name, values in features.items():
        for seed in [-1, *(seeds if name in list(features)[:2] else ())]:
            shown = values if seed < 0 else values.sample(frac=1, random_state=seed).set_axis(values.index)
            with Timed() as timed:
                predicted = []
                for line in table.index:
                    fitted = fit_drug_response(
                        table.drop(index=line), shown, config=DrugResponseConfig(head="per_drug")
                    )
                    predicted.append(fitted.predict(shown.loc[[line]]).reindex(columns=table.columns))
            label = "" if seed < 0 else ", shuffled among lines"
            yield row(f"ridge per drug: {name}{label}", pd.concat(predicted), max(seed, 0), timed.cpu_s)


def drugs_to_judge(adata: Any, table: pd.DataFrame, n_drugs: int) -> list[str]:
    """Drugs to which three lines or more are sensitive and three or more resistant; drawn once for all methods."""
    chosen = []
    for drug in np.random.default_rng(0).permutation(table.columns):
        label_sensitivity(adata, table, drug=drug, line="line", key="is")
        counted = adata.obs.dropna(subset="is").groupby("line", observed=True)["is"].first().value_counts()
        if counted.min() >= 3:
            chosen.append(str(drug))
    return chosen[:n_drugs]


def sensitivity(data: Path, models: Models, seeds: Sequence[int], *, quick: bool) -> Iterator[Row]:
    """Logistic regression on features of cells; means over drugs."""
    adata = source.line_cells(data, per_line=20 if quick else 60, seed=0)
    table = source.responses(data)
    features = features_of_cells(adata, models)
    features["platform alone"] = (adata.obs["platform"].to_numpy() == "CEL-seq2").astype(float)[:, None]
    drugs = drugs_to_judge(adata, table, 3 if quick else 12)
    settings = [("cells", 1.0), ("cells", 0.05), ("cell_lines", 1.0)]
    for name, values in features.items():
        for hold_out, share in settings:
            for seed in seeds if hold_out == "cells" else [0] if 0 in seeds else []:
                found = []
                with Timed() as timed:
                    for drug in drugs:
                        label_sensitivity(adata, table, drug=drug, line="line", key="is")
                        known = adata.obs["is"].notna().to_numpy()
                        is_ = (adata.obs["is"] == "sensitive").to_numpy()[known]
                        where = adata.obs["line"].to_numpy()[known]
                        found.append(
                            sensitivity_scores(values[known], is_, where, hold_out=hold_out, share=share, seed=seed)
                        )
                scores = pd.DataFrame(found).mean().to_dict()
                by_drug = float(pd.DataFrame(found)["auroc"].std())
                yield {
                    "table": "sensitivity", "split": f"{hold_out}, {share:.0%} of the labels", "seed": seed,
                    "method": name, "n_drugs": len(drugs), "sd_auroc_over_drugs": by_drug, "cpu_s": timed.cpu_s,
                } | scores  # fmt: skip


def fine_tune(data: Path, models: Models, seeds: Sequence[int], *, quick: bool) -> Iterator[Row]:
    """The same with the head, or all weights, trained by the verb; two drugs, two pairs of lines of each."""
    adata = source.line_cells(data, per_line=20, seed=0)
    table = source.responses(data)
    for drug in drugs_to_judge(adata, table, 1 if quick else 2):
        label_sensitivity(adata, table, drug=drug, line="line", key="is")
        cells = adata[adata.obs["is"].notna().to_numpy()].copy()
        first = cells.obs.groupby("line", observed=True)["is"].first()
        pairs = [[first.index[first == label][place] for label in ("resistant", "sensitive")] for place in range(2)]
        within = np.isin(np.arange(cells.n_obs), few_shot(cells.obs["line"].to_numpy(), 0.2, seed=0))
        tests = [("cells, 100% of the labels", within, 1.0), ("cells, 20% of the labels", within, 0.2)]
        tests += [("cell_lines, 100% of the labels", cells.obs["line"].isin(pair).to_numpy(), 1.0) for pair in pairs]
        for split, test, share in tests:
            for name, model in models.items():
                for freeze in (True, False):
                    config = FineTuneConfig(max_epochs=30 if freeze else 6, share=share, val_fraction=0.15, seed=0)
                    with Timed() as timed:
                        tuned = gl.tl.fine_tune(
                            cells[~test].copy(), model, target="is", freeze=freeze, genes=1_000, config=config,
                            progress=False,
                        )  # fmt: skip
                        scores = tuned.evaluate(cells[test].copy())
                    how = "head" if freeze else "all weights"
                    yield {
                        "table": "fine_tune", "split": split, "seed": drug, "method": f"{name}, {how}",
                        "cpu_s": timed.cpu_s,
                    } | scores  # fmt: skip


def perturbation(data: Path, models: Models, seeds: Sequence[int], *, quick: bool) -> Iterator[Row]:
    """Genes and ligands that were never perturbed in training."""
    effects = source.overexpression(data, least_perturbed=40 if quick else 10, least_changed=5)
    of_ligands, changed = source.ligands(data)
    graph = source.curated_graph(data)
    for name, model in models.items():
        vectors = gene_embeddings(model)
        known = effects.loc[effects.index.intersection(vectors.index)]
        nodes = set(known.index) | set(known.columns) | set(graph["source"]) | set(graph["target"])
        vectors_here = vectors.loc[vectors.index.intersection(sorted(nodes))]
        for seed in seeds:
            order = np.random.default_rng(seed).permutation(len(known))
            test, train = known.iloc[order[: len(order) // 5]], known.iloc[order[len(order) // 5 :]]
            about = {"table": "perturbation", "split": "over-expressed gene", "seed": seed, "n_train": len(train)}
            yield from _effects(about, name, (train, test, test != 0), vectors=vectors_here, graph=graph, quick=quick)
        parts = {part for label in of_ligands.index for part in label.split("+")}
        nodes = parts | set(graph["source"]) | set(graph["target"])
        vectors_here = vectors.loc[vectors.index.intersection(sorted(nodes))]
        for seed, ligand in enumerate(of_ligands.index if 0 in seeds else ()):
            train, test = of_ligands.drop(index=ligand), of_ligands.loc[[ligand]]
            about = {"table": "perturbation", "split": "ligand", "seed": seed, "n_train": len(train)}
            of_test = train, test, changed.loc[[ligand]]
            yield from _effects(about, name, of_test, vectors=vectors_here, graph=graph, quick=quick)


def with_itself(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """The mean effect, plus how much more a gene changes on average when it is itself the one perturbed."""
    left = train - train.mean()
    own = [left.loc[gene, gene] for gene in train.index if gene in train.columns]
    predicted = pd.DataFrame([train.mean()] * len(test), test.index)
    for gene in test.index.intersection(test.columns):
        predicted.loc[gene, gene] += float(np.sum(own)) / max(len(own), 1)
    return predicted


def _effects(
    about: Row,
    name: str,
    data: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    *,
    vectors: pd.DataFrame,
    graph: pd.DataFrame,
    quick: bool,
) -> Iterator[Row]:
    train, test, changed = data
    names = list(test.index)
    size = train.abs().mean().to_numpy()
    seed = about["seed"]
    config = PerturbationConfig(seed=seed, max_epochs=20 if quick else 150, val_fraction=0.15 if len(train) > 20 else 0)

    def gears(edges: pd.DataFrame | None) -> pd.DataFrame:
        return fit_perturbation(train, vectors, graph=edges, config=config).predict(names)

    methods: dict[str, Callable[[], pd.DataFrame]] = {}
    if not name.startswith("untrained"):
        methods["no change"] = lambda: test * 0
        methods["mean effect"] = lambda: baseline_effects(train, vectors, names, kind="mean")
        methods["mean effect, and what a perturbed gene does to itself"] = lambda: with_itself(train, test)
        methods["mean size of the effect"] = lambda: pd.DataFrame([size] * len(names), test.index, test.columns)
    methods[f"kNN, {name}"] = lambda: baseline_effects(train, vectors, names, kind="knn")
    methods[f"ridge, {name}"] = lambda: baseline_effects(train, vectors, names, kind="ridge")
    methods[f"graph network, {name}"] = lambda: gears(graph)
    methods[f"no graph, {name}"] = lambda: gears(None)
    if not name.startswith("untrained"):
        methods[f"graph with shuffled targets, {name}"] = lambda: gears(source.shuffled(graph, seed))
    for method, predict in methods.items():
        with Timed() as timed:
            scores = perturbation_scores(test, predict(), changed=changed)
        yield about | {"method": method} | scores | {"cpu_s": timed.cpu_s}


TABLES: dict[str, tuple[Callable[..., Iterator[Row]], tuple[str, ...]]] = {
    "ic50": (ic50, ("pearson", "per_drug_pearson", "r2", "rmse", "mae")),
    "lines": (lines, ("rmse", "mae", "r2", "gain_over_gdsc_mean")),
    "sensitivity": (sensitivity, ("auroc", "f1", "accuracy")),
    "fine_tune": (fine_tune, ("auroc", "f1", "accuracy")),
    "perturbation": (perturbation, ("mse_top", "pearson_top", "auroc", "mse")),
}


def markdown(rows: Sequence[Row], table: str) -> str:
    """Mean and standard deviation over seeds."""
    metrics = list(TABLES[table][1])
    frame = pd.DataFrame([row for row in rows if row["table"] == table])
    lines_ = ["| split | method | n | " + " | ".join(metrics) + " | CPU-s |", "|---" * (len(metrics) + 4) + "|"]
    for (split, method), some in frame.groupby(["split", "method"], sort=False):
        numbers = []
        for metric in metrics:
            mean, sd = some[metric].mean(), some[metric].std()
            shown = "–" if np.isnan(mean) else f"{mean:.3f}"
            numbers.append(shown + (f" ± {sd:.3f}" if sd > 0 else ""))
        cpu_s = some["cpu_s"].mean() if "cpu_s" in some else np.nan
        lines_.append(f"| {split} | {method} | {len(some)} | {' | '.join(numbers)} | {cpu_s:.1f} |")
    return "\n".join(lines_)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with drug/, perturbation/, networks/, scrna/")
    parser.add_argument("--model", action="append", help="a model, may be given several times (grnlab-small)")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=5, help="splits of every setting (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="two seeds, small tables")
    parser.add_argument("--json", type=Path, help="write rows there; rows of tables not run are kept")
    parser.add_argument("--out", type=Path, help="write the Markdown there too")
    options = parser.parse_args(arguments)
    models = models_of(options.model or ["grnlab-small"])
    kept: dict[str, Any] = {"rows": []}
    if options.json is not None and options.json.exists():
        kept = json.loads(options.json.read_text(encoding="utf-8"))
    rows = [row for row in kept["rows"] if row["table"] not in options.tables]
    about = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "models": {name: model.weights_hash for name, model in models.items()},
        "seeds": 2 if options.quick else options.seeds,
        "quick": options.quick,
    }
    conditions = {**kept.get("conditions", {}), **dict.fromkeys(options.tables, about)}
    for name in options.tables:
        with Timed() as timed:
            rows += list(TABLES[name][0](options.data, models, range(about["seeds"]), quick=options.quick))
        conditions[name] = about | {"cpu_s": round(timed.cpu_s, 1)}
    shown = [name for name in TABLES if any(row["table"] == name for row in rows)]
    text = "\n\n".join(f"### {name}\n\n{markdown(rows, name)}" for name in shown)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    if options.json is not None:
        rows = [{key: round(x, 5) if isinstance(x, float) else x for key, x in row.items()} for row in rows]
        found = json.dumps({"conditions": conditions, "rows": rows}, indent=1)
        options.json.write_text(found.replace("NaN", "null") + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
