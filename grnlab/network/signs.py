"""Signs of edges: whether the target rises or falls with its regulator over the cells."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import scipy.stats

from grnlab.network.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

METHODS = ("pearson", "spearman")
_EDGES_AT_ONCE = 20_000_000  # cells × edges of one block: 80 MB of float32 a factor


def sign_edges(
    network: "GeneNetwork",
    expression: np.ndarray | sp.spmatrix | sp.sparray,
    genes: Sequence[str],
    *,
    method: str = "spearman",
    alpha: float = 0.05,
) -> "GeneNetwork":
    """Give every edge the sign of the correlation of its two genes over the cells.

    Correlation does not tell direction or cause, and mixing cell types or depths makes correlations of its own: give
    the normalised expression of the cells of one group.

    Parameters
    ----------
    network
        The network.
    expression
        Cells × genes, normalised; dense or sparse.
    genes
        Name of each column of `expression`; genes of no edge may be missing, and others may be there.
    method
        ``"spearman"`` or ``"pearson"``.
    alpha
        Edges whose correlation has a false discovery rate above `alpha` (t test, Benjamini-Hochberg over the edges)
        get sign 0: unknown. 1 takes every sign.

    Returns
    -------
    The network with the edge columns ``sign``, ``correlation`` and ``correlation_padj`` (NaN where a gene is constant).

    Raises
    ------
    ValueError
        When a gene of an edge has no column, a name occurs twice, shapes differ, there are fewer than 3 cells, or
        values are not finite.

    Examples
    --------
    >>> import pandas as pd
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "C"], "weight": [2.0, 1.0]})
    >>> a = np.arange(20.0)
    >>> cells = np.column_stack([a, a**2, -a])
    >>> sign_edges(GeneNetwork.from_edges(edges, name="one"), cells, ["A", "B", "C"]).edges["sign"].tolist()
    [1, -1]
    """
    if method not in METHODS:
        msg = f"method must be one of {', '.join(METHODS)}, got {method!r}."
        raise ValueError(msg)
    n_cells = expression.shape[0]
    if expression.shape[1] != len(genes):
        msg = f"expression has shape {expression.shape}, but genes has {len(genes)} names; expected one per column."
        raise ValueError(msg)
    if n_cells < 3:
        msg = f"expression has {n_cells} cells; a correlation needs at least 3."
        raise ValueError(msg)
    standard, place = _standardised(network, expression, list(genes), method)
    source, target = (place[end] for end in network.edge_positions())
    correlation = np.empty(len(source))
    step = max(1, _EDGES_AT_ONCE // n_cells)
    for start in range(0, len(source), step):
        part = slice(start, start + step)
        correlation[part] = np.einsum("ec,ec->e", standard[source[part]], standard[target[part]])
    correlation = np.clip(correlation, -1, 1)
    with np.errstate(divide="ignore"):
        t = correlation * np.sqrt((n_cells - 2) / (1 - correlation**2))
    padj = benjamini_hochberg(2 * scipy.stats.t.sf(np.abs(t), n_cells - 2))
    sign = np.where(padj <= alpha, np.sign(correlation), 0.0)
    return network._with_edge_columns(
        {"sign": sign.astype(np.int64), "correlation": correlation, "correlation_padj": padj}
    )


def _standardised(
    network: "GeneNetwork", expression: np.ndarray | sp.spmatrix | sp.sparray, genes: list[str], method: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of unit length, (genes with an edge, cells), NaN where constant; and gene position → row."""
    column = {name: i for i, name in enumerate(genes)}
    if len(column) < len(genes):
        twice = next(name for i, name in enumerate(genes) if column[name] != i)
        msg = f"genes names {twice!r} more than once; names of columns must be unique."
        raise ValueError(msg)
    linked = np.unique(np.concatenate(network.edge_positions()))
    names = network.genes.index[linked]
    missing = [name for name in names if name not in column]
    if missing:
        msg = (
            f"genes: {len(missing):,} of the {len(names):,} genes of edges of {network.name!r} have no column in "
            f"expression, the first is {missing[0]!r}; cut the network with subset, or give their expression."
        )
        raise ValueError(msg)
    chosen = [column[name] for name in names]
    values = sp.csc_array(expression)[:, chosen].toarray() if sp.issparse(expression) else expression[:, chosen]
    values = np.asarray(values, dtype=np.float64).T
    if not np.isfinite(values).all():
        msg = "expression holds values that are not finite; fill or drop them first."
        raise ValueError(msg)
    if method == "spearman":
        values = scipy.stats.rankdata(values, axis=1)
    centred = values - values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    constant = length <= 1e-12 * np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-300)
    standard = np.where(constant, np.nan, centred / np.where(constant, 1.0, length))
    place = np.full(len(network.genes), -1, dtype=np.int64)
    place[linked] = np.arange(len(linked))
    return standard.astype(np.float32), place
