"""Edge tables as they come from elsewhere: what breaks the rules is refused, or dropped when asked."""

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from grnlab._reading import to_numbers
from grnlab.network.tables import EDGE_COLUMNS

logger = logging.getLogger(__name__)


def tidy_edges(edges: pd.DataFrame, *, on_bad: str = "raise") -> pd.DataFrame:
    """Leave an edge table as it is (``"raise"``: the check of the network finds the faults), or drop what is bad.

    Dropped are edges without two names, with a weight that is not finite, self loops, and all but the strongest of a
    repeated pair; the log tells how many of each.

    Raises
    ------
    ValueError
        When `on_bad` is neither ``"raise"`` nor ``"drop"``.

    Examples
    --------
    >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "B"], "weight": [1.0, 2.0]})
    >>> tidy_edges(edges, on_bad="drop")["weight"].tolist()
    [2.0]
    """
    if on_bad not in ("raise", "drop"):
        msg = f"on_bad must be 'raise' or 'drop', got {on_bad!r}."
        raise ValueError(msg)
    if on_bad == "raise" or not set(EDGE_COLUMNS) <= set(edges.columns):
        return edges
    weight = to_numbers(edges["weight"]).to_numpy(dtype=float)
    named = (edges["source"].notna() & edges["target"].notna()).to_numpy()
    finite = np.isfinite(weight)
    loop = (edges["source"] == edges["target"]).to_numpy()
    kept = edges[named & finite & ~loop]
    order = np.argsort(-weight[named & finite & ~loop], kind="stable")
    kept = kept.assign(weight=kept["weight"].astype(float)).iloc[order]
    once = kept.drop_duplicates(["source", "target"])
    dropped = {
        "without two names": int((~named).sum()),
        "with a weight that is not finite": int((named & ~finite).sum()),
        "self loops": int((named & finite & loop).sum()),
        "weaker repeats of a pair": len(kept) - len(once),
    }
    if any(dropped.values()):
        told = ", ".join(f"{count:,} {what}" for what, count in dropped.items() if count)
        logger.warning("%d of %d edges are left out: %s", len(edges) - len(once), len(edges), told)
    return once.reset_index(drop=True)


def genes_of(edges: pd.DataFrame, genes: pd.DataFrame | Iterable[str] | None) -> pd.DataFrame:
    """Make the gene table: the one given, one of the names given, or one of the ends of the edges.

    Examples
    --------
    >>> genes_of(pd.DataFrame({"source": ["B"], "target": ["A"]}), None).index.tolist()
    ['A', 'B']
    """
    if isinstance(genes, pd.DataFrame):
        return genes
    if genes is not None:
        return pd.DataFrame(index=pd.Index(list(genes), dtype=object))
    ends = [edges[end] for end in ("source", "target") if end in edges.columns]
    names = {name for end in ends for name in pd.unique(end.to_numpy(dtype=object)) if not pd.isna(name)}
    return pd.DataFrame(index=pd.Index(sorted(names, key=str), dtype=object))
