"""What knowledge of gold standards adds to the read-outs of a model, and what it is alone.

Three settings, none of which ever sees an edge of a regulator it scores in the gold standard that judges:

``translator``
    Other regulators of the judge are known (how often each gene is a target of them), and so are other gold standards,
    without the judged regulators. Logistic regression, fitted on training cells, one per fold of regulators.
``consensus_known``
    The judge is unknown, and so are gold standards that share a fifth of their edges with it; every edge of the others
    is known.
``consensus_popularity``
    As before, and of the others no edge of a regulator that is scored, or of its fold, is known: only how often genes
    are targets.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

import anndata as ad
import numpy as np

from grnlab.attention import AttentionMaps, PairScores
from grnlab.backbones.base import Backbone
from grnlab.benchmark.elsewhere import Elsewhere
from grnlab.benchmark.task import NotApplicableError, Task
from grnlab.evaluate import GoldStandard
from grnlab.heads import (
    PairFeatures,
    Popularity,
    Translator,
    TranslatorConfig,
    combine_scores,
    fit_translator,
    known_scores,
    pair_features,
)

READ_OUTS = ("attention", "cosine_centred", "consensus")
TRANSLATORS = {"translator": READ_OUTS, "translator_popularity": ()}
"""Method → read-outs that are features beside the popularity of genes."""
_FEWEST_EDGES = 10
_LABELS = ("omnipath", "trrust", "dorothea_abc", "encode")  # gold standards with edges enough among blood cells
_CONFIG = TranslatorConfig(negatives=10, n_folds=0)


@dataclass(frozen=True)
class Recipe:
    """Members of a combination without any fitting: of the model, and of gold standards that are no kin of the judge.

    Attributes
    ----------
    consensus, edges, popularity, factor
        The model's consensus; known edges; how often genes are known targets; whether the regulator is a transcription
        factor.
    """

    consensus: bool = False
    edges: bool = False
    popularity: bool = False
    factor: bool = False


COMBINED = {
    "consensus_known": Recipe(consensus=True, edges=True),
    "known_edges": Recipe(edges=True, popularity=True),
    "consensus_popularity": Recipe(consensus=True, popularity=True, factor=True),
    "other_popularity": Recipe(popularity=True, factor=True),
}


def fit_for(task: Task, method: str) -> list[Translator]:
    """Translators for each fold of the regulators of a task, fitted on training cells without these regulators.

    Parameters
    ----------
    task
        One of a method that runs per gold standard.
    method
        One of :data:`TRANSLATORS`.
    """
    elsewhere = task.elsewhere()
    features = elsewhere.get(("features", method), lambda: _training_features(elsewhere, method))
    teachers = elsewhere.teachers()
    labels = [teachers[name] for name in _LABELS if name in teachers]
    found: list[Translator] = []
    for fold in range(Popularity(labels).n_folds):
        key = ("translator", method, fold)  # the judge takes part in none of them
        found.append(elsewhere.get(key, partial(_fit, features, labels, teachers, fold)))
    return found


def translate(task: Task, method: str) -> PairScores:
    """Scores of the regulators of a task × its genes; parameters as in :func:`fit_for`."""
    translators, gold = fit_for(task, method), task.gold
    assert gold is not None
    features = _features(task.shared.get("read-outs", lambda: _read_outs(task)), TRANSLATORS[method])
    group = features.groups[0]
    ranks_FRT = task.shared.get(("features", method), lambda: features.block(group))
    known = replace(features, known=_known(gold, task.elsewhere().teachers()))
    block_FRT, seen = np.concatenate([ranks_FRT, known.popularity(group)]), features.seen(group)
    names = features.genes.index[features.regulators]
    fold_R = Popularity((gold,)).fold(names)
    score_RT = np.empty(block_FRT.shape[1:])
    for fold, translator in enumerate(translators):
        rows = fold_R == fold
        score_RT[rows] = np.tensordot(translator.coef_F, block_FRT[:, rows], axes=1) + translator.intercept
    score_RT[~seen[features.regulators]] = np.nan
    score_RT[:, ~seen[features.targets]] = np.nan
    return replace(_first(features), groups={group: score_RT}, method=method)


def combine(task: Task, method: str) -> PairScores:
    """Combined scores of the regulators of a task × its genes.

    Parameters
    ----------
    task
        One of a method that runs per gold standard.
    method
        One of :data:`COMBINED`.
    """
    recipe, gold = COMBINED[method], task.gold
    assert gold is not None
    strangers = task.elsewhere().strangers(gold)
    consensus = task.shared.get("read-outs", lambda: _read_outs(task))[-1]
    members = [consensus] if recipe.consensus else []
    members += [known_scores(consensus, strangers)] if recipe.edges else []
    members += [known_scores(consensus, strangers, of="popularity")] if recipe.popularity else []
    members += [_is_factor(consensus)] if recipe.factor else []
    return combine_scores(members, how="mean_score")


def read_outs(
    cells: ad.AnnData,
    model: Backbone,
    maps: AttentionMaps,
    regulators: Collection[str],
    *,
    groupby: str | None = None,
) -> list[PairScores]:
    """Read-outs of regulators × all genes of attention maps, named as in :data:`READ_OUTS`.

    Parameters
    ----------
    cells, model, maps
        Counts, and the maps the model made of them.
    regulators
        Names; those the maps lack are left out.
    groupby
        The column of ``cells.obs`` the maps were grouped by.
    """
    import grnlab as gl

    if groupby is not None:
        cells = cells[cells.obs[groupby].isin(list(maps.groups))]
    known = set(regulators)
    cosine = gl.tl.read_out(
        cells,
        model,
        "cosine_centred",
        groupby=groupby,
        genes=list(maps.genes.index),
        regulators=[name for name in maps.genes.index if name in known],
        max_cells=None,
        min_cells=1,
    )
    heads = replace(cosine, groups={name: _attention(maps, name, cosine) for name in maps.groups}, method="attention")
    return [heads, cosine, replace(combine_scores([heads, cosine]), method="consensus")]


def _read_outs(task: Task) -> list[PairScores]:
    return read_outs(task.cells, task.model(), task.maps(), [task.genes[number] for number in task.every_regulator])


def _features(found: list[PairScores], of: Collection[str]) -> PairFeatures:
    chosen = [_is_factor(found[0]), *(one for one in found if one.method in of)]
    return pair_features(chosen, regulators="all", expression=False)


def _training_features(elsewhere: Elsewhere, method: str) -> PairFeatures:
    def read() -> list[PairScores]:
        cells, maps = elsewhere.cells()
        known = {name for gold in elsewhere.teachers().values() for name in gold.edges["source"]}
        return read_outs(cells, elsewhere.model(), maps, known, groupby="cell_type")

    return _features(elsewhere.get("read-outs", read), TRANSLATORS[method])


def _fit(
    features: PairFeatures, labels: list[GoldStandard], teachers: dict[str, GoldStandard], fold: int
) -> Translator:
    """Translator of regulators that are not in a fold."""
    examples = {}
    for gold in labels:
        known = _known(gold, teachers)
        names = gold.edges["source"].unique()
        out = names[known["judge"].fold(names) == fold]
        of_any = sorted({name for one in teachers.values() for name in one.edges["source"]})
        every = np.array(of_any, dtype=object)[known["judge"].fold(of_any) == fold]
        left = gold.edges[~gold.edges["source"].isin(out)].reset_index(drop=True)
        if len(left) < _FEWEST_EDGES:
            continue
        kept = {name: one.leave_out(every) for name, one in known.items()}
        examples[gold.name] = replace(features, known=kept), replace(gold, edges=left)
    if not examples:
        msg = "too few edges of other regulators to learn from"
        raise NotApplicableError(msg)
    return fit_translator(examples, config=_CONFIG)


def _known(judge: GoldStandard, teachers: dict[str, GoldStandard]) -> dict[str, Popularity]:
    others = tuple(gold for name, gold in teachers.items() if name != judge.name)
    return {"judge": Popularity((judge,))} | ({"others": Popularity(others)} if others else {})


def _is_factor(like: PairScores) -> PairScores:
    """Whether the regulator of a pair is a transcription factor."""
    factor_R = like.genes["is_tf"].to_numpy(dtype=np.float32)[like.regulators]
    groups = {name: np.where(np.isnan(one), np.nan, factor_R[:, None]) for name, one in like.groups.items()}
    return replace(like, groups=groups, method="regulator is a transcription factor", signed=False, provenance={})


def _first(features: PairFeatures) -> PairScores:
    first = features.sources[0]
    assert isinstance(first, PairScores)
    return first


def _attention(maps: AttentionMaps, group: str, like: PairScores) -> np.ndarray:
    """Symmetrised mean of the heads over the pairs of other scores, NaN where those are."""
    rows = np.flatnonzero(maps.group(group).count_G.numpy() > 0)
    place = np.full(len(maps.genes), -1)
    place[rows] = np.arange(len(rows))
    regulators, targets = (
        place[maps.genes.index.get_indexer(like.genes.index[numbers])] for numbers in (like.regulators, like.targets)
    )
    found = maps.dense(group, rows=rows, symmetrize=True)[np.ix_(targets, regulators)].T.copy()
    found[(regulators[:, None] < 0) | (targets < 0) | np.isnan(like.group(group))] = np.nan
    return found
