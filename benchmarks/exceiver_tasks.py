"""Sections of ``benchmarks/exceiver.py`` on what comes after pretraining: gene embeddings, transfer, regression."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from exceiver_shared import Bench, Row, collect, explained, hidden_scores, latents, new_model, with_statistics

import grnlab as gl
from grnlab.backbones import Exceiver
from grnlab.data import CellCollection
from grnlab.evaluate import GoldStandard, candidate_universe
from grnlab.evaluate.baselines import log_normalise
from grnlab.evaluate.uncertainty import score_universe
from grnlab.genes import GeneVocab
from grnlab.network.partition import seeded_igraph
from grnlab.objectives import DiscreteNoise
from grnlab.tasks import FineTuneConfig
from grnlab.training.gene_vectors import coexpression_vectors

DRUGS = {"gefitinib": 1010, "trametinib": 1372, "gemcitabine": 135}  # numbers in GDSC
TUNED = "trametinib"


def genes(bench: Bench) -> Iterator[Row]:
    """Edges within Leiden clusters of gene embeddings, and in networks rewired with every degree kept."""
    import igraph
    from scipy.stats import false_discovery_control, norm
    from sklearn.neighbors import NearestNeighbors

    cells, train, _ = bench.training()
    detected = np.asarray((cells.counts[train] > 0).sum(axis=0)).ravel() >= 200
    edges = interactions(bench.data, bench.model.vocab, detected)
    start = coexpression_vectors(cells.counts[train], bench.model.config.d_model, seed=0)
    small = gl.load_model("grnlab-small")
    tables = {
        "Exceiver, pretrained": bench.model.gene_embedding.weight.detach().numpy(),
        "co-expression vectors it started from": start,
        "grnlab-small": small.gene_embedding.weight.detach().numpy(),
        "Exceiver, untrained": bench.untrained.gene_embedding.weight.detach().numpy(),
    }
    inside = np.flatnonzero(detected)
    place = np.full(len(detected), -1)
    place[inside] = np.arange(len(inside))
    network = igraph.Graph(n=len(inside), edges=place[edges]).simplify()
    n_draws = 10 if bench.quick else 50
    rewired = []
    for seed in range(n_draws):
        drawn = network.copy()
        with seeded_igraph(seed):
            drawn.rewire(10 * drawn.ecount())
        rewired.append(np.array(drawn.get_edgelist()))
    for name, vectors in tables.items():
        x = vectors[inside] / np.linalg.norm(vectors[inside], axis=1, keepdims=True)
        near = NearestNeighbors(n_neighbors=16, algorithm="brute").fit(x).kneighbors(x, return_distance=False)[:, 1:]
        graph = igraph.Graph(n=len(x), edges=np.column_stack([np.repeat(np.arange(len(x)), 15), near.ravel()]))
        with seeded_igraph(bench.seed):
            member = np.array(graph.simplify().community_leiden("modularity", n_iterations=10).membership)
        n_clusters = member.max() + 1
        observed = within(np.array(network.get_edgelist()), member, n_clusters)
        null = np.array([within(drawn, member, n_clusters) for drawn in rewired])
        size = np.bincount(member)
        tested = (size >= 10) & (null.mean(0) >= 1)
        z = (observed - null.mean(0)) / np.maximum(null.std(0), 1e-9)
        enriched = false_discovery_control(norm.sf(z[tested])) < 0.05 if tested.any() else np.array([])
        yield {
            "embedding": name, "genes": len(x), "edges": network.ecount(), "clusters": int((size >= 10).sum()),
            "tested": int(tested.sum()), "enriched": int(enriched.sum()),
            "edges_within": int(observed.sum()), "expected": float(null.sum(1).mean()),
            "ratio": float(observed.sum() / null.sum(1).mean()),
            "z": float((observed.sum() - null.sum(1).mean()) / null.sum(1).std()), "draws": n_draws,
        }  # fmt: skip


def interactions(data: Path, vocab: GeneVocab, detected: np.ndarray) -> np.ndarray:
    """OmniPath's post-translational interactions between genes seen in the training cells, without direction."""
    table = pd.read_parquet(data / "networks" / "omnipath.parquet", columns=["source", "target", "type"])
    table = table[table["type"] == "post_translational"]
    token = vocab.by_symbol
    pairs = {
        tuple(sorted((int(a), int(b))))
        for a, b in zip(table["source"].map(token.get), table["target"].map(token.get), strict=True)
        if pd.notna(a) and pd.notna(b) and a != b
    }
    kept = np.array(sorted(pairs), dtype=np.int64)
    return kept[detected[kept].all(axis=1)]


def within(edges: np.ndarray, member: np.ndarray, n_clusters: int) -> np.ndarray:
    """Edges inside each cluster."""
    same = member[edges[:, 0]] == member[edges[:, 1]]
    return np.bincount(member[edges[same, 0]], minlength=n_clusters)


