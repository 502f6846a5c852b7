"""The cells and genes a model is shown, checked and in the order of its vocabulary."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab.attention.maps import MIN_CELLS_PER_GENE
from grnlab.backbones.base import Backbone
from grnlab.data.counts import check_adata, counts_of, totals_of
from grnlab.data.groups import cell_groups
from grnlab.data.names import align_genes
from grnlab.data.select import select_genes
from grnlab.data.signatures import check_signatures
from grnlab.genes import GeneVocab

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedCells:
    """Counts of the genes to show, columns in the order of the vocabulary, and which cells make up which group.

    Attributes
    ----------
    genes
        One row per gene, index ``gene``, columns ``token, ensembl_id, is_tf, name_in_data``.
    chosen
        Rows of the genes that were asked for: all, but for a model that reads whole cells and is shown every gene.
    counts
        Shape (n_cells, n_genes).
    totals
        Total counts of each cell over all genes of the data, known to the model or not.
    groups
        Name → numbers of its cells.
    provenance
        Model, weights, alignment and groups.
    """

    genes: pd.DataFrame
    chosen: np.ndarray
    counts: sp.csr_matrix
    totals: np.ndarray
    groups: dict[str, np.ndarray]
    provenance: dict[str, Any]

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of the genes."""
        return self.genes["token"].to_numpy()

    def of(self, group: str) -> tuple[sp.csr_matrix, np.ndarray]:
        """Counts and totals of the cells of a group."""
        return self.counts[self.groups[group]], self.totals[self.groups[group]]

    def expression(self) -> dict[str, pd.DataFrame]:
        """Group → mean of counts per 10,000 (absolute change of signatures), share of cells with any of each gene."""
        return {name: _expression(*self.of(name), self.genes.index) for name in self.groups}


def prepare_cells(
    adata: ad.AnnData,
    model: Backbone,
    *,
    groupby: str | None,
    genes: int | str | Collection[str],
    layer: str | None,
    min_cells: int,
    skip_small: bool,
) -> PreparedCells:
    """Check counts, align genes by name, form the groups and choose the genes; see :func:`grnlab.tl.attention`.

    Parameters
    ----------
    adata, model, groupby, genes, layer, min_cells, skip_small
        As in :func:`grnlab.tl.attention`.

    Raises
    ------
    ValueError
        As there.
    """
    check_adata(adata)
    check_backbone(model)
    signed = getattr(model, "reads", "counts") == "signatures"
    counts = check_signatures(adata, layer=layer) if signed else counts_of(adata, layer=layer)
    found = align_genes(adata, model.vocab)
    logger.info("%s", found.report)
    groups = cell_groups(adata, groupby, min_cells=min_cells, skip_small=skip_small)
    # changes add up to nothing that means anything: with this total they stay as they are
    totals = np.full(adata.n_obs, 1e4) if signed else totals_of(counts, adata.obs_names)
    aligned = counts[:, found.columns]
    aligned.sort_indices()  # the order of the columns in the file must not show in any sum
    symbols, is_tf = model.vocab.symbols[found.tokens], model.vocab.is_tf[found.tokens]
    chosen = select_genes(abs(aligned), symbols, is_tf, genes)
    shown = np.arange(len(symbols)) if getattr(model, "whole_cells", False) else chosen
    aligned = sp.csr_matrix(aligned[:, shown])
    table = gene_table(model.vocab, found.tokens[shown], adata.var_names.to_numpy(dtype=object)[found.columns[shown]])
    provenance = described(model, str(found.report), groupby, groups) | {"n_genes_shown": len(table)}
    return PreparedCells(table, np.flatnonzero(np.isin(shown, chosen)), aligned, totals, groups, provenance)


def gene_table(vocab: GeneVocab, tokens: np.ndarray, names_in_data: np.ndarray) -> pd.DataFrame:
    """Table of the genes shown to a model, see :class:`PreparedCells`.

    Parameters
    ----------
    vocab
        Genes of the model.
    tokens, names_in_data
        Of the genes.
    """
    return pd.DataFrame(
        {
            "token": tokens,
            "ensembl_id": vocab.table["ensembl_id"].to_numpy(dtype=object)[tokens],
            "is_tf": vocab.is_tf[tokens],
            "name_in_data": names_in_data,
        },
        index=pd.Index(vocab.symbols[tokens].astype(str), name="gene"),
    )


def described(model: Backbone, alignment: str, groupby: str | None, groups: dict[str, np.ndarray]) -> dict[str, Any]:
    """Provenance: model, weights, alignment and groups.

    Parameters
    ----------
    model, groupby, groups
        As in :func:`prepare_cells`.
    alignment
        Report of the alignment.
    """
    return {
        "model": model.name,
        "attention_kind": model.attention.kind,
        "weights_sha256": getattr(model, "weights_hash", ""),
        "vocab_sha256": model.vocab.hash,
        "alignment": alignment,
        "groupby": groupby or "",
        "cells_per_group": {name: len(cells) for name, cells in groups.items()},
    }


def check_backbone(model: Any) -> None:
    """Refuse what is no model, such as the name of one.

    Raises
    ------
    ValueError
        When there is no vocabulary or attention.
    """
    if not (hasattr(model, "vocab") and hasattr(model, "attention")):
        msg = f"model must be a backbone, see grnlab.load_model; got {model!r:.80}."
        raise ValueError(msg)


def expressed_enough(expression: pd.DataFrame, n_cells: int, min_fraction: float) -> np.ndarray:
    """True for genes expressed in a share `min_fraction` of the cells of a group and in five of them (or in all).

    Parameters
    ----------
    expression
        Table with ``fraction_expressed``.
    n_cells
        Cells of the group.
    min_fraction
        Least share.
    """
    fraction = expression["fraction_expressed"].to_numpy()
    return (fraction >= min_fraction) & (np.rint(fraction * n_cells) >= min(MIN_CELLS_PER_GENE, n_cells))


def expression_table(mean_counts: np.ndarray, fraction: np.ndarray, names: pd.Index) -> pd.DataFrame:
    """Table of the expression of a group, see :class:`grnlab.attention.AttentionMaps`."""
    return pd.DataFrame({"mean_counts": mean_counts, "fraction_expressed": fraction}, index=names)


def _expression(counts: sp.csr_matrix, totals: np.ndarray, names: pd.Index) -> pd.DataFrame:
    counts = abs(counts)
    scaled = sp.diags(1e4 / totals) @ counts
    mean_counts, fraction = (np.asarray(values.mean(axis=0)).ravel() for values in (scaled, counts > 0))
    return expression_table(mean_counts, fraction, names)
