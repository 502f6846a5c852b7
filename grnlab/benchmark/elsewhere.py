"""What methods may learn from that is not judged: sorted blood cells of the training set, and gold standards."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad

from grnlab.attention import AttentionMaps
from grnlab.benchmark.golds import TEACHERS
from grnlab.benchmark.task import NotApplicableError
from grnlab.evaluate import GoldStandard
from grnlab.heads import overlap

TRAINING = "scrna/zheng2017_facs_pbmc.h5ad"
_KIN = 0.2  # share of the edges of the smaller gold standard that makes two of them one source
Learn = Callable[[ad.AnnData, Any, AttentionMaps, GoldStandard], Any]


class Elsewhere:
    """Training cells and gold standards, read when they are needed and kept.

    Parameters
    ----------
    model, golds
        Functions that give the pretrained model, and a gold standard by name.
    data
        Data folder.
    trains
        Name of the judging gold standard → that of the one heads are selected by.
    """

    def __init__(
        self,
        model: Callable[[], Any],
        golds: Callable[[str], GoldStandard],
        data: Path | None,
        trains: Mapping[str, str],
    ) -> None:
        self.model, self._golds, self._data, self._trains = model, golds, data, trains
        self._kept: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Result kept under `key`, or that of `make`."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def cells(self) -> tuple[ad.AnnData, AttentionMaps]:
        """Training cells, and attention maps of their types."""

        def read() -> tuple[ad.AnnData, AttentionMaps]:
            import grnlab as gl

            cells = gl.io.read(self._folder() / TRAINING)[::5].copy()
            maps = gl.tl.attention(cells, self.model(), groupby="cell_type", min_cells=50, skip_small=True)
            return cells, maps

        found: tuple[ad.AnnData, AttentionMaps] = self.get("cells", read)
        return found

    def teachers(self) -> dict[str, GoldStandard]:
        """Gold standards of the data folder that are not bound to the cells of a case, by name."""
        folder = self._folder()

        def read() -> dict[str, GoldStandard]:
            found = {name: one.read(folder) for name, one in TEACHERS.items() if one.found(folder)}
            return {name: gold.align(self.model().vocab) for name, gold in found.items()}

        kept: dict[str, GoldStandard] = self.get("teachers", read)
        if not kept:
            msg = "needs gold standards of the data folder (networks/)"
            raise NotApplicableError(msg)
        return kept

    def strangers(self, gold: GoldStandard) -> list[GoldStandard]:
        """Teachers that share less than a fifth of their edges, or of the other's, with a gold standard.

        Raises
        ------
        NotApplicableError
            When there is none.
        """
        teachers = self.teachers()
        far = self.get(
            ("strangers", gold.name),
            lambda: [name for name, one in teachers.items() if name != gold.name and overlap(one, gold) < _KIN],
        )
        if not far:
            msg = "every gold standard of the data folder shares its edges"
            raise NotApplicableError(msg)
        return [teachers[name] for name in far]

    def fit(self, gold: GoldStandard, learn: Learn) -> Any:
        """What a function learns from the training cells by the edges of the training gold standard less the judge's.

        Parameters
        ----------
        gold
            The judging gold standard.
        learn
            Function of the training cells, the model, its attention maps of their types, and the edges to learn from.
        """

        def learned() -> Any:
            cells, maps = self.cells()
            teacher = self._golds(self._trains.get(gold.name, "trrust"))
            return learn(cells, self.model(), maps, without_edges(teacher, gold))

        return self.get((gold.name, learn), learned)

    def _folder(self) -> Path:
        if self._data is None:
            msg = "needs the training cells of the data folder (--data)"
            raise NotApplicableError(msg)
        return self._data


def without_edges(gold: GoldStandard, other: GoldStandard) -> GoldStandard:
    """Edges of `gold` that `other` has in neither direction: what may be learned from when `other` judges."""
    known = set(zip(other.edges["source"], other.edges["target"], strict=True))
    known |= {(target, source) for source, target in known}
    kept = [pair not in known for pair in zip(gold.edges["source"], gold.edges["target"], strict=True)]
    return replace(gold, name=f"{gold.name} without {other.name}", edges=gold.edges[kept].reset_index(drop=True))
