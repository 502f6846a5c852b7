"""Which names of an AnnData are its gene names, and where a model's vocabulary has them."""

import logging

import anndata as ad

from grnlab.genes import Alignment, GeneVocab, align

logger = logging.getLogger(__name__)
_NAME_COLUMNS = (
    "ensembl_id",
    "gene_ids",
    "gene_id",
    "feature_id",
    "symbol",
    "gene_symbols",
    "gene_name",
    "feature_name",
)


def align_genes(adata: ad.AnnData, vocab: GeneVocab) -> Alignment:
    """Align by ``var_names``, or by a column of ``adata.var`` that names more than twice as many known genes.

    Parameters
    ----------
    adata
        Cells; only ``var`` is read.
    vocab
        Genes of the model.

    Raises
    ------
    ValueError
        As :func:`grnlab.genes.align`; the message says which column the names are from.
    """
    names = adata.var_names.astype(str)
    known = sum(vocab.token(name) is not None for name in names)
    for column in _NAME_COLUMNS:
        if column not in adata.var:
            continue
        others = adata.var[column].astype(str)
        if sum(vocab.token(name) is not None for name in others) > 2 * known:
            logger.info("gene names are taken from adata.var[%r]", column)
            try:
                return align(others.tolist(), vocab)
            except ValueError as error:
                msg = f"{error} (The names are those of adata.var[{column!r}]: put them into adata.var_names first.)"
                raise ValueError(msg) from error
    return align(names.tolist(), vocab)
