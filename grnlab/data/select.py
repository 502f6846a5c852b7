"""Choose the genes a model is shown."""

from collections.abc import Collection

import anndata as ad
import numpy as np
import scipy.sparse as sp

_TF_FRACTION = 0.05


def select_genes(
    counts: sp.csr_matrix, names: np.ndarray, is_tf: np.ndarray, genes: int | str | Collection[str]
) -> np.ndarray:
    """Columns to keep, increasing.

    Parameters
    ----------
    counts
        Shape (n_cells, n_genes).
    names
        Name of each gene.
    is_tf
        Whether each gene is a transcription factor.
    genes
        A number: transcription factors seen in at least 5 % of the cells, the most frequent first, for at most half
        of it; the rest by variability (scanpy's ``"seurat"`` dispersion). Genes never seen are not taken. ``"all"``:
        every gene seen. Names: these.

    Raises
    ------
    ValueError
        When a name is unknown, or fewer than two genes are left.
    """
    cells_with = np.asarray((counts > 0).sum(axis=0)).ravel()
    seen = np.flatnonzero(cells_with > 0)
    if isinstance(genes, str):
        if genes != "all":
            msg = f"genes={genes!r} is unknown; give a number, 'all', or a list of names."
            raise ValueError(msg)
        chosen = seen
    elif isinstance(genes, int | float | np.number):
        if int(genes) != genes:
            msg = f"genes={genes!r} is not a whole number; give a number of genes, 'all', or a list of names."
            raise ValueError(msg)
        chosen = _most_telling(counts, is_tf, cells_with, seen, int(genes))
    else:
        chosen = _named(names, genes)
    if len(chosen) < 2:
        msg = f"genes leaves {len(chosen)} genes; a network needs at least two."
        raise ValueError(msg)
    return np.sort(chosen)


def _named(names: np.ndarray, genes: Collection[str]) -> np.ndarray:
    import difflib

    place = {str(name): column for column, name in enumerate(names)}
    unknown = [str(name) for name in genes if str(name) not in place]
    if unknown:
        near = difflib.get_close_matches(unknown[0], place, n=3)
        msg = (
            f"genes holds {len(unknown)} names that are not among the mapped genes of adata: {unknown[:3]} "
            f"(nearest to the first: {near})."
        )
        raise ValueError(msg)
    return np.array(sorted({place[str(name)] for name in genes}), dtype=np.int64)


def _most_telling(
    counts: sp.csr_matrix, is_tf: np.ndarray, cells_with: np.ndarray, seen: np.ndarray, n_genes: int
) -> np.ndarray:
    if n_genes < 2:
        msg = f"genes={n_genes} is too few; a network needs at least two."
        raise ValueError(msg)
    if len(seen) <= n_genes:
        return seen
    import scanpy as sc

    factors = np.flatnonzero(is_tf & (cells_with >= _TF_FRACTION * counts.shape[0]))
    # columns come in token order, so a stable sort makes ties independent of the order in the file
    factors = factors[np.argsort(-cells_with[factors], kind="stable")][: n_genes // 2]
    rest = np.setdiff1d(seen, factors)
    adata = ad.AnnData(counts[:, rest].copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, flavor="seurat")  # n_top_genes=... fails where no gene varies
    dispersion = adata.var["dispersions_norm"].fillna(-np.inf).to_numpy()
    best = rest[np.argsort(-dispersion, kind="stable")][: n_genes - len(factors)]
    return np.concatenate([factors, best])
