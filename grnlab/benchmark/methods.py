"""Methods of the benchmark, by name: controls, expression, the model's read-outs, and supervised ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from grnlab.attention import READOUTS, PairScores
from grnlab.attention.read_out import SIGNED
from grnlab.benchmark.task import NotApplicableError, Task
from grnlab.benchmark.translate import COMBINED, TRANSLATORS, combine, fit_for, translate
from grnlab.evaluate import BASELINES, SLOW_BASELINES, degree_only, pidc, target_popularity
from grnlab.evaluate.baselines import Baseline

Score = Callable[[Task], np.ndarray]


@dataclass(frozen=True)
class Method:
    """One way to score the pairs of a task.

    Attributes
    ----------
    name
        On the command line and in tables.
    kind
        ``"control"``, ``"expression"``, ``"model"``, ``"supervised"`` (fitted on other cells by another gold
        standard), ``"knowledge"`` (of other gold standards), or ``"popularity"`` (fitted on the judging gold standard
        itself, by folds of regulators or pairs).
    about
        One line for the report.
    score
        Task → (regulators, targets), higher is likelier; NaN counts as lowest.
    per_gold
        Runs for each gold standard by itself.
    slow
        Left out unless asked for by name or with ``all``.
    symmetric
        Both directions score alike.
    reversible
        They do not, and the other one costs nothing more, so it is judged too.
    prepare
        Work done before the method is timed: what is fitted once, on other cells, and kept.
    """

    name: str
    kind: str
    about: str
    score: Score
    per_gold: bool = False
    slow: bool = False
    symmetric: bool = True
    reversible: bool = False
    prepare: Callable[[Task], object] | None = None


def _pairs(task: Task, whole: np.ndarray) -> np.ndarray:
    return whole[np.ix_(task.regulators, task.targets)]


def _baseline(function: Baseline, *, seeded: bool = False) -> Score:
    def score(task: Task) -> np.ndarray:
        options = {"seed": task.seed} if seeded else {}
        return function(task.expression, task.regulators, task.targets, **options)

    return score


def _attention(kind: str = "model", **options: bool) -> Score:
    return lambda task: _pairs(task, task.dense(kind, **options))


def _cosine(task: Task) -> np.ndarray:
    import torch

    model = task.model()
    if not hasattr(model, "gene_embedding"):
        msg = f"{model.name} has no embedding per gene"
        raise NotApplicableError(msg)
    token = [model.vocab.token(gene) for gene in task.genes]
    vector = torch.nn.functional.normalize(model.gene_embedding.weight.detach()[token], dim=-1)
    return _pairs(task, (vector @ vector.T).numpy())


def _selected_heads(task: Task) -> np.ndarray:
    return _pairs(task, task.dense(heads=task.heads().weights_LH, symmetrize=True))


def _selected_consensus(task: Task) -> np.ndarray:
    """Mean rank of the selected heads and the centred cosine; pairs that one leaves out come last there."""
    members = _selected_heads(task), _read_out("cosine_centred", max_cells=None)(task)
    ranks = [rankdata(np.nan_to_num(scores, nan=-np.inf)) for scores in members]
    return np.mean(ranks, axis=0).reshape(members[0].shape)


def _translator(name: str) -> Score:
    return lambda task: _placed(task, translate(task, name))


def _strangers(task: Task) -> object:
    assert task.gold is not None  # a method that runs per gold standard
    return task.elsewhere().strangers(task.gold)


def _combined(name: str) -> Score:
    return lambda task: _placed(task, combine(task, name))


def _popularity(function: Callable[..., np.ndarray]) -> Score:
    return lambda task: function(task.universe, seed=task.seed)


def _placed(task: Task, found: PairScores) -> np.ndarray:
    """Strength of the pairs of the task, NaN for genes that the scores leave out."""
    row, column = (
        pd.Index(found.genes.index[rows]).get_indexer([task.genes[gene] for gene in genes])
        for rows, genes in ((found.regulators, task.regulators), (found.targets, task.targets))
    )
    scores = found.strength(next(iter(found.groups)))[np.ix_(row, column)]
    scores[row < 0], scores[:, column < 0] = np.nan, np.nan
    return scores


def _read_out(name: str, *, max_cells: int | None = 200, symmetrize: bool = False) -> Score:
    def score(task: Task) -> np.ndarray:
        import grnlab as gl

        chosen = [task.regulators, task.targets]
        if symmetrize:  # needs the score of the other direction
            chosen = [np.union1d(*chosen)] * 2
        regulators, targets = ([task.genes[gene] for gene in one] for one in chosen)
        found = gl.tl.read_out(
            task.cells,
            task.model(),
            name,
            genes=list(task.genes),
            regulators=regulators,
            targets=targets,
            max_cells=max_cells,
            min_cells=1,
            seed=task.seed,
        )
        return _placed(task, found.symmetrised() if symmetrize else found)

    return score


def _methods() -> Iterator[Method]:
    yield Method("random", "control", "numbers drawn at random", _baseline(BASELINES["random"], seeded=True))
    yield Method("mean_expression", "control", "mean × mean", _baseline(BASELINES["mean_expression"]))
    yield Method("variance_expression", "control", "variance × variance", _baseline(BASELINES["variance_expression"]))
    yield Method("untrained", "control", "attention of a model of the same shape with random weights, symmetrised",
                 _attention("untrained", symmetrize=True))  # fmt: skip
    yield Method("shuffled_genes", "control", "attention, symmetrised, when genes have exchanged their names",
                 _attention("shuffled", symmetrize=True))  # fmt: skip
    yield Method("embedding_cosine", "model", "cosine of the gene embeddings: no cell is read", _cosine)
    yield Method("degree_only", "popularity", "log odds of the degrees in other pairs of the gold standard, 5 folds",
                 _popularity(degree_only), per_gold=True, symmetric=False)  # fmt: skip
    yield Method("target_popularity", "popularity", "targets of other regulators in the gold standard, 5 folds",
                 _popularity(target_popularity), per_gold=True, symmetric=False)  # fmt: skip
    for name in ("pearson", "spearman", "ridge_partial_correlation", "mutual_information"):
        yield Method(name, "expression", name.replace("_", " "), _baseline(BASELINES[name]))
    yield Method("pidc", "expression", "partial information decomposition in context", _baseline(pidc))
    yield Method("genie3", "expression", "random forests, 100 trees",
                 _baseline(SLOW_BASELINES["genie3"], seeded=True), slow=True, symmetric=False)  # fmt: skip
    yield Method("grnboost2", "expression", "gradient boosting, by rustscenic",
                 _baseline(SLOW_BASELINES["grnboost2"], seeded=True), symmetric=False)  # fmt: skip
    yield Method("regdiffusion", "expression", "diffusion model, 1,000 steps",
                 _baseline(SLOW_BASELINES["regdiffusion"], seeded=True), slow=True, symmetric=False)  # fmt: skip
    yield Method("attention", "model", "mean of all heads, symmetrised: the default", _attention(symmetrize=True))
    yield Method("attention_apc", "model", "the same with average product correction",
                 _attention(symmetrize=True, apc=True))  # fmt: skip
    yield Method("attention_directed", "model", "as computed: what the target attends to", _attention(),
                 symmetric=False, reversible=True)  # fmt: skip
    for name in ("cosine_centred", "consensus"):
        yield Method(name, "model", READOUTS[name], _read_out(name, max_cells=None))
    for name in ("attention_cells", "value_norm", "attention_gradient", *SIGNED):
        yield Method(name, "model", READOUTS[name], _read_out(name), slow=True, symmetric=False)
    yield Method("jacobian_symmetrised", "model", "jacobian, mean of both directions",
                 _read_out("jacobian", symmetrize=True), slow=True)  # fmt: skip
    yield Method(
        "selected_heads",
        "supervised",
        "heads selected on sorted blood cells of the training set by another gold standard, without the judging edges",
        _selected_heads,
        per_gold=True,
        prepare=Task.heads,
    )
    yield Method("selected_consensus", "supervised", "mean rank of selected_heads and cosine_centred",
                 _selected_consensus, per_gold=True, prepare=Task.heads)  # fmt: skip
    about = "popularity of both genes among other regulators of the judge and in other gold standards"
    for name, of in TRANSLATORS.items():
        yield Method(name, "popularity", ", ".join((about, *of)) + ": logistic regression of training cells",
                     _translator(name), per_gold=True, symmetric=False,
                     prepare=partial(fit_for, method=name))  # fmt: skip
    for name, recipe in COMBINED.items():
        members = ", ".join(key for key, used in vars(recipe).items() if used)
        yield Method(name, "knowledge", f"mean of {members}: gold standards that share few edges with the judge",
                     _combined(name), per_gold=True, symmetric=False,
                     prepare=_strangers)  # fmt: skip


METHODS: dict[str, Method] = {method.name: method for method in _methods()}
FAST = tuple(method.name for method in METHODS.values() if not method.slow)
