"""Fit a translator on gold standards, and say what it is worth on regulators and data sets it has not seen.

Beside its score stands that of the unsupervised mean of the heads on the same pairs, and what fitting and scoring on
the same pairs would have claimed.

Shape suffixes: F features, R regulators, T targets.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from grnlab._provenance import versions
from grnlab.evaluate import GoldStandard, candidate_universe, score_edges
from grnlab.heads.features import ATTENTION, PairFeatures
from grnlab.heads.translator import COLUMNS, Translator, weights_of

_FEWEST_EDGES = 10  # true edges of a group, below which it teaches and tells nothing


@dataclass(frozen=True)
class TranslatorConfig:
    """How a translator is fitted and tested.

    Attributes
    ----------
    l2
        Penalty on the squared coefficients, against a mean loss of each group in which true and other pairs weigh the
        same in sum.
    negatives
        Pairs that are not true drawn per true one of a group, to fit on.
    n_folds
        Folds of regulators, and of targets; 0 for no test, where one is made elsewhere.
    seed
        Of folds and draws.
    """

    l2: float = 0.01
    negatives: int = 20
    n_folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("negatives", "n_folds", "seed"):
            if not isinstance(value := getattr(self, name), int) or value < 0:
                msg = f"{name}={value!r} must be a whole number of at least 0."
                raise ValueError(msg)
        if not 0 < self.l2 < np.inf or self.negatives < 1 or self.n_folds == 1:
            msg = (
                f"l2={self.l2} must be above 0, negatives={self.negatives} at least 1, n_folds={self.n_folds} 0, or "
                "2 or more."
            )
            raise ValueError(msg)


@dataclass(frozen=True)
class _Case:
    """One group of one data set: features and truth of its candidate pairs."""

    dataset: str
    group: str
    x_FRT: np.ndarray
    truth_RT: np.ndarray
    candidate_RT: np.ndarray
    regulators: np.ndarray  # names
    targets: np.ndarray
    fit_RT: np.ndarray  # pairs drawn to fit on


def fit_translator(
    examples: Mapping[str, tuple[PairFeatures, GoldStandard]], *, config: TranslatorConfig | None = None
) -> Translator:
    """Fit a translator on the gold standards of data sets, and test it on regulators and data sets left out.

    Candidates are the regulators × targets of a gold standard among the observed genes of a group. Evaluate it on data
    sets and gold standards that are not among the examples. In tests by genes, pairs whose reverse was a training
    candidate are left out.

    Parameters
    ----------
    examples
        Name of a data set → its features (:func:`grnlab.heads.pair_features`) and true edges, named as its genes are
        (:meth:`grnlab.evaluate.GoldStandard.align`). All with the same features. The same data set may be given twice,
        under two names, with two gold standards.
    config
        Penalty, draws, folds.

    Raises
    ------
    ValueError
        When examples differ in their features, there are fewer regulators than folds, or no group has ten true edges.

    Examples
    --------
    >>> import grnlab as gl
    >>> from grnlab.evaluate import GoldStandard
    >>> from grnlab.heads import pair_features
    >>> data = gl.datasets.planted(n_cells=60)
    >>> model = gl.tl.adapt(data.adata, tfs=data.tfs, max_steps=2, progress=False)
    >>> features = pair_features(gl.tl.attention(data.adata, model, genes="all"))
    >>> gold = GoldStandard.from_frame(data.edges, name="planted")
    >>> gl.tl.fit_translator({"planted": (features, gold)}).summary().index.tolist()
    ['regulator', 'regulator and target']
    """
    config = config or TranslatorConfig()
    if not examples:
        msg = "examples is empty; give name → (features, gold standard)."
        raise ValueError(msg)
    names = next(iter(examples.values()))[0].names
    for dataset, (features, _) in examples.items():
        if features.names != names:
            msg = f"example {dataset!r} has other features than the first; make all with the same sources and options."
            raise ValueError(msg)
    cases = [case for name, example in examples.items() for case in _cases(name, *example, config)]
    if not cases:
        msg = f"no group of the examples has {_FEWEST_EDGES} true edges; are the genes named alike?"
        raise ValueError(msg)
    coef_F, intercept = _fit([(case, case.fit_RT) for case in cases], config)
    held_out = [
        {"split": split, "fold": fold, **row}
        for split, fold, train, tested in (_folds(cases, config) if config.n_folds else ())
        for row in _test(train, tested, coef_F, names, config)
    ]
    provenance = {
        "settings": asdict(config),
        "examples": {
            name: {"gold": gold.name, "groups": [c.group for c in cases if c.dataset == name]}
            for name, (_, gold) in examples.items()
        },
        "n_true": int(sum(case.truth_RT.sum() for case in cases)),
        "weights_sha256": sorted({one for features, _ in examples.values() for one in weights_of(features)}),
        "versions": versions(),
    }
    return Translator(names, coef_F, intercept, pd.DataFrame(held_out, columns=COLUMNS), provenance)


def _cases(dataset: str, features: PairFeatures, gold: GoldStandard, config: TranslatorConfig) -> Iterator[_Case]:
    rng = np.random.default_rng(config.seed)
    genes = [str(gene) for gene in features.genes.index]
    for group in features.groups:
        seen = features.seen(group)
        allowed = {genes[row] for row in features.regulators if seen[row]} & set(gold.edges["source"])
        reached = {genes[row] for row in features.targets if seen[row]} & set(gold.edges["target"])
        if not (gold.edges["source"].isin(allowed) & gold.edges["target"].isin(reached)).any():
            continue
        universe = candidate_universe(gold, genes, regulators=allowed, targets=reached)
        if universe.n_true < _FEWEST_EDGES:
            continue
        place = np.ix_(
            np.arange(len(features.names)),
            np.searchsorted(features.regulators, universe.regulators),
            np.searchsorted(features.targets, universe.targets),
        )
        others = np.flatnonzero(universe.candidate_RT & ~universe.truth_RT)
        drawn = rng.choice(others, min(len(others), config.negatives * universe.n_true), replace=False)
        fit_RT = universe.truth_RT.copy()
        fit_RT.ravel()[drawn] = True
        names = np.array(genes, dtype=object)
        yield _Case(
            dataset, group, features.block(group)[place], universe.truth_RT, universe.candidate_RT,
            names[universe.regulators], names[universe.targets], fit_RT,
        )  # fmt: skip


Part = tuple[_Case, np.ndarray]  # a case and which of its pairs


def _folds(cases: list[_Case], config: TranslatorConfig) -> Iterator[tuple[str, str, list[Part], list[Part]]]:
    """Split, fold, pairs to fit on, pairs to test on."""
    regulators = _gene_folds([case.regulators for case in cases], "regulators", config)
    targets = _gene_folds([case.targets for case in cases], "targets", config)
    for number, (out, out_too) in enumerate(zip(regulators, targets, strict=True), start=1):
        yield "regulator", f"fold {number}", *_parts(cases, cases, out)
        yield "regulator and target", f"fold {number}", *_parts(cases, cases, out, out_too)
    datasets = list(dict.fromkeys(case.dataset for case in cases))
    for one in datasets if len(datasets) > 1 else ():
        others, own = ([case for case in cases if (case.dataset == one) == wanted] for wanted in (False, True))
        yield "dataset", one, [(c, c.fit_RT) for c in others], [(c, c.candidate_RT) for c in own]
        for number, out in enumerate(regulators, start=1):
            yield "dataset and regulator", f"{one}, fold {number}", *_parts(others, own, out)


def _gene_folds(of_cases: list[np.ndarray], role: str, config: TranslatorConfig) -> list[set[str]]:
    names = sorted({str(name) for names in of_cases for name in names})
    if len(names) < config.n_folds:
        msg = f"n_folds={config.n_folds} is more than the {len(names)} {role} of the gold standards; lower it."
        raise ValueError(msg)
    order = np.random.default_rng(config.seed).permutation(names)
    return [set(order[number :: config.n_folds]) for number in range(config.n_folds)]


def _parts(
    fitted: list[_Case], tested: list[_Case], regulators: set[str], targets: set[str] | None = None
) -> tuple[list[Part], list[Part]]:
    """Pairs to fit on, without some regulators and targets, and pairs of these to test on.

    A pair whose reverse is a candidate to fit on, in whatever case, is not tested: most features are much alike.
    """

    def out(case: _Case) -> tuple[np.ndarray, np.ndarray]:
        return np.isin(case.regulators, list(regulators)), np.isin(case.targets, list(targets or ()))

    fit, test = [], []
    seen_regulators: set[str] = set()
    seen_targets: set[str] = set()
    for case in fitted:
        out_R, out_T = out(case)
        fit.append((case, case.fit_RT & ~out_R[:, None] & ~out_T))
        seen_regulators.update(case.regulators[~out_R])
        seen_targets.update(case.targets[~out_T])
    for case in tested:
        out_R, out_T = out(case)
        reverse_R = np.isin(case.regulators, list(seen_targets))
        reverse_T = np.isin(case.targets, list(seen_regulators))
        tested_T = out_T if targets is not None else np.ones_like(out_T)
        inside_RT = case.candidate_RT & out_R[:, None] & tested_T
        test.append((case, inside_RT & ~(reverse_R[:, None] & reverse_T)))
    return fit, test


def _fit(parts: list[Part], config: TranslatorConfig) -> tuple[np.ndarray, float]:
    """Coefficients and intercept; groups weigh alike, and within a group true pairs as much as the others."""
    from sklearn.linear_model import LogisticRegression

    features, labels, weights = [], [], []
    for case, pairs_RT in parts:
        truth = case.truth_RT[pairs_RT]
        if not 0 < truth.sum() < len(truth):
            continue
        features.append(case.x_FRT[:, pairs_RT].T)
        labels.append(truth)
        weights.append(np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum()))
    if not features:
        msg = "no group has true and other pairs to fit on; use fewer folds, or other regulators."
        raise ValueError(msg)
    model = LogisticRegression(C=1 / (config.l2 * len(features)), max_iter=1_000)
    model.fit(np.concatenate(features), np.concatenate(labels), sample_weight=np.concatenate(weights))
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])


def _test(
    train: list[Part], tested: list[Part], in_sample_F: np.ndarray, names: tuple[str, ...], config: TranslatorConfig
) -> Iterator[dict[str, Any]]:
    coef_F, _ = _fit(train, config)
    mean_F = np.array([name == ATTENTION for name in names], dtype=np.float64)
    for case, pairs_RT in tested:
        truth = case.truth_RT[pairs_RT]
        if not 0 < truth.sum() < len(truth):
            continue  # nothing to rank
        scores = {"translator": coef_F, "in_sample": in_sample_F}
        if mean_F.any():
            scores["mean_of_heads"] = mean_F
        score_RT = {key: np.tensordot(weights_F, case.x_FRT, axes=1) for key, weights_F in scores.items()}
        row = {"dataset": case.dataset, "group": case.group, "n_pairs": len(truth), "n_true": int(truth.sum())}
        row |= {"base_rate": float(truth.mean())}
        row |= {key: score_edges(truth, score[pairs_RT]).auprc_ratio for key, score in score_RT.items()}
        for column, key in (("translator_per_regulator", "translator"), ("mean_per_regulator", "mean_of_heads")):
            if key in score_RT:
                row[column] = _per_regulator(case.truth_RT, score_RT[key], pairs_RT)
        yield row


def _per_regulator(truth_RT: np.ndarray, score_RT: np.ndarray, pairs_RT: np.ndarray) -> float:
    """Mean over regulators of the AUROC among their pairs; NaN when none has true and other ones."""
    found = []
    for truth, score, pairs in zip(truth_RT, score_RT, pairs_RT, strict=True):
        true = truth[pairs]
        n_true, n_other = int(true.sum()), int((~true).sum())
        if n_true and n_other:
            rank = rankdata(score[pairs])
            found.append((rank[true].sum() - n_true * (n_true + 1) / 2) / (n_true * n_other))
    return float(np.mean(found)) if found else float("nan")
