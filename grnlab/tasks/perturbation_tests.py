"""Effects of perturbations: checks, predictions from simple means and regressions, scores."""

import numpy as np
import pandas as pd

from grnlab.tasks._tables import check_table

BASELINES = ("mean", "knn", "ridge")
_NEIGHBOURS = 10
_COMPONENTS = 50


def parts_of(perturbation: str) -> list[str]:
    """Genes of a perturbation, of which ``"A+B"`` has two."""
    return str(perturbation).split("+")


def check_effects(effects: pd.DataFrame, gene_embeddings: pd.DataFrame) -> None:
    """Refuse tables that do not fit.

    Raises
    ------
    ValueError
        When a perturbed gene has no embedding, a table holds NaN, or a name occurs twice.
    """
    check_table(effects, "effects")
    check_table(gene_embeddings, "gene_embeddings")
    if unknown := sorted({part for name in effects.index for part in parts_of(name)} - set(gene_embeddings.index)):
        msg = f"effects perturbs {len(unknown)} genes that gene_embeddings lacks, {unknown[:5]}; leave them out."
        raise ValueError(msg)


def baseline_effects(
    effects: pd.DataFrame, gene_embeddings: pd.DataFrame, perturbed: list[str], *, kind: str
) -> pd.DataFrame:
    """Predict effects by what any model has to beat.

    Parameters
    ----------
    effects
        Known effects, one row per perturbation.
    gene_embeddings
        One row per gene.
    perturbed
        Perturbations to predict.
    kind
        ``"mean"`` of the known effects; ``"knn"``: mean of those of the ten genes with the most alike embedding
        (cosine); ``"ridge"``: linear in fifty principal components of the embedding.

    Returns
    -------
    One row per perturbation, the columns of `effects`.

    Raises
    ------
    ValueError
        For another kind; when a gene has no embedding.

    Examples
    --------
    >>> embeddings = pd.DataFrame(np.eye(3), index=list("ABC"))
    >>> effects = pd.DataFrame({"G": [1.0, 3.0]}, index=["A", "B"])
    >>> baseline_effects(effects, embeddings, ["C"], kind="mean")["G"].tolist()
    [2.0]
    """
    if kind not in BASELINES:
        msg = f"kind={kind!r} is unknown; choose one of {BASELINES}."
        raise ValueError(msg)
    check_effects(effects, gene_embeddings)
    if unknown := sorted({part for name in perturbed for part in parts_of(name)} - set(gene_embeddings.index)):
        msg = f"perturbed names {len(unknown)} genes without an embedding: {unknown[:5]}."
        raise ValueError(msg)
    known = effects.to_numpy(dtype=np.float64)
    if kind == "mean":
        values = np.repeat(known.mean(axis=0)[None], len(perturbed), axis=0)
    else:
        centred = gene_embeddings - gene_embeddings.mean()
        train, test = (
            np.stack([centred.loc[parts_of(name)].sum().to_numpy() for name in names])
            for names in (effects.index, perturbed)
        )
        values = _nearest(train, known, test) if kind == "knn" else _ridge(train, known, test)
    return pd.DataFrame(values, index=perturbed, columns=effects.columns)


def _nearest(train: np.ndarray, known: np.ndarray, test: np.ndarray) -> np.ndarray:
    one, other = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (test, train))
    nearest = np.argsort(-one @ other.T, axis=1, kind="stable")[:, : min(_NEIGHBOURS, len(train))]
    return known[nearest].mean(axis=1)


def _ridge(train: np.ndarray, known: np.ndarray, test: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV

    pca = PCA(min(_COMPONENTS, train.shape[1], len(train) - 1), random_state=0).fit(train)
    scale = np.sqrt(pca.explained_variance_.sum()) or 1.0
    return RidgeCV(np.logspace(-1, 4, 11)).fit(pca.transform(train) / scale, known).predict(pca.transform(test) / scale)


def perturbation_scores(
    truth: pd.DataFrame, predicted: pd.DataFrame, *, changed: pd.DataFrame | None = None, n_top: int = 20
) -> dict[str, float]:
    """Score predicted effects, perturbation by perturbation.

    Parameters
    ----------
    truth
        One row per perturbation, one column per gene.
    predicted
        Has the same rows and columns.
    changed
        Whether a gene was found to change; by default, whether its effect is not 0.
    n_top
        Errors and correlations are over so many genes of the largest effect, or as many as changed.

    Returns
    -------
    Means over perturbations: ``mse_top``, ``pearson_top`` (0 where a side is constant; of three genes or more) and
    ``auroc``, how well the size of the predicted effect finds the genes that changed; their number
    ``n_perturbations``, and ``mse`` over all genes.

    Raises
    ------
    ValueError
        When no perturbation changed a gene.
    """
    from scipy.stats import rankdata

    changed = truth != 0 if changed is None else changed
    predicted, changed = (table.loc[truth.index, truth.columns] for table in (predicted, changed))
    rows = []
    for is_, said, moved in zip(truth.to_numpy(), predicted.to_numpy(), changed.to_numpy(dtype=bool), strict=True):
        n_changed = int(moved.sum())
        if n_changed == 0:
            continue
        top = np.argsort(-np.where(moved, np.abs(is_), -1), kind="stable")[: min(n_top, n_changed)]
        row = {"mse_top": float(((is_ - said)[top] ** 2).mean()), "mse": float(((is_ - said) ** 2).mean())}
        if len(top) >= 3:
            varies = np.ptp(is_[top]) > 0 and np.ptp(said[top]) > 0
            row["pearson_top"] = float(np.corrcoef(is_[top], said[top])[0, 1]) if varies else 0.0
        if n_changed < len(moved):
            ranks = rankdata(np.abs(said))
            above = ranks[moved].sum() - n_changed * (n_changed + 1) / 2
            row["auroc"] = float(above / (n_changed * (len(moved) - n_changed)))
        rows.append(row)
    if not rows:
        msg = "no perturbation of truth changed a gene; there is nothing to score."
        raise ValueError(msg)
    means = pd.DataFrame(rows).reindex(columns=["mse_top", "pearson_top", "auroc", "mse"]).mean()
    return {str(name): float(value) for name, value in means.items()} | {"n_perturbations": float(len(rows))}
