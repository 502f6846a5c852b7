"""Networks and the AnnData they came from: kept in it, read back, signed by it."""

import json
import logging
from collections.abc import Mapping

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab._reading import parse_json
from grnlab.data.counts import counts_of
from grnlab.data.groups import cell_groups
from grnlab.network.network import GeneNetwork
from grnlab.network.networks import NetworkSet
from grnlab.network.signs import sign_edges as _sign_edges
from grnlab.network.varp import network_from_varp

logger = logging.getLogger(__name__)


def store_networks(adata: ad.AnnData, networks: NetworkSet) -> None:
    """Write each network into ``adata.varp["grn_<group>"]``: CSR, row = regulator, column = target.

    Genes are found under the name the network was made from (its column ``name_in_data``), or else under their own;
    edges of genes that `adata` does not have cannot be stored, and their number is logged. A ``/`` in the name of a
    group becomes ``|``. Provenance is kept as JSON in ``adata.uns["grn"]``.

    Parameters
    ----------
    adata
        Cells or anything else with the genes; changed in place, its counts are not touched.
    networks
        What :func:`infer_networks` gave.

    Raises
    ------
    ValueError
        When two names become one by that, or `adata` has none of the genes of a network.
    """
    keys = {name: f"grn_{name}".replace("/", "|") for name in networks}
    if len(set(keys.values())) < len(keys):
        msg = f"networks has names that differ only by '/' and '|', which share a key of adata.varp: {list(keys)}."
        raise ValueError(msg)
    place = pd.Series(np.arange(adata.n_vars), index=adata.var_names)
    for name, network in networks.items():
        where = place.reindex(_names_in_data(network)).to_numpy()
        if len(where) and np.isnan(where).all():
            msg = f"adata has none of the {len(where):,} genes of {name!r}; are they named by another kind of name?"
            raise ValueError(msg)
        source, target = network.edge_positions()
        rows, columns = where[source], where[target]
        keep = ~(np.isnan(rows) | np.isnan(columns))
        if not keep.all():
            logger.warning("%d edges of %s are not stored: adata lacks their genes", int((~keep).sum()), name)
        weight = network.edges["weight"].to_numpy()[keep]
        shape = (adata.n_vars, adata.n_vars)
        adata.varp[keys[name]] = sp.csr_matrix((weight, (rows[keep].astype(int), columns[keep].astype(int))), shape)
    adata.uns["grn"] = {"provenance": json.dumps(networks.provenance), "direction": "row=regulator, column=target"}


def stored_networks(adata: ad.AnnData) -> NetworkSet:
    """Read back what `store_networks` wrote, or a network in GRnnData's layout (``adata.varp["GRN"]``).

    Gene names are the ``var_names``, and every gene of `adata` is in the universe. Explicit values of the matrix are
    the weights; the diagonal, where GRnnData may hold values, is left out.

    Raises
    ------
    ValueError
        When `adata` has no such matrix.

    Examples
    --------
    >>> import grnlab as gl
    >>> grn = sp.csr_matrix(np.array([[0, 1.0], [0, 0]]))
    >>> adata = ad.AnnData(np.ones((3, 2)), var=pd.DataFrame(index=["SPI1", "LYZ"]), varp={"GRN": grn})
    >>> gl.tl.stored_networks(adata)["GRN"].targets("SPI1")["target"].tolist()
    ['LYZ']
    """
    keys = [key for key in adata.varp if key.startswith("grn_") or key == "GRN"]
    if not keys:
        msg = f"adata.varp has no 'GRN' and no 'grn_<group>'; it has {list(adata.varp)}. Store networks first."
        raise ValueError(msg)
    try:
        stored = dict(parse_json(adata.uns["grn"]["provenance"])) if "grn" in adata.uns else {}
    except (LookupError, TypeError, ValueError) as error:
        msg = f"adata.uns['grn']['provenance'] is no JSON object ({error}); remove adata.uns['grn'], or restore it."
        raise ValueError(msg) from error
    return NetworkSet(
        (network_from_varp(adata, key, name=key.removeprefix("grn_"), provenance=stored) for key in keys), stored
    )


def sign_edges(
    adata: ad.AnnData,
    networks: NetworkSet,
    *,
    groupby: str | None = None,
    layer: str | None = None,
    method: str = "spearman",
    alpha: float = 0.05,
) -> NetworkSet:
    """Give the edges of networks the sign of the correlation over the cells of each network's group.

    Parameters
    ----------
    adata
        The counts the networks were made from; scaled to 10,000 per cell and log1p here.
    networks
        From :func:`infer_networks`.
    groupby
        The column of ``adata.obs`` they were grouped by; all cells for every network by default.
    layer
        Layer that holds the counts; ``X`` by default.
    method, alpha
        As in :func:`grnlab.network.sign_edges`.

    Returns
    -------
    Networks with the edge columns ``sign``, ``correlation`` and ``correlation_padj``; regulons
    (`GeneNetwork.to_regulons`) then tell activated from repressed targets.

    Raises
    ------
    ValueError
        When a network has no group of its name or a gene is not in `adata`.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> nets = gl.tl.infer_networks(gl.tl.attention(adata, gl.load_model("grnlab-small"), genes=50))
    >>> sorted(gl.tl.sign_edges(adata, nets, alpha=1)["all"].edges["sign"].unique().tolist())
    [-1, 1]
    """
    if not isinstance(networks, Mapping):
        msg = f"networks must be a NetworkSet, got {type(networks).__name__}; write NetworkSet([network])."
        raise ValueError(msg)
    counts = counts_of(adata, layer=layer)
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    scaled = sp.csr_matrix(sp.diags(1e4 / totals) @ counts).log1p()
    place = {name: column for column, name in enumerate(adata.var_names)}
    groups = cell_groups(adata, groupby, min_cells=1, skip_small=True)
    signed = []
    for name, network in networks.items():
        rows = groups.get("all" if groupby is None else name)
        if rows is None:
            msg = f"adata.obs[{groupby!r}] has no cell of the group {name!r}; it has {list(groups)}."
            raise ValueError(msg)
        in_data = _names_in_data(network)
        known = in_data[in_data.isin(place)]
        columns = [place[gene] for gene in known]
        signed.append(_sign_edges(network, scaled[rows][:, columns], known.index, method=method, alpha=alpha))
    return NetworkSet(signed, networks.provenance)


def _names_in_data(network: GeneNetwork) -> pd.Series:
    return network.genes.get("name_in_data", pd.Series(network.genes.index, index=network.genes.index))
