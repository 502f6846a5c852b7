"""Predict how cell lines respond to drugs, from features of both: embeddings, expression, fingerprints, anything.

Responses differ far more between drugs than between lines, and lines differ in how much they stand of anything. So the
mean of a drug and the lead of a line are kept apart: those measured where drug or line were trained on, else predicted
from their features. A head predicts what is left from the line and the drug together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from grnlab.tasks._tables import check_responses, check_table

HEADS = ("ridge", "per_drug", "mlp")
_ALPHAS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
_OF_MEANS = np.logspace(-3, 3, 13)  # penalties of what predicts means
_ROWS_TO_CHOOSE_BY = 15_000
_SHRINK = 3.0  # drugs that stand for the lead of a line not being known


@dataclass(frozen=True)
class DrugResponseConfig:
    """Settings of :func:`fit_drug_response`.

    Attributes
    ----------
    head
        ``"ridge"``: linear in the line and in products of line and drug. ``"mlp"``: one hidden layer on both.
        ``"per_drug"``: a ridge regression for each drug, which needs no features of drugs and knows no other drug.
    n_components
        Principal components kept of the features of lines, and of drugs.
    hidden
        Width of the hidden layer of ``"mlp"``.
    alpha
        Penalty of the ridge heads; by default chosen on held-out training lines.
    seed
        Of that choice and of the weights of ``"mlp"``.

    Raises
    ------
    ValueError
        When a value is out of range.
    """

    head: str = "ridge"
    n_components: int = 20
    hidden: int = 64
    alpha: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            msg = f"head={self.head!r} is unknown; choose one of {HEADS}."
            raise ValueError(msg)
        if self.n_components < 1 or self.hidden < 1 or (self.alpha is not None and not self.alpha > 0):
            msg = f"n_components={self.n_components}, hidden={self.hidden} and alpha={self.alpha} must be above 0."
            raise ValueError(msg)


class _Components:
    """Principal components of features, all scaled by the same number, so that penalties mean the same everywhere."""

    def __init__(self, features: pd.DataFrame, n_components: int, seed: int) -> None:
        from sklearn.decomposition import PCA

        n_components = min(n_components, features.shape[1], max(1, len(features) - 1))
        x = features.to_numpy(dtype=np.float64)
        self.pca = PCA(n_components, random_state=seed).fit(x)
        self.mean, self.scale = x.mean(axis=0), float(np.sqrt(x.var(axis=0).sum())) or 1.0
        self.columns = features.columns

    def __call__(self, features: pd.DataFrame) -> np.ndarray:
        return self.pca.transform(features[self.columns].to_numpy(dtype=np.float64)) / self.scale

    def all(self, features: pd.DataFrame) -> np.ndarray:
        """The features themselves, centred and scaled by the same number."""
        return (features[self.columns].to_numpy(dtype=np.float64) - self.mean) / self.scale


class DrugResponse:
    """A fitted predictor of responses, see :func:`fit_drug_response`.

    Attributes
    ----------
    drug_means
        Mean response to each drug trained on.
    line_leads
        How far each line trained on lies above the means of its drugs, shrunk towards 0 where it saw few drugs.
    alpha
        Penalty of the head; None for ``"mlp"``.
    """

    def __init__(self, config: DrugResponseConfig) -> None:
        self.config = config
        self.alpha: float | None = config.alpha
        self.drug_means, self.line_leads = pd.Series(dtype=np.float64), pd.Series(dtype=np.float64)
        self._lines: _Components
        self._drugs: _Components | None = None
        self._of_mean: Any = None
        self._of_lead: Any = None
        self._head: Any = None

    def predict(self, cell_features: pd.DataFrame, drug_features: pd.DataFrame | None = None) -> pd.DataFrame:
        """Responses of lines to drugs.

        Parameters
        ----------
        cell_features
            One row per line, with the columns of training.
        drug_features
            One row per drug, with the columns of training; by default the drugs trained on.

        Returns
        -------
        One row per line, one column per drug.

        Raises
        ------
        ValueError
            When features are missing, or the head knows only the drugs it was trained on.
        """
        check_table(cell_features, "cell_features", columns=self._lines.columns)
        lines = self._lines(cell_features)
        leads = pd.Series(self._of_lead.predict(self._lines.all(cell_features)), index=cell_features.index)
        leads.update(self.line_leads)
        if self.config.head == "per_drug":
            names = self.drug_means.index if drug_features is None else drug_features.index
            if len(strange := names.difference(self.drug_means.index)):
                msg = f"head='per_drug' was not trained on the drugs {list(strange[:5])}; use head='ridge' or 'mlp'."
                raise ValueError(msg)
            left = np.column_stack([self._head[name].predict(lines) for name in names])
            means = self.drug_means[names]
        else:
            assert self._drugs is not None
            drug_features = self._features_of_drugs if drug_features is None else drug_features
            check_table(drug_features, "drug_features", columns=self._drugs.columns)
            drugs, names = self._drugs(drug_features), drug_features.index
            means = pd.Series(self._of_mean.predict(self._drugs.all(drug_features)), index=names)
            means.update(self.drug_means)
            line, drug = (x.ravel() for x in np.indices((len(lines), len(drugs))))
            left = self._head.predict(self._pairs(lines[line], drugs[drug])).reshape(len(lines), len(drugs))
        values = left + means.to_numpy() + leads.to_numpy()[:, None]
        return pd.DataFrame(values, index=cell_features.index, columns=names)

    def _fit(self, responses: pd.DataFrame, cell_features: pd.DataFrame, drug_features: pd.DataFrame | None) -> None:
        from sklearn.linear_model import Ridge, RidgeCV

        config = self.config
        self.drug_means = responses.mean()
        left = responses - self.drug_means
        self.line_leads = left.sum(axis=1) / (left.notna().sum(axis=1) + _SHRINK)
        left = left.sub(self.line_leads, axis=0)
        self._lines = _Components(cell_features, config.n_components, config.seed)
        lines = self._lines(cell_features)
        self._of_lead = RidgeCV(_OF_MEANS).fit(self._lines.all(cell_features), self.line_leads.to_numpy())
        if config.head == "per_drug":
            self._head = {}
            for name, values in left.items():
                known = values.notna().to_numpy()
                chooses = config.alpha is None and known.sum() > 2
                one = RidgeCV(_ALPHAS) if chooses else Ridge(config.alpha or _ALPHAS[-1])
                self._head[name] = one.fit(lines[known], values.to_numpy()[known])
            return
        assert drug_features is not None
        self._drugs = _Components(drug_features, config.n_components, config.seed)
        self._features_of_drugs = drug_features
        drugs = self._drugs(drug_features)
        self._of_mean = RidgeCV(_OF_MEANS).fit(self._drugs.all(drug_features), self.drug_means.to_numpy())
        line, drug = np.nonzero(left.notna().to_numpy())
        values = left.to_numpy()[line, drug]
        if config.head == "mlp":
            self._head = self._fit_mlp(self._pairs(lines[line], drugs[drug]), values)
            return
        if self.alpha is None:
            self.alpha = self._choose_alpha(lines, drugs, np.column_stack([line, drug]), values)
        self._head = Ridge(self.alpha, solver="cholesky").fit(self._pairs(lines[line], drugs[drug]), values)

    def _pairs(self, lines: np.ndarray, drugs: np.ndarray) -> np.ndarray:
        if self.config.head == "mlp":
            return np.hstack([lines, drugs]).astype(np.float32)
        products = (lines[:, :, None] * drugs[:, None, :]).reshape(len(lines), -1)
        return np.hstack([lines, products]).astype(np.float32)

    def _fit_mlp(self, pairs: np.ndarray, left: np.ndarray) -> Any:
        from sklearn.neural_network import MLPRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        few = len(left) < 200  # early stopping would hold out a handful of pairs
        mlp = MLPRegressor(
            hidden_layer_sizes=(self.config.hidden,),
            alpha=1e-3,
            batch_size=min(256, len(left)),
            learning_rate_init=3e-3,
            max_iter=200,
            early_stopping=not few,
            n_iter_no_change=5,
            random_state=self.config.seed,
        )
        return make_pipeline(StandardScaler(), mlp).fit(pairs, left)

    def _choose_alpha(self, lines: np.ndarray, drugs: np.ndarray, places: np.ndarray, left: np.ndarray) -> float:
        """The penalty that predicts a fifth of the training lines best from the others."""
        from sklearn.linear_model import Ridge

        rng = np.random.default_rng(self.config.seed)
        held_out = np.isin(places[:, 0], rng.permutation(len(lines))[: max(1, len(lines) // 5)])
        if held_out.all() or not held_out.any():
            return _ALPHAS[-1]
        train, test = (rng.permutation(np.flatnonzero(part))[:_ROWS_TO_CHOOSE_BY] for part in (~held_out, held_out))
        pairs = {part: self._pairs(lines[places[rows, 0]], drugs[places[rows, 1]]) for part, rows in
                 (("train", train), ("test", test))}  # fmt: skip
        share = len(train) / len(left)
        errors = []
        for alpha in _ALPHAS:
            head = Ridge(alpha * share, solver="cholesky").fit(pairs["train"], left[train])
            errors.append(float(((head.predict(pairs["test"]) - left[test]) ** 2).mean()))
        return _ALPHAS[int(np.argmin(errors))]


def fit_drug_response(
    responses: pd.DataFrame,
    cell_features: pd.DataFrame,
    drug_features: pd.DataFrame | None = None,
    *,
    config: DrugResponseConfig | None = None,
) -> DrugResponse:
    """Fit a predictor of the response of cell lines to drugs.

    Parameters
    ----------
    responses
        One row per cell line, one column per drug, for example ln IC50; NaN where it was not measured or is held out.
        Lines and drugs without any value take no part.
    cell_features
        One row per line: embeddings, expression, methylation, tissue.
    drug_features
        One row per drug, see :func:`grnlab.data.fingerprints`; needed by all heads but ``"per_drug"``.
    config
        Head and sizes.

    Raises
    ------
    ValueError
        When nothing was measured, responses are infinite, no numbers or named twice, a line or drug has no features, or
        features hold NaN.

    Examples
    --------
    >>> from grnlab.tasks import drug_response_scores
    >>> rng = np.random.default_rng(0)
    >>> lines = pd.DataFrame(rng.normal(size=(30, 4)), index=[f"line{n}" for n in range(30)])
    >>> drugs = pd.DataFrame(rng.normal(size=(6, 3)), index=list("ABCDEF"))
    >>> responses = pd.DataFrame(lines.to_numpy()[:, :3] @ drugs.to_numpy().T, lines.index, drugs.index)
    >>> fitted = fit_drug_response(responses.iloc[:20], lines, drugs)
    >>> drug_response_scores(responses.iloc[20:], fitted.predict(lines.iloc[20:]))["pearson"] > 0.9
    True
    """
    config = config or DrugResponseConfig()
    responses = check_responses(responses).dropna(axis=0, how="all").dropna(axis=1, how="all")
    if responses.empty:
        msg = "responses holds no value to train on."
        raise ValueError(msg)
    if drug_features is None and config.head != "per_drug":
        msg = (
            f"head={config.head!r} needs drug_features, one row per drug (see grnlab.data.fingerprints); "
            "or head='per_drug'."
        )
        raise ValueError(msg)
    check_table(cell_features, "cell_features", rows=responses.index)
    if config.head != "per_drug" and drug_features is not None:
        check_table(drug_features, "drug_features", rows=responses.columns)
        drug_features = drug_features.loc[responses.columns]
    fitted = DrugResponse(config)
    fitted._fit(responses, cell_features.loc[responses.index], drug_features)
    return fitted
