"""Networks inside AnnData: a genes × genes matrix in ``varp``, row = regulator, column = target."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab.data.counts import check_sparse

if TYPE_CHECKING:
    import anndata as ad

    from grnlab.network.base import NetworkTables
    from grnlab.network.network import GeneNetwork


def network_from_varp(
    adata: "ad.AnnData", key: str = "GRN", *, name: str | None = None, provenance: Mapping[str, Any] | None = None
) -> "GeneNetwork":
    """Read a matrix of ``adata.varp``, dense or sparse; zeros and the diagonal are no edges.

    Raises
    ------
    ValueError
        When there is no such matrix, or it is damaged or holds values that are not finite.

    Examples
    --------
    >>> import anndata as ad
    >>> adata = ad.AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["A", "B"]))
    >>> adata.varp["GRN"] = np.array([[1.0, 0.5], [0.0, 1.0]])
    >>> network_from_varp(adata).edges.values.tolist()
    [['A', 'B', 0.5]]
    """
    from grnlab.network.network import GeneNetwork

    if key not in adata.varp:
        msg = f"adata.varp has no {key!r}; it has {list(adata.varp)}."
        raise ValueError(msg)
    check_sparse(adata.varp[key], f"adata.varp[{key!r}]")
    matrix = sp.coo_array(adata.varp[key])
    matrix.sum_duplicates()
    kept = (matrix.row != matrix.col) & (matrix.data != 0)
    names = adata.var_names.to_numpy(dtype=object)
    edges = pd.DataFrame(
        {
            "source": names[matrix.row[kept]],
            "target": names[matrix.col[kept]],
            "weight": matrix.data[kept].astype(np.float64),
        }
    )
    given = {k: v for k, v in (provenance or {}).items() if k != "direction"}
    return GeneNetwork(edges, pd.DataFrame(index=names), name=name or key, provenance=given)


def network_to_anndata(network: "NetworkTables") -> "ad.AnnData":
    """Make an AnnData without cells in GRnnData's layout: ``varp["GRN"]`` is CSR, row = regulator, column = target.

    The gene table becomes ``var``; name, direction and provenance (JSON) are in ``uns["grn"]``. Signs do not fit.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [0.5]})
    >>> network_to_anndata(GeneNetwork.from_edges(edges, name="one")).varp["GRN"].toarray().tolist()
    [[0.0, 0.5], [0.0, 0.0]]
    """
    import anndata as ad

    size = len(network.genes)
    matrix = sp.csr_matrix((network.edges["weight"].to_numpy(), network.edge_positions()), shape=(size, size))
    var = network.genes.rename_axis(None)
    uns = {
        "grn": {
            "name": network.name,
            "direction": "row=regulator, column=target",
            "provenance": json.dumps(network.provenance),
        }
    }
    return ad.AnnData(X=sp.csr_matrix((0, size), dtype=np.float32), var=var, varp={"GRN": matrix}, uns=uns)
