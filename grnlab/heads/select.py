"""Choose attention heads by a gold standard, and say honestly what the choice is worth.

Heads are fitted on some regulators (or targets, groups, data sets) and scored on the others; beside that stand the
score of the unsupervised mean of all heads on the same pairs, and what fitting and scoring on the same pairs would have
claimed. Attention counts in units of an indifferent gene: times the number of genes of the map.

Shape suffixes: H heads, G genes of a map, R regulators, T targets.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from grnlab_kernels import auprc_from_histograms, gather_pairs, head_hist, pair_hist
from torch import Tensor

from grnlab.attention import AttentionMaps
from grnlab.evaluate import GoldStandard, Universe, candidate_universe, score_edges
from grnlab.heads.headset import HeadSet
from grnlab.heads.ridge import EmptySelectionError, RidgeProblem, ridge_problem

METHODS = ("ridge", "l1", "top")
SPLITS = ("regulator", "target", "both", "group", "dataset")


@dataclass(frozen=True)
class SelectionConfig:
    """How heads are chosen and tested.

    Attributes
    ----------
    method
        ``"ridge"`` (the classifier of scPRINT, positive coefficients), ``"l1"`` (the same with a lasso penalty) or
        ``"top"`` (the `n_heads` best by their AUPRC on the training pairs). Chosen heads count alike.
    split
        What is held out, a fold at a time: ``"regulator"``, ``"target"``, ``"both"`` (regulators and targets of a test
        pair both unseen), ``"group"`` (a cell type; its pairs are seen in others) or ``"dataset"``.
    n_folds
        Number of folds of genes.
    n_heads
        For ``"top"``.
    alpha, class_weight
        See :meth:`grnlab.heads.ridge.RidgeProblem.solve`. The classifier of the paper has ``class_weight=None``, which
        selects nothing where true edges are rare.
    symmetrize
        Score maps averaged with their transpose, as networks are by default. Heads are fitted on the maps as they are.
    seed
        Of the folds.
    """

    method: str = "ridge"
    split: str = "regulator"
    n_folds: int = 5
    n_heads: int = 5
    alpha: float | None = None
    class_weight: str | float | None = "balanced"
    symmetrize: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("split", SPLITS)):
            if getattr(self, name) not in known:
                msg = f"{name}={getattr(self, name)!r} is unknown; choose among {', '.join(known)}."
                raise ValueError(msg)
        for name in ("n_folds", "n_heads", "seed"):
            if not isinstance(value := getattr(self, name), int) or value < 0:
                msg = f"{name}={value!r} must be a whole number of at least 0."
                raise ValueError(msg)
        if self.n_folds < 2 or self.n_heads < 1:
            msg = f"n_folds={self.n_folds} must be at least 2, n_heads={self.n_heads} at least 1."
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class HeadSelection:
    """Chosen heads and what the choice is worth.

    Attributes
    ----------
    heads
        Fitted on every pair: for data and genes the gold standard does not know. On the pairs of that gold standard
        its networks look better than they are; ``held_out`` says how good they are.
    fold_heads
        Fold → heads fitted without it.
    held_out
        A row per group and fold: pairs, true ones, and AUPRC ratio of the heads fitted without them (``selected``), of
        the mean of all heads on the same pairs (``mean_of_heads``), and of heads fitted with them (``in_sample``). A
        fold whose training pairs select no head is scored with all of them.
    per_head
        A row per layer and head: ``auprc_ratio`` over all pairs, mean over groups, and ``share``, the share of folds
        that chose it.
    """

    heads: HeadSet
    fold_heads: Mapping[str, HeadSet]
    held_out: pd.DataFrame
    per_head: pd.DataFrame

    def summary(self) -> pd.Series:
        """Mean AUPRC ratios over groups and folds, gain of selection on unseen pairs, and what fitting in-sample adds.

        Every row counts alike. ``gain`` is that of ``selected`` over ``mean_of_heads``, ``optimism`` that of
        ``in_sample`` over ``selected``.
        """
        means = self.held_out[["selected", "mean_of_heads", "in_sample"]].mean()
        return pd.Series(
            {
                **means,
                "gain": means["selected"] - means["mean_of_heads"],
                "optimism": means["in_sample"] - means["selected"],
                "n_heads": len(self.heads.pairs()),
                "n_tests": len(self.held_out),
                "base_rate": self.held_out["base_rate"].mean(),
            }
        )

    def __repr__(self) -> str:
        found = self.summary()
        return (
            f"HeadSelection({self.heads.name}: AUPRC ratio on unseen pairs {found['selected']:.3f}, mean of heads "
            f"{found['mean_of_heads']:.3f}, in-sample {found['in_sample']:.3f}; base rate {found['base_rate']:.3g})"
        )


@dataclass(frozen=True)
class _Case:
    """One group of one data set: its map, universe, and fold of each regulator and target."""

    name: str
    dataset: str
    maps: AttentionMaps
    group: str
    rows: np.ndarray  # genes of the map
    universe: Universe
    regulator_fold: np.ndarray
    target_fold: np.ndarray


def select_heads(
    maps: AttentionMaps | Mapping[str, AttentionMaps], gold: GoldStandard, *, config: SelectionConfig | None = None
) -> HeadSelection:
    """Choose heads by a gold standard.

    Candidates are the gold standard's regulators × targets among the genes of a group (seen in at least 5 cells). A
    test pair whose reverse was a training candidate is left out.

    Parameters
    ----------
    maps
        Pooled attention; or name of a data set → its pooled attention, all of one model.
    gold
        True edges, named as the genes of the maps (see :meth:`grnlab.evaluate.GoldStandard.align`).
    config
        Method, split and settings.

    Raises
    ------
    ValueError
        When `gold` is none, data sets differ in their model, a split needs more groups or data sets than there are, or
        no edge of the gold standard lies among the genes.
    grnlab.heads.ridge.EmptySelectionError
        When no head is selected; the message says why.
    """
    if not isinstance(gold, GoldStandard):
        msg = (
            f"gold is a {type(gold).__name__}; expected a GoldStandard: read it with grnlab.io.read_gold(path), or "
            "make it with grnlab.GoldStandard.from_frame(table, name=...), then .align(model.vocab)."
        )
        raise ValueError(msg)
    config = config or SelectionConfig()
    datasets = {"": maps} if isinstance(maps, AttentionMaps) else dict(maps)
    if not datasets:
        msg = "maps is empty; give pooled attention, or name → pooled attention."
        raise ValueError(msg)
    spec = next(iter(datasets.values())).spec
    if any(other.spec != spec for other in datasets.values()):
        msg = "maps come of models with different attention; select heads for each model by itself."
        raise ValueError(msg)
    cases = list(_cases(datasets, gold, config))
    fitter = _Fitter(cases, config)
    everything = fitter.fit([np.ones(size, dtype=bool) for size in fitter.sizes])
    held_out, fold_heads = [], {}
    flat: dict[str, np.ndarray] = {}
    for fold, (train, tested) in _folds(cases, fitter.sizes, config).items():
        try:
            chosen_H = fitter.fit(train)
        except EmptySelectionError:  # nothing learned without these pairs: the unsupervised mean is what one would use
            chosen_H = torch.ones_like(everything)
        fold_heads[fold] = HeadSet(f"{config.method} without {fold}", chosen_H.reshape(spec.n_layers, spec.n_heads))
        for case, test_RT in tested:
            universe = case.universe
            truth = universe.truth_RT[test_RT]
            if not 0 < truth.sum() < len(truth):
                continue  # nothing to rank
            row = {"fold": fold, "group": case.name, "n_pairs": len(truth), "n_true": int(truth.sum())}
            row |= {"base_rate": float(truth.mean()), "n_heads": int((chosen_H > 0).sum())}
            for key, heads_H in (("mean_of_heads", torch.ones_like(chosen_H)), ("in_sample", everything)):
                if (known := f"{case.name}/{key}") not in flat:
                    flat[known] = _score(case, heads_H, config)
                row[key] = score_edges(truth, flat[known][test_RT]).auprc_ratio
            row["selected"] = score_edges(truth, _score(case, chosen_H, config)[test_RT]).auprc_ratio
            held_out.append(row)
    if not held_out:
        msg = f"no fold of split={config.split!r} holds true and other pairs; use fewer than n_folds={config.n_folds}."
        raise ValueError(msg)
    shares = torch.stack([heads.weights_LH.flatten() > 0 for heads in fold_heads.values()]).float().mean(0)
    layer, head = np.divmod(np.arange(spec.n_layers * spec.n_heads), spec.n_heads)
    per_head = pd.DataFrame(
        {"layer": layer, "head": head, "auprc_ratio": fitter.per_head().numpy(), "share": shares.numpy()}
    )
    origin = f"{config.method} on {gold.name}, split by {config.split}, seed {config.seed}"
    name = f"{int((everything > 0).sum())} heads by {config.method} on {gold.name}"
    heads = HeadSet(name, everything.reshape(spec.n_layers, spec.n_heads), origin)
    return HeadSelection(heads, fold_heads, pd.DataFrame(held_out), per_head)


class _Fitter:
    """Fits heads on any part of the pairs, from one pass over each map."""

    def __init__(self, cases: list[_Case], config: SelectionConfig) -> None:
        self.cases, self.config = cases, config
        self.sizes = [(int(case.regulator_fold.max()) + 1) * (int(case.target_fold.max()) + 1) for case in cases]
        self.problem = None if config.method == "top" else RidgeProblem.join(_problem(case) for case in cases)

    def fit(self, parts: list[np.ndarray]) -> Tensor:
        """Weights of the heads, 0 or 1, from the blocks of folds of each case that are True."""
        if self.problem is None:
            ratios_H = self.per_head(parts)
            chosen_H = torch.zeros_like(ratios_H)
            chosen_H[ratios_H.argsort(descending=True)[: self.config.n_heads]] = 1.0
            return chosen_H.float()
        penalty = "l1" if self.config.method == "l1" else "l2"
        alpha = self.config.alpha if self.config.alpha is not None else (0.1 if penalty == "l1" else 1.0)
        folds = np.flatnonzero(np.concatenate(parts)).tolist()
        coef_H = self.problem.solve(alpha, self.config.class_weight, folds=folds, penalty=penalty)
        if not (coef_H > 0).any():
            msg = f"method={self.config.method!r} with alpha={alpha} selects no head; lower alpha."
            raise EmptySelectionError(msg)
        return (coef_H > 0).float()

    def per_head(self, parts: list[np.ndarray] | None = None) -> Tensor:
        """AUPRC ratio of each head alone, mean over cases; on the blocks of folds that are True."""
        ratios = []
        for number, case in enumerate(self.cases):
            universe = case.universe
            if parts is not None:
                blocks = parts[number].reshape(case.target_fold.max() + 1, case.regulator_fold.max() + 1)
                if not blocks.any():
                    continue
                key_in, query_in = np.atleast_1d(blocks.any(axis=0)), np.atleast_1d(blocks.any(axis=1))
                universe = universe.part(
                    universe.regulators[key_in[case.regulator_fold]], universe.targets[query_in[case.target_fold]]
                )
            if 0 < universe.n_true < universe.n_candidates:
                ratios.append(_per_head(case, universe))
        if not ratios:
            msg = "no group has true and other pairs among its candidates, so heads cannot be ranked."
            raise EmptySelectionError(msg)
        return torch.stack(ratios).mean(0)


def _cases(datasets: Mapping[str, AttentionMaps], gold: GoldStandard, config: SelectionConfig) -> Iterator[_Case]:
    names = sorted({str(gene) for maps in datasets.values() for gene in maps.genes.index})
    rng = np.random.default_rng(config.seed)
    folds = {}
    for role, column, splits in (
        ("regulator", "source", ("regulator", "both")),
        ("target", "target", ("target", "both")),
    ):
        genes = [name for name in names if name in set(gold.edges[column])]
        n_folds = config.n_folds if config.split in splits else 1
        if len(genes) < n_folds:
            msg = f"n_folds={n_folds} is more than the {len(genes)} {role}s of {gold.name!r} among the genes."
            raise ValueError(msg)
        folds[role] = dict(zip(rng.permutation(genes), np.arange(len(genes)) % n_folds, strict=True))
    for dataset, maps in datasets.items():
        for group, pooled in maps.groups.items():
            rows = np.flatnonzero(pooled.seen_G)
            genes = maps.genes.index[rows].astype(str)
            universe = candidate_universe(gold, list(genes))
            yield _Case(
                "/".join(filter(None, (dataset, group))),
                *(dataset, maps, group, rows, universe),
                np.array([folds["regulator"][genes[gene]] for gene in universe.regulators]),
                np.array([folds["target"][genes[gene]] for gene in universe.targets]),
            )


def _folds(
    cases: list[_Case], sizes: list[int], config: SelectionConfig
) -> dict[str, tuple[list[np.ndarray], list[tuple[_Case, np.ndarray]]]]:
    """Fold → blocks to train on, and cases with the pairs to test on."""
    found: dict[str, tuple[list[np.ndarray], list[tuple[_Case, np.ndarray]]]] = {}
    if config.split in ("group", "dataset"):
        label = [case.name if config.split == "group" else case.dataset for case in cases]
        if len(set(label)) < 2:
            msg = f"split={config.split!r} needs at least two {config.split}s; there is one. Split by 'regulator'."
            raise ValueError(msg)
        for one in dict.fromkeys(label):
            train = [np.full(size, own != one) for size, own in zip(sizes, label, strict=True)]
            tested = [(case, case.universe.candidate_RT) for case, own in zip(cases, label, strict=True) if own == one]
            found[one] = (train, tested)
        return found
    for fold in range(config.n_folds):
        parts: list[np.ndarray] = []
        tested = []
        for case in cases:
            key, query = np.arange(case.regulator_fold.max() + 1), np.arange(case.target_fold.max() + 1)
            key_out = key == fold if config.split != "target" else np.zeros(len(key), dtype=bool)
            query_out = query == fold if config.split != "regulator" else np.zeros(len(query), dtype=bool)
            parts.append((~query_out[:, None] & ~key_out).ravel())
            regulator_out, target_out = key_out[case.regulator_fold], query_out[case.target_fold]
            # a side that is not held out is all test
            test_R = np.ones_like(regulator_out) if config.split == "target" else regulator_out
            test_T = np.ones_like(target_out) if config.split == "regulator" else target_out
            test_RT = test_R[:, None] & test_T[None, :]
            tested.append((case, test_RT & case.universe.candidate_RT & ~_reversed(case, regulator_out, target_out)))
        found[f"fold {fold + 1}"] = (parts, tested)
    return found


def _reversed(case: _Case, regulator_out: np.ndarray, target_out: np.ndarray) -> np.ndarray:
    """Pairs whose reverse is among the training candidates."""
    universe = case.universe
    trains_R, trains_T = universe.regulators[~regulator_out], universe.targets[~target_out]
    return np.isin(universe.regulators, trains_T)[:, None] & np.isin(universe.targets, trains_R)[None, :]


def _queries_keys(case: _Case) -> tuple[Tensor, Tensor]:
    pooled, rows = case.maps.group(case.group), torch.from_numpy(case.rows)
    q_HGD, k_HGD = (x_LHGD.flatten(0, 1).index_select(1, rows).float() for x_LHGD in (pooled.q_LHGD, pooled.k_LHGD))
    return q_HGD.contiguous(), k_HGD.contiguous()


def _problem(case: _Case) -> RidgeProblem:
    universe = case.universe
    regulator_E, target_E = (torch.from_numpy(genes) for genes in universe.pairs())
    key, query, fold, query_fold = (
        torch.from_numpy(np.asarray(x, dtype=np.int64))
        for x in (universe.regulators, universe.targets, case.regulator_fold, case.target_fold)
    )
    problem = ridge_problem(
        *_queries_keys(case),
        *(target_E, regulator_E),
        scale=case.maps.spec.scale,
        kind=case.maps.spec.arithmetic,
        query=query,
        key=key,
        fold=fold,
        query_fold=query_fold,
    )
    return problem.scaled(len(case.rows))


def _per_head(case: _Case, universe: Universe) -> Tensor:
    q_HGD, k_HGD = _queries_keys(case)
    map_of: dict[str, Any] = {"scale": case.maps.spec.scale, "kind": case.maps.spec.arithmetic}
    targets, regulators = torch.from_numpy(universe.targets), torch.from_numpy(universe.regulators)
    every = head_hist(q_HGD, k_HGD, query=targets, key=regulators, **map_of)
    regulator_E, target_E = (torch.from_numpy(genes) for genes in universe.pairs())
    positives = pair_hist(gather_pairs(q_HGD, k_HGD, target_E, regulator_E, **map_of))
    return auprc_from_histograms(every, positives) / universe.base_rate


def _score(case: _Case, heads_H: Tensor, config: SelectionConfig) -> np.ndarray:
    """Score of every regulator and target, shape (R, T), from the map of some heads."""
    universe, spec = case.universe, case.maps.spec
    score_TR = np.empty((len(universe.targets), len(universe.regulators)), dtype=np.float32)
    weights_LH = heads_H.reshape(spec.n_layers, spec.n_heads)
    for start, panel in case.maps.tiles(case.group, weights_LH, rows=case.rows, symmetrize=config.symmetrize):
        first, end = np.searchsorted(universe.targets, [start, start + len(panel)])
        score_TR[first:end] = panel.numpy()[universe.targets[first:end] - start][:, universe.regulators]
    return score_TR.T
