"""Which pairs of genes become edges."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from grnlab.attention.prepare import MIN_CELLS_PER_GENE
from grnlab.network.tables import check_known


@dataclass(frozen=True)
class EdgeRules:
    """Settings of `grnlab.network.infer.infer_networks`, checked before any work; attributes as there.

    Raises
    ------
    ValueError
        When `per` or `regulators` is unknown, or `top_k` is no whole number of at least 1.

    Examples
    --------
    >>> EdgeRules(regulators="all").allowed(pd.DataFrame(index=["A", "B"])).tolist()
    [0, 1]
    """

    top_k: int = 10
    per: str = "target"
    regulators: str | Collection[str] = "tf"
    symmetrize: bool | None = None
    apc: bool = False
    min_fraction: float = 0.02

    def __post_init__(self) -> None:
        if self.per not in ("target", "regulator"):
            msg = f"per={self.per!r} is unknown; choose 'target' or 'regulator'."
            raise ValueError(msg)
        if not isinstance(self.top_k, int | np.integer) or self.top_k < 1:
            msg = f"top_k={self.top_k!r} must be a whole number of at least 1."
            raise ValueError(msg)
        if isinstance(self.regulators, str) and self.regulators not in ("tf", "all"):
            msg = f"regulators={self.regulators!r} is unknown; choose 'tf' or 'all', or give gene names in a list."
            raise ValueError(msg)

    def allowed(self, genes: pd.DataFrame) -> np.ndarray:
        """Rows of a table of genes that may regulate, increasing.

        Raises
        ------
        ValueError
            When none may, a name is unknown, or the table does not tell the transcription factors.
        """
        if not isinstance(self.regulators, str):
            names = check_known(self.regulators, genes.index, argument="regulators", where="the genes of the maps")
            return np.sort(genes.index.get_indexer(names))
        if self.regulators == "all":
            return np.arange(len(genes))
        if "is_tf" not in genes.columns:
            msg = "regulators='tf', but the table of genes has no column 'is_tf'; add it, give names, or 'all'."
            raise ValueError(msg)
        found = np.flatnonzero(genes["is_tf"].to_numpy(dtype=bool))
        if len(found) == 0:
            msg = "regulators='tf', but no gene of the maps is a known transcription factor; give names, or 'all'."
            raise ValueError(msg)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Provenance."""
        named = self.regulators if isinstance(self.regulators, str) else sorted({str(name) for name in self.regulators})
        return {**vars(self), "regulators": named, "min_cells_per_gene": MIN_CELLS_PER_GENE}
