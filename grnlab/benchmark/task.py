"""What every method is given: the cells of one group, the genes, and the pairs to score."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np

from grnlab.attention import AttentionMaps
from grnlab.benchmark.datasets import EXPRESSION
from grnlab.benchmark.measure import Shared
from grnlab.evaluate import GoldStandard, Universe
from grnlab.evaluate.baselines import log_normalise

if TYPE_CHECKING:
    from grnlab.benchmark.elsewhere import Elsewhere


class NotApplicableError(Exception):
    """A method has nothing to say about a case; the reason becomes a row of the table."""


@dataclass(frozen=True, eq=False)
class Task:
    """One group of cells and the pairs of genes that methods score.

    Attributes
    ----------
    dataset, group
        Names.
    cells
        The cells of the group, all genes of the data.
    genes
        Names of the genes of the map, in the vocabulary of the model, and their names in the data.
    regulators, targets
        Numbers of the genes to score, those of any gold standard of the scope.
    model
        Function that gives the model: pretrained, or one adapted to these cells.
    adapted
        Whether it is an adapted one.
    shared
        Results used by several methods.
    fitted
        What may be learned from, training cells and gold standards.
    gold, universe
        Set for methods that are fitted per gold standard.
    every_regulator
        Regulators of any gold standard, whichever judges.
    seed
        Of what is random.
    """

    dataset: str
    group: str
    cells: ad.AnnData
    genes: tuple[str, ...]
    names_in_data: tuple[str, ...]
    regulators: np.ndarray
    targets: np.ndarray
    model: Callable[[], Any]
    adapted: bool = False
    shared: Shared = field(default_factory=Shared)
    fitted: "Elsewhere | None" = None
    gold: GoldStandard | None = None
    universe: Universe | None = None
    seed: int = 0
    every_regulator: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.int64))

    def __post_init__(self) -> None:
        if not len(self.every_regulator):
            object.__setattr__(self, "every_regulator", self.regulators)

    def judged_by(self, gold: GoldStandard, universe: Universe) -> "Task":
        """Same cells, the pairs of one gold standard."""
        return replace(self, gold=gold, universe=universe, regulators=universe.regulators, targets=universe.targets)

    def elsewhere(self) -> "Elsewhere":
        """What may be learned from; the model is not adapted to the cells of this task."""
        if self.adapted or self.fitted is None:
            msg = "nothing can be learned elsewhere for a model adapted to these cells"
            raise NotApplicableError(msg)
        return self.fitted

    def heads(self) -> Any:
        """Heads selected elsewhere, without the edges of the gold standard that judges."""
        assert self.gold is not None  # a method that runs per gold standard
        return self.elsewhere().fit(self.gold, select_heads)

    def reversed(self) -> "Task":
        """Same task with the directions exchanged."""
        return replace(self, regulators=self.targets, targets=self.regulators)

    @property
    def expression(self) -> np.ndarray:
        """Log-normalised expression by the counts of all genes, or the measurements; (n_cells, n_genes)."""
        return self.shared.get("expression", self._expression)

    def _expression(self) -> np.ndarray:
        columns = self.cells.var_names.get_indexer(list(self.names_in_data))
        if EXPRESSION in self.cells.layers:
            return np.asarray(self.cells.layers[EXPRESSION][:, columns], dtype=np.float64)
        counts = np.asarray(self.cells.X[:, columns].toarray(), dtype=np.float64)
        totals = np.asarray(self.cells.X.sum(axis=1)).ravel()
        return log_normalise(np.column_stack([counts, totals - counts.sum(axis=1)]))[:, :-1]

    def maps(self, kind: str = "model") -> AttentionMaps:
        """Pooled attention of the ``"model"``, of an ``"untrained"`` one, or under ``"shuffled"`` gene names."""
        return self.shared.get(("maps", kind), lambda: self._maps(kind))

    def _maps(self, kind: str) -> AttentionMaps:
        import grnlab as gl

        model = untrained_like(self.model(), self.seed) if kind == "untrained" else self.model()
        cells, genes = self.cells, list(self.genes)
        if kind == "shuffled":
            cells, _ = self._shuffled()
        return gl.tl.attention(cells, model, genes=genes, min_cells=1)

    def _shuffled(self) -> tuple[ad.AnnData, np.ndarray]:
        """Cells whose genes of the map exchanged names; the gene whose counts each name got."""
        order = np.random.default_rng(self.seed).permutation(len(self.genes))
        columns = self.cells.var_names.get_indexer(list(self.names_in_data))
        names = self.cells.var_names.to_numpy(dtype=object).copy()
        names[columns[order]] = np.array(self.names_in_data, dtype=object)
        cells = ad.AnnData(self.cells.X, var={"name": names})
        cells.var_names = names
        return cells, order

    def dense(self, kind: str = "model", heads: Any = None, **options: bool) -> np.ndarray:
        """Whole map, regulator × target, over :attr:`genes`."""
        maps = self.maps(kind)
        rows = maps.genes.index.get_indexer(list(self.genes))
        group = next(iter(maps.groups))
        found: np.ndarray = maps.dense(group, heads, rows=rows, **options).T
        if kind == "shuffled":
            _, order = self._shuffled()
            back = np.empty_like(found)
            back[np.ix_(order, order)] = found  # the name at place i had the counts of gene order[i]
            return back
        return found


def untrained_like(model: Any, seed: int) -> Any:
    """Model of the same shape with random weights."""
    import torch

    from grnlab.backbones.registry import build_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(model.vocab, model.config, name="untrained").eval()


def select_heads(cells: ad.AnnData, model: Any, maps: AttentionMaps, gold: GoldStandard) -> Any:
    """Heads that a gold standard selects."""
    import grnlab as gl

    return gl.tl.select_heads(maps, gold).heads
