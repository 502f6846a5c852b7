"""Attention of every head at pairs of genes: listed pairs, and the sums over all pairs that head selection needs.

The feature of head h at the pair of query gene i and key gene j is its attention

    x_h(i, j) = exp(s · q_hi · k_hj − L_hi),   L_hi = log Σ_j exp(s · q_hi · k_hj),

the softmax over all N genes whichever pairs are asked for; or, of kind ``"kernel"``, the share of a product of features
as in :mod:`grnlab_kernels.kernel_maps`, L being the logarithm of its row sums. A candidate universe is every pair of a
query gene and a key gene but a gene with itself. Its feature matrix X, as many rows as pairs, is never formed: at most
one panel of it exists, the pairs of a few query genes.

Shape suffixes: H heads, N genes, D head dimension, E listed pairs, R query genes of a panel, C key genes, F folds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from grnlab_kernels import kernel_maps
from grnlab_kernels.operation import fake, operation
from grnlab_kernels.pair_panels import PairPanels, as_genes, check_lse, fill_lse, universe
from grnlab_kernels.products import products
from grnlab_kernels.workers import run

_DEPTH = 4096  # float32 terms of one product, whose sums are added in float64; deeper ones lose digits
_CHUNK_PAIRS = {"cpu": 2048, "device": 1 << 16}


@dataclass(frozen=True)
class Gram:
    """Sums over the pairs of a candidate universe, fold by fold; those of several folds add up.

    Attributes
    ----------
    gram_FHH
        ``XᵀX`` of the pairs of each fold, float64, shape (folds, heads, heads).
    sum_FH
        Column sums of X, float64, shape (folds, heads).
    n_pairs_F
        Pairs of each fold, int64, shape (folds,).
    lse_HN
        Log-sum-exp of the query genes, float32, shape (heads, genes), for :func:`gather_pairs`; NaN for other genes.
    """

    gram_FHH: Tensor
    sum_FH: Tensor
    n_pairs_F: Tensor
    lse_HN: Tensor


def gather_pairs(
    q_HND: Tensor,
    k_HND: Tensor,
    query_E: Tensor,
    key_E: Tensor,
    *,
    scale: float,
    lse_HN: Tensor | None = None,
    kind: str = "softmax",
    backend: str = "auto",
) -> Tensor:
    """Attention of every head at listed pairs.

    2 D flops, one exponential and 8 D bytes read a pair and head, in chunks; without `lse_HN` also 2 N D flops and N
    exponentials for each head and distinct query gene. PyTorch indexes the pairs on every device: `backend` is that of
    the log-sum-exp.

    Parameters
    ----------
    q_HND, k_HND
        Pooled queries and keys, shape (heads, genes, d_head).
    query_E, key_E
        Query and key gene of each pair, int64; a pair may be listed twice, and a gene be paired with itself.
    scale
        Factor of the logits, 1/√d_head.
    lse_HN
        Log-sum-exp, from :func:`grnlab_kernels.row_lse` or a :class:`Gram`; read at the query genes.
    kind
        See :class:`grnlab_kernels.MapOptions`.
    backend
        See :func:`grnlab_kernels.resolve_backend`.

    Returns
    -------
    float32, shape (pairs, heads).

    Raises
    ------
    ValueError, TypeError
        When shapes, dtypes or gene numbers do not fit or a log-sum-exp is not finite.

    Examples
    --------
    >>> q = k = torch.zeros(2, 4, 16)
    >>> gather_pairs(q, k, torch.tensor([0, 3]), torch.tensor([1, 1]), scale=0.25).tolist()
    [[0.25, 0.25], [0.25, 0.25]]
    """
    q_HND, k_HND, backend = kernel_maps.prepare(q_HND, k_HND, scale=scale, kind=kind, backend=backend)
    query_E, key_E = (as_genes(n, x, q_HND.shape[1], q_HND.device) for n, x in (("query_E", query_E), ("key_E", key_E)))
    if len(query_E) != len(key_E):
        msg = f"query_E lists {len(query_E)} genes and key_E {len(key_E)}; expected one of each per pair."
        raise ValueError(msg)
    check_lse(lse_HN, q_HND, query_E)
    if kind == "kernel":
        return kernel_maps.gather_pairs(
            *(q_HND, k_HND, query_E, key_E), kernel_maps.row_lse(q_HND, k_HND) if lse_HN is None else lse_HN
        )
    return _gather_pairs(q_HND, k_HND, query_E, key_E, lse_HN=lse_HN, scale=scale, backend=backend)


def head_gram(
    q_HND: Tensor,
    k_HND: Tensor,
    *,
    scale: float,
    query: Tensor | None = None,
    key: Tensor | None = None,
    fold: Tensor | None = None,
    lse_HN: Tensor | None = None,
    kind: str = "softmax",
    backend: str = "auto",
) -> Gram:
    """Sum ``x xᵀ`` and ``x`` over every pair of a candidate universe, in one pass.

    For R query genes and P pairs 2 H D N R flops and H N R exponentials for the scores (with `lse_HN` only H P scores
    instead of H N R) and 2 H² P for the sums. Memory: a panel of 32 MB for each worker, more where 16 query genes need
    it; 256 MB on a device. Sums of at most 4,096 terms are formed in float32, then added in float64, in an order that
    does not depend on the number of threads. Products follow PyTorch's float32 matmul precision: its default,
    "highest", is the exact one.

    Parameters
    ----------
    q_HND, k_HND, scale, lse_HN, kind, backend
        As in :func:`gather_pairs`.
    query, key
        Genes whose pairs make the universe, int64, each gene once; all by default.
    fold
        Fold of each gene of `key`, in its order, int64 from 0: of the pairs in which it is the key (the regulator).
        One fold by default.

    Raises
    ------
    ValueError, TypeError
        When shapes, dtypes, gene numbers or folds do not fit, a gene is listed twice, or a logit is not finite.

    Examples
    --------
    >>> q = k = torch.zeros(2, 4, 16)
    >>> sums = head_gram(q, k, scale=0.25)  # 12 pairs, at each of which both heads are 1/4
    >>> sums.n_pairs_F.tolist(), sums.sum_FH.tolist(), sums.gram_FHH[0, 0].tolist()
    ([12], [[3.0, 3.0]], [0.75, 0.75])
    """
    q_HND, k_HND, backend = kernel_maps.prepare(q_HND, k_HND, scale=scale, kind=kind, backend=backend)
    query, key = universe(q_HND.shape[1], q_HND.device, query, key)
    check_lse(lse_HN, q_HND, query)
    fold = torch.zeros_like(key) if fold is None else fold.to(key.device)
    if fold.dtype != torch.int64 or fold.shape != key.shape or (fold < 0).any():
        msg = (
            f"fold has dtype {fold.dtype} and shape {tuple(fold.shape)}; expected a number of at least 0 as int64 for "
            f"each of {len(key)} key genes."
        )
        raise ValueError(msg)
    size_F = torch.bincount(fold, minlength=1)
    by_fold = key[fold.argsort(stable=True)]
    gram_FHH, sum_FH, lse_HN = _head_gram(
        q_HND, k_HND, query, by_fold, size_F=size_F, lse_HN=lse_HN, scale=scale, backend=backend, kind=kind
    )
    with_itself_F = torch.zeros_like(size_F).index_add(0, fold, torch.isin(key, query).long())
    return Gram(gram_FHH, sum_FH, size_F * len(query) - with_itself_F, lse_HN)


@operation("gather_pairs")
def _gather_pairs(
    q_HND: Tensor, k_HND: Tensor, query_E: Tensor, key_E: Tensor, *, lse_HN: Tensor | None, scale: float, backend: str
) -> Tensor:
    n_heads, n_genes, _ = q_HND.shape
    if lse_HN is None:
        lse_HN = q_HND.new_full((n_heads, n_genes), torch.nan, dtype=torch.float32)
        fill_lse(lse_HN, q_HND, k_HND, query_E.unique(), scale, backend=backend)
    x_EH = q_HND.new_empty((len(query_E), n_heads), dtype=torch.float32)

    def work(start: int, end: int) -> None:
        query, key = query_E[start:end], key_E[start:end]
        for head in range(n_heads):
            products_ED = q_HND[head].index_select(0, query).float().mul_(k_HND[head].index_select(0, key))
            logits_E = products_ED.sum(-1).mul_(scale)
            # a share is at most 1, also where huge logits leave rounding errors above 0
            x_EH[start:end, head] = logits_E.sub_(lse_HN[head, query]).clamp_(max=0.0).exp_()

    chunk = _CHUNK_PAIRS["cpu" if q_HND.device.type == "cpu" else "device"]
    for _ in run(work, len(query_E), chunk, q_HND.device):
        pass
    return x_EH


@fake("gather_pairs")
def _(
    q_HND: Tensor, k_HND: Tensor, query_E: Tensor, key_E: Tensor, *, lse_HN: Tensor | None, scale: float, backend: str
) -> Tensor:
    return q_HND.new_empty((len(query_E), len(q_HND)), dtype=torch.float32)


@operation("head_gram")
def _head_gram(
    q_HND: Tensor,
    k_HND: Tensor,
    query: Tensor,
    key: Tensor,
    *,
    size_F: Tensor,
    lse_HN: Tensor | None,
    scale: float,
    backend: str,
    kind: str = "softmax",
) -> tuple[Tensor, Tensor, Tensor]:
    n_heads, n_genes, _ = q_HND.shape
    end_F = size_F.cumsum(0).tolist()
    folds = list(zip([0, *end_F[:-1]], end_F, strict=True))
    gram_FHH = q_HND.new_zeros((len(folds), n_heads, n_heads), dtype=torch.float64)
    sum_FH = q_HND.new_zeros((len(folds), n_heads), dtype=torch.float64)
    known = lse_HN is not None
    nothing = q_HND.new_full((n_heads, n_genes), torch.nan, dtype=torch.float32)
    lse_HN = nothing if lse_HN is None else nothing.index_copy(1, query, lse_HN[:, query])
    pairs = PairPanels(q_HND, k_HND, query, key, scale, lse_HN, known, kind)
    for part_FHH, part_FH in pairs.run(lambda x_RHC: _sums(x_RHC, folds), backend):
        gram_FHH += part_FHH
        sum_FH += part_FH
    return gram_FHH.triu() + gram_FHH.triu(1).mT, sum_FH, lse_HN


@fake("head_gram")
def _(
    q_HND: Tensor,
    k_HND: Tensor,
    query: Tensor,
    key: Tensor,
    *,
    size_F: Tensor,
    lse_HN: Tensor | None,
    scale: float,
    backend: str,
    kind: str = "softmax",
) -> tuple[Tensor, Tensor, Tensor]:
    n_heads, n_folds = len(q_HND), len(size_F)
    gram_FHH = q_HND.new_empty((n_folds, n_heads, n_heads), dtype=torch.float64)
    return gram_FHH, gram_FHH.new_empty((n_folds, n_heads)), q_HND.new_empty(q_HND.shape[:2], dtype=torch.float32)


def _sums(x_RHC: Tensor, folds: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """``XᵀX`` and column sums of a panel, by fold: on the CPU a product for each query gene, elsewhere all in one."""
    n_heads = x_RHC.shape[1]
    gram_FHH = x_RHC.new_zeros((len(folds), n_heads, n_heads), dtype=torch.float64)
    sum_FH = x_RHC.new_zeros((len(folds), n_heads), dtype=torch.float64)
    for fold, (first, last) in enumerate(folds):
        for start in range(first, last, _DEPTH):
            part_RHC = x_RHC[:, :, start : min(start + _DEPTH, last)]
            sum_FH[fold] += part_RHC.sum(-1).sum(0, dtype=torch.float64)
            if x_RHC.device.type == "cpu":
                for x_HC in part_RHC:
                    whole_HC = x_HC.contiguous()
                    gram_FHH[fold] += products(whole_HC, whole_HC)
            else:
                gram_FHH[fold] += torch.bmm(part_RHC, part_RHC.mT).sum(0, dtype=torch.float64)
    return gram_FHH, sum_FH
