"""Signatures to train on: tables over the genes of a model, with drug, cell and dose as numbers.

Shape suffixes: B signatures of a batch, T gene tokens, F features of a drug.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from grnlab.data.collection import CellCollection
from grnlab.data.drug_features import check_features
from grnlab.data.names import align_genes
from grnlab.data.signatures import check_signatures, log_doses
from grnlab.data.tokens import CellTokens
from grnlab.genes import GeneVocab

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SignatureTokens(CellTokens):
    """A batch of signatures, and under which conditions they were measured.

    The code of the cell stands in ``labels["cell"]``, that of the drug in ``labels["drug"]``.

    Attributes
    ----------
    drug_BF
        Features of the drug; NaN where the drug has none. None: no drug.
    log_dose_B
        Logarithm of the dose to base 10; NaN where it is unknown. None: no dose.
    given
        Whether the model may read the conditions. They are hidden from it where it has to tell them.
    """

    drug_BF: Tensor | None = None
    log_dose_B: Tensor | None = None
    given: bool = False


@dataclass
class SignatureCollection(CellCollection):
    """Signatures to train on: a :class:`CellCollection` whose batches carry the conditions.

    Attributes
    ----------
    features
        Feature table of the drugs, rows in the order of the codes of the label ``"drug"``; NaN rows for drugs that have
        none.
    log_dose
        Logarithm of the dose of each signature to base 10, NaN where unknown.
    """

    features: pd.DataFrame = field(default_factory=pd.DataFrame)
    log_dose: np.ndarray | None = None

    def _contexts(
        self, counts: sp.csr_matrix, place: np.ndarray, rows: np.ndarray, n_tokens: int, generator: np.random.Generator
    ) -> SignatureTokens:
        tokens = super()._contexts(counts, place, rows, n_tokens, generator)
        return tokens.into(SignatureTokens, **self.conditions(rows))

    def conditions(self, rows: np.ndarray) -> dict[str, Any]:
        """Drug features and doses of some signatures, as :class:`SignatureTokens` takes them."""
        found = {}
        if "drug" in self.labels and self.features.shape[1]:
            code = self.labels["drug"][rows]
            values = self.features.to_numpy(np.float32)[code.clip(min=0)]
            found["drug_BF"] = torch.from_numpy(np.where(code[:, None] >= 0, values, np.nan).astype(np.float32))
        if self.log_dose is not None:
            found["log_dose_B"] = torch.from_numpy(self.log_dose[rows].astype(np.float32))
        return found


def collect_signatures(
    adata: ad.AnnData,
    vocab: GeneVocab,
    *,
    features: pd.DataFrame | None = None,
    drugs: Sequence[str] | None = None,
    cells: Sequence[str] | None = None,
    min_panel: float = 0.5,
    name: str = "signatures",
) -> SignatureCollection:
    """Align signatures to a panel of genes by name and number their conditions.

    Parameters
    ----------
    adata
        Signatures × genes with ``obs["drug"]``, ``obs["cell"]``, ``obs["dose"]``, as far as there are any.
    vocab
        The panel.
    features
        Drugs × features, see :func:`grnlab.data.check_features`. Every drug of `adata` must have a row.
    drugs, cells
        Their names in the order of their codes; by default those of `adata`, sorted.
    min_panel
        Least share of the panel that must be measured. Genes of the panel that are not are never shown.
    name
        Name of the data set.

    Raises
    ------
    ValueError
        When `adata` holds no signatures, too few genes of the panel, a drug without features, a drug or cell that is
        not among those named, or a dose not above 0.
    """
    values, found = check_signatures(adata), align_genes(adata, vocab)
    share = len(found.tokens) / len(vocab)
    if share < min_panel:
        lacks = [str(symbol) for symbol in np.delete(vocab.symbols, found.tokens)[:5]]
        msg = (
            f"adata has {len(found.tokens):,} of the {len(vocab):,} genes of the panel ({share:.0%}; at least "
            f"{min_panel:.0%} are needed); it lacks {lacks} and others. Lower min_panel to go on without them."
        )
        raise ValueError(msg)
    if len(found.tokens) < len(vocab):
        logger.warning("%d of %d genes of the panel are not measured", len(vocab) - len(found.tokens), len(vocab))
    collection = CellCollection.from_columns(values, found.columns, found.tokens, n_vocab=len(vocab), name=name)
    labels, label_values = {}, {}
    for column, wanted in (("drug", drugs), ("cell", cells)):
        if column in adata.obs:
            labels[column], label_values[column] = _codes(adata.obs[column], wanted, column)
    table = pd.DataFrame()
    if features is not None:
        if "drug" not in labels:
            msg = "features needs adata.obs['drug'], which names the drug of each signature."
            raise ValueError(msg)
        table = check_features(features, drugs=label_values["drug"])
    made = vars(collection) | {"labels": labels, "label_values": label_values}
    log_dose = log_doses(adata.obs["dose"]) if "dose" in adata.obs else None
    return SignatureCollection(**made, features=table, log_dose=log_dose)


def _codes(names: pd.Series, wanted: Sequence[str] | None, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    text = names.astype(object).map(str, na_action="ignore")
    known = tuple(sorted(text.dropna().unique())) if wanted is None else tuple(wanted)
    code = {name: number for number, name in enumerate(known)}
    strange = sorted(set(text.dropna()) - set(known))
    if strange:
        msg = f"adata.obs[{column!r}] holds {strange[:5]}, which the model does not know; it knows {list(known[:10])}."
        raise ValueError(msg)
    return np.array([code.get(name, -1) for name in text], dtype=np.int64), known
