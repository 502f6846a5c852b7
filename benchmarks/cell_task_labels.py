"""Annotation, embedding and counterfactuals, judged by the labels of cells: parts of :mod:`tasks`."""

from functools import partial
from typing import Any

import anndata as ad
import cell_task_data as cells_of
import numpy as np
import pandas as pd
import scipy.sparse as sp
from cell_task_shared import MODEL, SEED, Context, timed
from sklearn.neighbors import KNeighborsClassifier

import grnlab as gl

BIOLOGY = ("nmi", "ari", "silhouette_label", "clisi")
BATCHES = ("silhouette_batch", "ilisi", "kbet", "graph")


def annotation(context: Context, name: str) -> dict[str, Any]:
    """Accuracy and macro-F1 on types of the reference; beside them, what is told to be outside."""
    query = cells_of.read(context.data, name)
    rare = query.obs["label"].isin(cells_of.RARE[name]).to_numpy()
    query = cells_of.sample(query, context.n_cells, always=rare, seed=SEED)
    true = query.obs["label"].map(cells_of.coarse).to_numpy(dtype=object)
    known = cells_of.reference(context.data, 25 if context.quick else 60, seed=SEED)
    taught = known.obs["label"].to_numpy(dtype=str)
    judged = np.isin(true.astype(str), np.unique(taught))
    rows: dict[str, dict[str, Any]] = {}
    shared = known.var_names.intersection(query.var_names)
    x_known = cells_of.log_counts(known[:, shared])
    x_query = cells_of.log_counts(query[:, shared])
    import scanpy as sc

    sc.pp.highly_variable_genes(x_known, n_top_genes=2_000)
    genes = x_known.var["highly_variable"].to_numpy()
    a, b = x_known.X[:, genes].toarray(), x_query.X[:, genes].toarray()
    for label, (said, used) in peers_of_annotation(a, b, taught).items():
        rows[label] = agreement(said[judged], true[judged]) | {"cpu_s": used}
    grouped = clusters(x_query)
    for label, model in context.models.items():
        adata = ad.AnnData(query.X, obs=pd.DataFrame({"cluster": grouped}, index=query.obs_names), var=query.var[[]])
        out = context.folder / f"annotate {name} {label}"
        _, used = timed(partial(gl.tl.annotate, adata, model, groupby="cluster", out=out))
        leaves = adata.obsm["grnlab_cell_type"].iloc[:, : len(model.config.classes["cell_type"])].idxmax(axis=1)
        row = agreement(leaves.to_numpy(dtype=object)[judged], true[judged]) | {"cpu_s": used}
        rows[f"{label}: most probable leaf"] = row
        for column, how in (("grnlab_cell_type", "label or outside"), ("grnlab_cell_type_voted", "voted in clusters")):
            said = adata.obs[column].to_numpy(dtype=object)
            row = agreement(said[judged], true[judged]) | {"cpu_s": used} | outside(said, true, judged)
            rows[f"{label}: {how}"] = row
        if label != MODEL:
            continue
        space = ad.AnnData(known.X, var=known.var[[]])
        _, taught_s = timed(partial(gl.tl.embed, space, model))
        nearest = KNeighborsClassifier(15).fit(space.obsm["X_grnlab_cell_type"], taught)
        found = nearest.predict(np.load(out / "cell_type_embedding.npy"))
        row = agreement(found[judged], true[judged]) | {"cpu_s": taught_s + used}
        rows[f"{label}: kNN (15) in its embedding"] = row
    kinds, sizes = np.unique(true[judged].astype(str), return_counts=True)
    return {
        "data": f"{name}: {query.n_obs} cells; judged {dict(zip(kinds.tolist(), sizes.tolist(), strict=True))}",
        "in_training": cells_of.UNSEEN,
        "reference": f"Zheng 2017, sorted blood cells, {known.n_obs} ({cells_of.TRAINED})",
        "rows": rows,
    }


