"""Add up per-cell vectors by gene."""

from torch import Tensor


def add_by_gene(total_GK: Tensor, count_G: Tensor, rows_NK: Tensor, gene_N: Tensor) -> None:
    """Add each row to the total of its gene, in place, and count it.

    Parameters
    ----------
    total_GK
        Running sums, shape (n_genes, K).
    count_G
        Running number of rows per gene, int64, shape (n_genes,).
    rows_NK
        Rows to add, shape (N, K), any floating dtype.
    gene_N
        Gene of each row, int64 in [0, n_genes).

    Examples
    --------
    >>> import torch
    >>> total, count = torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)
    >>> add_by_gene(total, count, torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 1, 0]))
    >>> total.ravel().tolist(), count.tolist()
    ([5.0, 2.0], [2, 1])
    """
    total_GK.index_add_(0, gene_N, rows_NK.to(total_GK.dtype))
    count_G += gene_N.bincount(minlength=len(count_G)).to(count_G.dtype)
