"""Whether the degrees of a network follow a power law."""

from typing import TYPE_CHECKING

import numpy as np

from grnlab.network.hubs import centralities

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

_DEGREES = ("degree", "out_degree", "in_degree")


def power_law(network: "GeneNetwork", by: str = "degree") -> dict[str, float]:
    """Fit a power law to the tail of the degrees by maximum likelihood, with igraph.

    A network of a fixed number of regulators per gene has no free in-degree, and heavy tails are no proof of a power
    law: a small `distance` says that nothing speaks against one.

    Parameters
    ----------
    network
        The network.
    by
        ``"degree"``, ``"out_degree"`` or ``"in_degree"``.

    Returns
    -------
    ``alpha`` (exponent), ``minimum`` (smallest degree of the tail), ``distance`` (Kolmogorov-Smirnov) and ``n_tail``
    (genes in the tail); missing when fewer than two different degrees are above zero.

    Raises
    ------
    ValueError
        When `by` is no degree.

    References
    ----------
    Clauset, Shalizi, Newman (2009), doi:10.1137/070710111.

    Examples
    --------
    >>> import pandas as pd
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["A", "A", "B"], "target": ["B", "C", "C"], "weight": [1.0, 1.0, 1.0]})
    >>> sorted(power_law(GeneNetwork.from_edges(edges, name="three"), "out_degree"))
    ['alpha', 'distance', 'minimum', 'n_tail']
    """
    import igraph as ig

    if by not in _DEGREES:
        msg = f"by must be one of {', '.join(_DEGREES)}, got {by!r}."
        raise ValueError(msg)
    degrees = centralities(network)[by].to_numpy()
    degrees = degrees[degrees > 0]
    if len(np.unique(degrees)) < 2:
        return {"alpha": np.nan, "minimum": np.nan, "distance": np.nan, "n_tail": 0}
    fit = ig.power_law_fit(degrees.tolist(), method="discrete", p_precision=0.1)
    tail = int((degrees >= fit.xmin).sum())
    return {"alpha": float(fit.alpha), "minimum": float(fit.xmin), "distance": float(fit.D), "n_tail": tail}