def transfer(bench: Bench) -> Iterator[Row]:
    """Train on 70 % of a new data set, judge on the rest; everything is thrown away afterwards."""
    from scipy.stats import mannwhitneyu

    _, cells = bench.new("kang2018")
    train, held = cells.split(0.3, seed=0)
    held = np.random.default_rng(0).permutation(held)[:200]
    seeds, n_steps = (2, 20) if bench.quick else (5, 60)
    every = n_steps // 3
    finals: dict[str, list[tuple[float, float]]] = {}
    for start in ("pretrained", "new"):
        for seed in range(seeds):
            model = new_model(bench.model.vocab, replace(bench.model.config, classes={}), seed=seed)
            if start == "pretrained":
                weights = {k: v for k, v in bench.model.state_dict().items() if not k.startswith(("class_", "special"))}
                model.load_state_dict(weights, strict=False)
            model.fit_statistics(cells, train)
            for point in fit(model, cells, train, held, n_steps=n_steps, every=every, seed=seed):
                yield {"start": start, "seed": seed, **point}
            finals.setdefault(start, []).append((point["loss"], point["ev"]))
    for place, name in enumerate(("loss", "ev")):
        mine, other = ([values[place] for values in finals[start]] for start in ("pretrained", "new"))
        test = mannwhitneyu(mine, other, alternative="two-sided")
        yield {"measure": name, "pretrained": float(np.mean(mine)), "new": float(np.mean(other)),
               "p": float(test.pvalue),               "seeds": seeds, "steps": n_steps}  # fmt: skip


