"""How sure an edge is: bootstrap over cells, networks inferred again from each sample."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab._progress import progress
from grnlab.network.hubs import check_count

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork


def bootstrap(
    infer: Callable[[np.ndarray], "GeneNetwork"],
    n_rows: int,
    *,
    n_bootstraps: int = 100,
    units: Sequence[str] | None = None,
    seed: int = 0,
) -> "GeneNetwork":
    """Infer a network from all cells, and say how often each of its edges comes back from resampled cells.

    Parameters
    ----------
    infer
        Takes rows (int64, below `n_rows`, **with repeats**) and gives the network of those cells. The rows may also
        stand for blocks of cells.
    n_rows
        Number of rows.
    n_bootstraps
        Samples drawn, each of `n_rows` rows with replacement.
    units
        Sample (donor) of each row: whole units are drawn, so that the confidence covers differences between donors.
    seed
        Seed of the draws.

    Returns
    -------
    The network of all rows, with the edge columns ``confidence`` (share of the samples whose network has the edge),
    ``weight_mean`` and ``weight_sd`` over the samples (0 where a sample lacks the edge). `threshold` with
    ``column="confidence"`` keeps the sure ones. Confidence is the stability of the choice, not the probability that the
    regulation is real: a bias of the method is perfectly stable.

    Raises
    ------
    ValueError
        When a number is out of range, or lengths differ.

    References
    ----------
    Efron (1979); Meinshausen, Bühlmann (2010), doi:10.1111/j.1467-9868.2010.00740.x: stability selection.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> def infer(rows):
    ...     edges = pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [float(np.mean(rows))]})
    ...     return GeneNetwork.from_edges(edges, name="n")
    >>> bootstrap(infer, 10, n_bootstraps=5).edges["confidence"].tolist()
    [1.0]
    """
    check_size(n_rows, n_bootstraps)
    members = _members(n_rows, units)
    network = infer(np.arange(n_rows))
    names = network.genes.index
    pairs = pd.Index(_pairs(network, names))
    count, total, squares = np.zeros((3, len(pairs)))
    rng = np.random.default_rng(seed)
    for _ in progress(range(n_bootstraps), desc="bootstrap", unit="sample"):
        drawn = rng.integers(len(members), size=len(members))
        sample = infer(np.concatenate([members[unit] for unit in drawn]))
        place = pairs.get_indexer(_pairs(sample, names))
        place, weight = place[place >= 0], sample.edges["weight"].to_numpy()[place >= 0]
        count[place] += 1
        total[place] += weight
        squares[place] += weight**2
    mean = total / n_bootstraps
    columns = {
        "confidence": count / n_bootstraps,
        "weight_mean": mean,
        "weight_sd": np.sqrt(np.maximum(squares / n_bootstraps - mean**2, 0.0)),
    }
    return network._with_edge_columns(columns)


def check_size(n_rows: int, n_bootstraps: int) -> None:
    """Refuse numbers of rows and samples that make no bootstrap."""
    check_count(n_rows, argument="n_rows")
    check_count(n_bootstraps, argument="n_bootstraps")
    if n_rows < 2 or n_bootstraps < 1:
        msg = f"a bootstrap needs 2 rows and 1 sample, got n_rows={n_rows} and n_bootstraps={n_bootstraps}."
        raise ValueError(msg)


def _members(n_rows: int, units: Sequence[str] | None) -> list[np.ndarray]:
    if units is None:
        return list(np.arange(n_rows)[:, None])
    column = pd.Series(np.asarray(units, dtype=object))
    if len(column) != n_rows or column.isna().any():
        msg = f"units has {len(column)} entries, {int(column.isna().sum())} of them missing; expected {n_rows}."
        raise ValueError(msg)
    groups = [np.asarray(rows, dtype=np.int64) for rows in column.groupby(column, sort=False).groups.values()]
    if len(groups) < 2:
        msg = f"units holds one unit only, {column.iloc[0]!r}; resampling needs at least 2."
        raise ValueError(msg)
    return groups


def _pairs(network: "GeneNetwork", names: pd.Index) -> np.ndarray:
    """Edges as numbers of pairs of `names`, -1 for an edge of another gene."""
    place = names.get_indexer(network.genes.index).astype(np.int64)
    source, target = (place[end] for end in network.edge_positions())
    return np.where((source >= 0) & (target >= 0), source * len(names) + target, -1)
