"""What gold standards know: how often genes are regulated, and, from other gold standards, which pairs are edges.

Much of what a gold standard holds is which genes were studied: a gene with many known regulators is the target of one
more, and is, as a regulator, one with many known targets. That is no finding about cells, but who wants the likeliest
edges should use it, and whoever claims more has to stand beside it.
"""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from grnlab.attention import PairScores
from grnlab.evaluate import GoldStandard

OF = ("edges", "popularity")


@dataclass(frozen=True, eq=False)
class Popularity:
    """Number of known regulators of genes, counted without the regulators that are asked about.

    Regulators are in folds by their names, the same ones everywhere: a pair is told nothing of the edges of its own
    regulator, nor of those of the regulators in its fold. An edge known in reverse (target → regulator) counts for the
    regulator alone, where it is the same for all targets.

    Attributes
    ----------
    golds
        Gold standards, which count alike.
    without
        Regulators whose edges are not counted at all.
    n_folds
        Folds of regulators.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"source": ["A", "B", "C"], "target": ["X", "X", "A"]})
    >>> known = Popularity((GoldStandard.from_frame(table, name="toy"),), n_folds=100)
    >>> target, regulator = known.of(["A", "C"], ["X", "A"])
    >>> (target > 0).tolist(), (regulator > 0).tolist()
    ([[True, True], [True, False]], [[True, True], [False, False]])
    """

    golds: Sequence[GoldStandard]
    without: frozenset[str] = frozenset()
    n_folds: int = 5
    _kept: dict[tuple[GoldStandard, int], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if strange := [type(gold).__name__ for gold in self.golds if not isinstance(gold, GoldStandard)]:
            msg = f"golds holds a {strange[0]}; expected gold standards, see grnlab.evaluate.GoldStandard."
            raise ValueError(msg)
        if not self.golds or self.n_folds < 2:
            msg = f"{len(self.golds)} gold standards and n_folds={self.n_folds} are given; at least 1 and 2 are needed."
            raise ValueError(msg)

    def __repr__(self) -> str:
        left_out = f", without {len(self.without):,} regulators" if self.without else ""
        return f"Popularity({', '.join(gold.name for gold in self.golds)}{left_out})"

    def leave_out(self, regulators: Collection[str]) -> "Popularity":
        """Same gold standards, without the edges of more regulators."""
        return replace(self, without=self.without | set(regulators), _kept={})

    def fold(self, regulators: Collection[str]) -> np.ndarray:
        """Fold of each regulator, by its name."""
        return np.array([zlib.crc32(name.encode()) % self.n_folds for name in regulators], dtype=np.int64)

    def of(self, regulators: Sequence[str], targets: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Popularity of the targets, and that of the regulators as targets, for each pair.

        Parameters
        ----------
        regulators, targets
            Names; unknown ones have no known regulators.

        Returns
        -------
        Two arrays of shape (R, T): mean over the gold standards of log(1 + known regulators), each scaled to the
        largest.
        """
        regulators, targets = list(regulators), list(targets)
        shape = len(regulators), len(targets)
        of_target, of_regulator = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        folds_R = self.fold(regulators)
        for gold in self.golds:
            coded = _coded(gold)
            row, column = coded.targets.get_indexer(regulators), coded.targets.get_indexer(targets)
            for fold in np.unique(folds_R):
                own = folds_R == fold
                count = np.append(self._count(gold, int(fold)), 0.0)  # the last is that of unknown genes, -1
                of_target[own] += count[column] / len(self.golds)
                of_regulator[own] += count[row[own]][:, None] / len(self.golds)
        return of_target, of_regulator

    def _count(self, gold: GoldStandard, fold: int) -> np.ndarray:
        """log(1 + regulators) of the targets of a gold standard, without a fold, scaled to the largest."""
        if (gold, fold) not in self._kept:
            coded = _coded(gold)
            left = (self.fold(coded.sources) != fold) & ~coded.sources.isin(self.without)
            count = np.log1p(np.bincount(coded.target[left[coded.source]], minlength=len(coded.targets)))
            self._kept[gold, fold] = (count / max(count.max(), 1e-9)).astype(np.float32)
        return self._kept[gold, fold]


@dataclass(frozen=True, eq=False)
class _Coded:
    """Edges by number of their regulator and target."""

    sources: pd.Index
    targets: pd.Index
    source: np.ndarray
    target: np.ndarray


@lru_cache(maxsize=64)  # a gold standard is never changed
def _coded(gold: GoldStandard) -> _Coded:
    source, sources = pd.factorize(gold.edges["source"])
    target, targets = pd.factorize(gold.edges["target"])
    return _Coded(pd.Index(sources), pd.Index(targets), source, target)


def known_scores(like: PairScores, golds: Sequence[GoldStandard], *, of: str = "edges", n_folds: int = 5) -> PairScores:
    """Score pairs by what gold standards know, no cell being read; to combine with what a model finds.

    Judge what comes of ``"edges"`` by a gold standard that shares no source with these (:func:`overlap`).

    Parameters
    ----------
    like
        Scores whose pairs are scored; pairs it has not observed (NaN) stay so.
    golds
        Gold standards, named as the genes are.
    of
        ``"edges"``: sum over the gold standards that have the edge of the negative log of their share of edges among
        the pairs of regulators they know. ``"popularity"``: how often the target, and the regulator, is a target of
        other regulators, see :class:`Popularity`; nothing of the regulator's own edges.
    n_folds
        Folds of regulators for the popularity.

    Raises
    ------
    ValueError
        When `of` is unknown or there is no gold standard.

    Examples
    --------
    >>> import pandas as pd
    >>> genes = pd.DataFrame({"is_tf": True}, index=["A", "B", "C"])
    >>> scores = PairScores(genes, np.array([0]), np.array([1, 2]), {"all": np.ones((1, 2))}, {"all": 9}, method="m")
    >>> gold = GoldStandard.from_frame(pd.DataFrame({"source": ["A"], "target": ["C"]}), name="toy")
    >>> known_scores(scores, [gold]).group("all").round(2)
    array([[0.  , 0.69]], dtype=float32)
    """
    if of not in OF:
        msg = f"of={of!r} is unknown; choose among {', '.join(map(repr, OF))}."
        raise ValueError(msg)
    if not isinstance(like, PairScores):
        msg = f"like is a {type(like).__name__}; expected scores of pairs, as of grnlab.tl.read_out."
        raise ValueError(msg)
    golds = (golds,) if isinstance(golds, GoldStandard) else tuple(golds)
    popularity = Popularity(golds, n_folds=n_folds)  # refuses an empty list
    names = like.genes.index.to_numpy(dtype=object)
    regulators, targets = pd.Index(names[like.regulators]), pd.Index(names[like.targets])
    found = _edges(golds, regulators, targets) if of == "edges" else sum(popularity.of(regulators, targets))
    groups = {name: np.where(np.isnan(scores), np.nan, found) for name, scores in like.groups.items()}
    made = {"golds": [gold.name for gold in golds], "of": of}
    method = f"known {of}"
    return replace(like, groups=groups, method=method, signed=False, provenance=made, expression={})


def _edges(golds: Sequence[GoldStandard], regulators: pd.Index, targets: pd.Index) -> np.ndarray:
    found = np.zeros((len(regulators), len(targets)), dtype=np.float32)
    for gold in golds:
        row, column = regulators.get_indexer(gold.edges["source"]), targets.get_indexer(gold.edges["target"])
        inside = (row >= 0) & (column >= 0)
        known = np.zeros(found.shape, dtype=bool)
        known[row[inside], column[inside]] = True
        if known.any():
            found += known * -np.log(known[known.any(axis=1)].mean())
    return found


def overlap(one: GoldStandard, other: GoldStandard) -> float:
    """Share of the edges of the smaller gold standard that the other has too.

    Parameters
    ----------
    one, other
        Gold standards with the same naming.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"source": ["A", "B"], "target": ["X", "X"]})
    >>> gold = GoldStandard.from_frame(table, name="toy")
    >>> overlap(gold, gold)
    1.0
    """
    few, many = sorted((_hashes(one), _hashes(other)), key=len)
    return float(np.isin(few, many).mean())


@lru_cache(maxsize=64)
def _hashes(gold: GoldStandard) -> np.ndarray:
    found: np.ndarray = pd.util.hash_pandas_object(gold.edges[["source", "target"]], index=False).to_numpy()
    return found