def fit(
    model: Exceiver, cells: CellCollection, train: np.ndarray, held: np.ndarray, *, n_steps: int, every: int, seed: int
) -> Iterator[Row]:
    """A plain loop; the held-out cells and their hidden genes are the same for every model and seed."""
    objective, rng, generator = DiscreteNoise(), np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), foreach=True)
    for step in range(n_steps + 1):
        if step % every == 0:
            hidden = hidden_scores(model.eval(), cells, held, fitted=train, seed=1)
            yield {
                "step": step,
                "loss": float(np.mean((hidden.true - hidden.predicted) ** 2)),
                "ev": explained(hidden.true, hidden.predicted),
                "loss_of_cell_level": float(np.mean((hidden.true - hidden.cell) ** 2)),
                "ev_of_cell_level": explained(hidden.true, hidden.cell),
            }
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 10)
        target = cells.batch(rng.choice(train, 16), 512, generator=rng)
        seen = objective.corrupt(target, generator=generator)
        loss = objective.loss(model, model.train().encode(seen), seen=seen, target=target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def regression(bench: Bench) -> Iterator[Row]:
    """Fit on CEL-seq2 cells of five lung lines, judge on 10x cells of the same lines: the lines are no new ones."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV

    tables = [lung_lines(bench, "celseq2"), lung_lines(bench, "10x_2000g")]
    shared = np.intersect1d(*(cells.available[0] for _, cells in tables))
    raw = [log_normalise(cells.counts[:, shared].toarray()) for _, cells in tables]
    components = PCA(50, random_state=bench.seed).fit(raw[0])
    views = {"raw, 50 components": [components.transform(x) for x in raw]}
    own = {
        name: [with_statistics(model, cells, np.arange(len(cells))) for _, cells in tables]
        for name, model in (("pretrained", bench.model), ("untrained", bench.untrained))
    }
    for name, models in own.items():
        found = [latents(m, c, np.arange(len(c)))[0] for m, (_, c) in zip(models, tables, strict=True)]
        views[f"{name}, frozen"] = found
    for drug, number in DRUGS.items():
        of_line = ic50(bench.data, number)
        y = [adata.obs["cell_type"].astype(str).map(of_line) for adata, _ in tables]
        kept = [values.notna().to_numpy() for values in y]
        y_fit, y_judge = (values.to_numpy(float)[rows] for values, rows in zip(y, kept, strict=True))
        row: Row = {"drug": drug, "lines": len(set(y_fit)), "n_fit": len(y_fit), "n_judged": len(y_judge), "mean": 0.0}
        for view, x in views.items():
            scaled = [(part - part.mean(0)) / (part.std(0) + 1e-6) for part in x]
            fitted = RidgeCV(np.logspace(-1, 4, 11)).fit(scaled[0][kept[0]], y_fit)
            row[view] = explained(y_judge, fitted.predict(scaled[1][kept[1]]))
        if drug == TUNED:
            row |= {f"{name}, fine-tuned": tuned(models, tables, y, kept) for name, models in own.items()}
        yield row


def tuned(
    models: Sequence[Exceiver], tables: Sequence[tuple[ad.AnnData, CellCollection]], y: Sequence[pd.Series], kept: Any
) -> float:
    """Explained variance of a head fitted together with the model; scored by the statistics of each data set."""
    fit_on, judge_on = (adata[rows].copy() for (adata, _), rows in zip(tables, kept, strict=True))
    fit_on.obs["ln_ic50"] = y[0].to_numpy(float)[kept[0]]
    config = FineTuneConfig(max_epochs=3, val_fraction=0.1)
    found = gl.tl.fine_tune(
        fit_on, models[0], target="ln_ic50", kind="regression", genes=500, config=config, progress=False
    )
    found.backbone._buffers = dict(models[1]._buffers)
    return explained(y[1].to_numpy(float)[kept[1]], found.predict(judge_on).iloc[:, 0].to_numpy(float))


def lung_lines(bench: Bench, name: str) -> tuple[ad.AnnData, CellCollection]:
    """Single cells of Tian et al. 2019, doublets left out, over the vocabulary."""
    adata = ad.read_h5ad(bench.data / "scrna" / f"tian2019_5cl_{name}.h5ad")
    if "demuxlet" in adata.obs:
        adata = adata[~adata.obs["demuxlet"].astype(str).str.upper().str.startswith("DBL")].copy()
    order = np.random.default_rng(bench.seed).permutation(adata.n_obs)[: 100 if bench.quick else 200]
    adata = adata[np.sort(order)].copy()
    return adata, collect(adata, bench.model.vocab)


def ic50(data: Path, number: int) -> dict[str, float]:
    """Cell line → ln IC50, by the letters and digits of its name, with and without a leading NCI."""
    response = pd.read_csv(data / "drug" / "gdsc_ln_ic50.csv.gz", index_col=0).loc[f"GDSC:{number}"].dropna()
    lines = pd.read_csv(data / "drug" / "ccle_cell_lines.tsv.gz", sep="\t").dropna(subset=["depMapID", "Name"])
    names = lines["Name"].str.upper().str.replace(r"[^A-Z0-9]", "", regex=True).str.removeprefix("NCI")
    of_line = dict(zip(names, lines["depMapID"], strict=True))
    return {name: float(response[code]) for name, code in of_line.items() if code in response}


def networks(bench: Bench) -> Iterator[Row]:
    """Two-hop maps of pbmc3k's cell types, by TRRUST and OmniPath's transcriptional edges: AUPRC over base rate."""
    adata, _ = bench.new("pbmc3k")
    types = ("CD14+ Mono", "B")[: 1 if bench.quick else 2]
    adata = adata[adata.obs["cell_type"].isin(types)].copy()
    n_genes, omnipath = 500, pd.read_parquet(bench.data / "networks" / "omnipath.parquet")
    golds = [
        GoldStandard.from_frame(
            pd.read_csv(bench.data / "networks" / "trrust_v2_human.csv.gz"), source="TF", target="target", name="TRRUST"
        ),
        GoldStandard.from_frame(
            omnipath[omnipath["type"] == "transcriptional"][["source", "target"]], name="OmniPath, transcriptional"
        ),
    ]
    plain = new_model(bench.model.vocab, replace(bench.model.config, mixing=False), seed=0)
    plain.load_state_dict(bench.model.state_dict())
    models = {
        "two hops": bench.model,
        "two hops, without mixing": plain,
        "two hops, its own statistics": bench.model.standardised(adata),
        "two hops, untrained": bench.untrained,
        "grnlab-small, attention": gl.load_model("grnlab-small"),
    }
    for name, model in models.items():
        for context in ("shared", "expressed"):
            started = time.process_time()
            maps = gl.tl.attention(adata, model, groupby="cell_type", genes=n_genes, context=context)
            cpu_s = time.process_time() - started
            for apc in (False, True):
                found = [maps.dense(kind, symmetrize=True, apc=apc).T for kind in types]
                about = {"map": f"{name}, APC" if apc else name, "context": context, "cpu_s": cpu_s}
                yield about | _judged(found, list(maps.genes.index), golds)
    vectors = bench.model.gene_embedding.weight.detach().numpy()[maps.genes["token"].to_numpy()]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors - vectors.mean(0)
    yield {"map": "cosine of gene embeddings, centred"} | _judged([vectors @ vectors.T], list(maps.genes.index), golds)
    levels = [maps.expression[kind]["mean_counts"].to_numpy() for kind in types]
    yield {"map": "product of means"} | _judged([np.outer(x, x) for x in levels], list(maps.genes.index), golds)


def _judged(scores: list[np.ndarray], names: list[str], golds: list[GoldStandard]) -> Row:
    """Mean over groups of what each gold standard says; `scores` has regulators in rows."""
    row: Row = {"groups": len(scores)}
    for gold in golds:
        universe = candidate_universe(gold, names)
        found = [score_universe(universe, x[np.ix_(universe.regulators, universe.targets)]) for x in scores]
        row |= {f"{gold.name}, AUPRC ratio": float(np.mean([one.auprc_ratio for one in found]))}
        row |= {f"{gold.name}, AUROC": float(np.mean([one.auroc for one in found]))}
        row |= {f"{gold.name}, true": universe.n_true, f"{gold.name}, base rate": universe.base_rate}
    return row