def peers_of_annotation(a: np.ndarray, b: np.ndarray, taught: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Predictions for `b` of what learns from `a`, and CPU seconds."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tools = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
        "kNN (15, PCA)": make_pipeline(PCA(50, random_state=0), KNeighborsClassifier(15)),
        "gradient boosting (PCA)": make_pipeline(
            PCA(50, random_state=0), HistGradientBoostingClassifier(max_iter=100, random_state=0)
        ),
    }
    return {label: timed(lambda t=tool: t.fit(a, taught).predict(b)) for label, tool in tools.items()}


def clusters(logged: ad.AnnData) -> np.ndarray:
    """Leiden clusters of the principal components: what a user has before any model."""
    import scanpy as sc

    variable = logged.copy()
    sc.pp.highly_variable_genes(variable, n_top_genes=2_000)
    variable.obsm["X_pca"] = cells_of.components(variable[:, variable.var["highly_variable"]])
    sc.pp.neighbors(variable, n_neighbors=15)
    sc.tl.leiden(variable, resolution=2.0, flavor="igraph", n_iterations=2, random_state=0)
    return variable.obs["leiden"].astype(str).to_numpy()


def agreement(said: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Accuracy, and F1 averaged over the true labels."""
    from sklearn.metrics import accuracy_score, f1_score

    said, true = said.astype(str), true.astype(str)
    f1 = f1_score(true, said, labels=np.unique(true), average="macro", zero_division=0)
    return {"accuracy": round(float(accuracy_score(true, said)), 4), "macro_f1": round(float(f1), 4)}


def outside(said: np.ndarray, true: np.ndarray, judged: np.ndarray) -> dict[str, Any]:
    """Shares told to be outside: of cells of types without a label, and of those of known types."""
    far, none = said == "outside", pd.isna(true)
    return {
        "outside_of_unknown": round(float(far[none].mean()), 3) if none.any() else None,
        "outside_of_known": round(float(far[judged].mean()), 3),
        "n_unknown": int(none.sum()),
    }


def embedding(context: Context, name: str) -> dict[str, Any]:
    """scib-metrics: biology (NMI, ARI, silhouette, cLISI) and batches (silhouette, iLISI, kBET, graph)."""
    n_cells = 150 if context.quick else 360
    if name == "three chemistries":
        adata = cells_of.ten_x(context.data, n_cells // 3, seed=SEED)
        labels = labels_by_reference(context, adata)
        how, seen = "labels of a logistic regression on sorted cells, those it is 90 % sure of", cells_of.TRAINED
    else:
        n_cells = n_cells if "kang" in name else n_cells // 2  # a cell of Tian 2019 has ten times the genes
        adata = cells_of.sample(cells_of.read(context.data, name), n_cells, seed=SEED)
        labels = adata.obs["label"].to_numpy(dtype=object)
        how, seen = "labels of the authors", cells_of.UNSEEN if "kang" in name else cells_of.TRAINED
    kept = np.array([one is not None for one in labels])
    adata = adata[kept].copy()
    labels, batch = labels[kept].astype(str), adata.obs["batch"].to_numpy().astype(str)
    logged = cells_of.log_counts(adata, n_top=2_000)
    pca, used = timed(lambda: cells_of.components(logged))
    spaces: dict[str, tuple[np.ndarray, float, bool]] = {"PCA": (pca, used, False)}
    if found := context.ask("harmony", pca=pca.astype(float), batch=batch):
        spaces["Harmony"] = (found["embedding"], used + float(found["cpu_s"]), True)
    columns = adata.var_names.get_indexer(logged.var_names)
    counts = sp.csr_matrix(adata.X)[:, columns].toarray()
    if found := context.ask("scvi", counts=counts, batch=batch, epochs=5 if context.quick else 40):
        spaces["scVI"] = (found["embedding"], float(found["cpu_s"]), True)
    shown: int | str = 2_000 if name == "tian plates" else "all"
    for label, model in context.models.items():
        part = ad.AnnData(adata.X, var=adata.var[[]])
        _, used = timed(lambda a=part, m=model: gl.tl.embed(a, m, genes=shown))
        spaces[f"{label}: cell"] = (part.obsm["X_grnlab"], used, False)
        spaces[f"{label}: cell_type"] = (part.obsm["X_grnlab_cell_type"], used, False)
        spaces[f"{label}: cell_type logits"] = (part.obsm["X_grnlab_cell_type_logits"], used, False)
    found = context.ask("scib", labels=labels, batch=batch, **{f"X:{key}": value[0] for key, value in spaces.items()})
    rows = {}
    for key, (_, used, told) in spaces.items():
        row: dict[str, Any] = {"cpu_s": used, "uses_batches": told}
        if found is not None:
            values = {metric: float(found[f"X:{key}|{metric}"]) for metric in (*BIOLOGY, *BATCHES)}
            row |= {metric: round(value, 4) for metric, value in values.items()}
            row["biology"] = round(float(np.mean([values[metric] for metric in BIOLOGY])), 4)
            row["batches"] = round(float(np.mean([values[metric] for metric in BATCHES])), 4)
        rows[key] = row
    return {
        "data": f"{name}: {adata.n_obs} cells, {len(np.unique(batch))} batches, {len(np.unique(labels))} labels; {how}",
        "in_training": seen,
        "genes_shown": shown,
        "rows": rows,
    }


def labels_by_reference(context: Context, adata: ad.AnnData) -> np.ndarray:
    """Labels of a logistic regression that learned the sorted cells; None where it is not 90 % sure."""
    import scanpy as sc
    from sklearn.linear_model import LogisticRegression

    known = cells_of.reference(context.data, 25 if context.quick else 150, seed=SEED)
    shared = known.var_names.intersection(adata.var_names)
    x_known, x = cells_of.log_counts(known[:, shared]), cells_of.log_counts(adata[:, shared])
    sc.pp.highly_variable_genes(x_known, n_top_genes=2_000)
    genes = x_known.var["highly_variable"].to_numpy()
    tool = LogisticRegression(max_iter=300).fit(x_known.X[:, genes].toarray(), known.obs["label"].to_numpy(dtype=str))
    sure = tool.predict_proba(x.X[:, genes].toarray())
    labels = tool.classes_[sure.argmax(1)].astype(object)
    labels[sure.max(1) < 0.9] = None
    return labels


def counterfactual(context: Context, name: str) -> dict[str, Any]:
    """Does a T cell given the class embedding of another type move towards that type? Correlation of fold changes."""
    adata = cells_of.sample(cells_of.read(context.data, name), context.n_cells, seed=SEED)
    true = adata.obs["label"].map(cells_of.coarse).to_numpy(dtype=object)
    logged = cells_of.log_counts(adata).X
    rows = {}
    for label, model in context.models.items():
        for target in ("B cell", "monocyte", "NK cell"):
            part = ad.AnnData(adata.X[true == "T cell"], var=adata.var[[]])
            try:
                gl.tl.generate(part, model, swap={"cell_type": target}, donors=adata, target_depth=1e4)
            except ValueError as error:
                rows[f"{label}: T cell → {target}"] = {"said": str(error)[:80]}
                continue
            made = np.log1p(part.layers["generated"]).mean(0) - np.log1p(part.layers["generated_reference"]).mean(0)
            real = np.asarray(logged[true == target].mean(0) - logged[true == "T cell"].mean(0)).ravel()
            judged = part.var["generated"].to_numpy() & (np.asarray(logged.mean(0)).ravel() > 0.05)
            slope = float(made[judged] @ real[judged] / (real[judged] @ real[judged]))
            correlation = float(np.corrcoef(made[judged], real[judged])[0, 1])
            top = np.argsort(-real * judged)[:50]
            up = float((made[top] > 0).mean())
            row = {"correlation": round(correlation, 3), "slope": round(slope, 3), "top_50_up": round(up, 3)}
            rows[f"{label}: T cell → {target}"] = row
    return {"data": f"{name}: {int((true == 'T cell').sum())} T cells", "in_training": cells_of.UNSEEN, "rows": rows}
