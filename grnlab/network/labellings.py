"""What `permutation_test` collects: edges and centralities of the two networks of every labelling."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab.network.hubs import CENTRALITIES, centralities, order_by
from grnlab.network.statistics import benjamini_hochberg, permutation_pvalues

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork


class Labellings:
    """Edges and centralities of the two networks of every labelling, the real one first.

    A gene that one network does not have (too few of its cells express it) cannot be compared there: its values are
    missing, not zero. A gene or edge is tested among the labellings that have it in both universes, of which the real
    one is as likely as any other, and not at all when the real one is none of them.
    """

    def __init__(self) -> None:
        self.real: list[GeneNetwork] = []
        self.jaccard: list[float] = []
        self.n_shared: list[int] = []
        self._gene: dict[str, int] = {}
        self._edges: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self._central: list[tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = []
        self._common: list[np.ndarray] = []

    def add(self, one: "GeneNetwork", other: "GeneNetwork") -> None:
        """Add the networks of one labelling."""
        if not self.real:
            self.real = [one, other]
        common = np.intersect1d(self._codes(one), self._codes(other), assume_unique=True)
        self._common.append(common)
        (key_a, weight_a), (key_b, weight_b) = self._keyed(one, common), self._keyed(other, common)
        both = len(np.intersect1d(key_a, key_b, assume_unique=True))
        either = len(key_a) + len(key_b) - both
        self.n_shared.append(both)
        self.jaccard.append(both / either if either else 1.0)
        self._edges.append((key_a, weight_a, key_b, weight_b))
        self._central.append((self._centralities(one), self._centralities(other)))

    def edges(self, null: str, min_frequency: float) -> pd.DataFrame:
        """Test the edges of enough networks; the table of `DifferentialNetworks.edges`."""
        every = [(key, row) for row, labelling in enumerate(self._edges) for key in (labelling[0], labelling[2])]
        keys, frequency = np.unique(np.concatenate([key for key, _ in every]), return_counts=True)
        keys = keys[frequency >= max(min_frequency * len(every), 1)]
        values = []
        for key_at, weight_at in ((0, 1), (2, 3)):
            rows, columns, weights = [], [], []
            for row, labelling in enumerate(self._edges):
                kept = np.isin(labelling[key_at], keys)
                columns.append(np.searchsorted(keys, labelling[key_at][kept]))
                weights.append(labelling[weight_at][kept])
                rows.append(np.full(int(kept.sum()), row))
            parts = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
            values.append(sp.csr_array(parts, shape=(len(self._edges), len(keys))))
        weight_a, weight_b = (value[[0]].toarray()[0] for value in values)
        known = self._known()
        difference = (values[0] - values[1]).toarray()
        difference[~(known[:, keys >> 32] & known[:, keys & 0xFFFFFFFF])] = np.nan
        tested = ~np.isnan(difference[0])
        keys, weight_a, weight_b = keys[tested], weight_a[tested], weight_b[tested]
        z, pvalue = _compare(difference[:, tested], null)
        names = np.array(list(self._gene), dtype=object)
        table = pd.DataFrame(
            {
                "source": names[keys >> 32],
                "target": names[keys & 0xFFFFFFFF],
                "weight_a": weight_a,
                "weight_b": weight_b,
                "difference": weight_a - weight_b,
                "z": z,
                "pvalue": pvalue,
                "padj": benjamini_hochberg(pvalue),
            }
        )
        order = np.lexsort((table["target"], table["source"], -np.abs(z), pvalue))
        return table.iloc[order].reset_index(drop=True)

    def hubs(self, null: str) -> pd.DataFrame:
        """Test the centralities of all genes; the table of `DifferentialNetworks.centralities`."""
        names = np.array(list(self._gene), dtype=object)
        value = np.full((2, len(self._central), len(CENTRALITIES), len(names)), np.nan)
        for row, pair in enumerate(self._central):
            for which, (genes, numbers_NC) in enumerate(pair):
                value[which, row][:, genes] = numbers_NC.T
        tested = self._known()[0]
        names, value = names[tested], value[..., tested]
        tables = []
        for number, centrality in enumerate(CENTRALITIES):
            first, second = value[0, :, number], value[1, :, number]
            above = (
                [_above_floor(values) for values in (first, second)] if centrality == "pagerank" else [first, second]
            )
            difference = above[0] - above[1]
            z, pvalue = _compare(difference, null)
            # genes without an edge to speak of in any labelling (which does not see the labels) are no test
            idle = (np.nan_to_num(difference) == 0).all(axis=0)
            padj = np.where(idle, 1.0, benjamini_hochberg(np.where(idle, np.nan, pvalue)))
            columns = {
                "centrality": centrality,
                "gene": names,
                "a": first[0],
                "b": second[0],
                "difference": first[0] - second[0],
                "z": z,
                "pvalue": np.where(idle, 1.0, pvalue),
                "padj": padj,
            }
            table = pd.DataFrame(columns)
            by_z = order_by(pd.Series(np.abs(z), index=names))
            tables.append(table.iloc[by_z[np.argsort(table["pvalue"].to_numpy()[by_z], kind="stable")]])
        return pd.concat(tables, ignore_index=True)

    def _known(self) -> np.ndarray:
        """Tell which genes both networks of a labelling have: labellings × genes."""
        known = np.zeros((len(self._common), len(self._gene)), dtype=bool)
        for row, genes in enumerate(self._common):
            known[row, genes] = True
        return known

    def _keyed(self, network: "GeneNetwork", common: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give key and weight of the edges between genes that both networks have."""
        code = self._codes(network)
        shared = np.isin(code, common)
        source, target = network.edge_positions()
        kept = shared[source] & shared[target]
        keys = (code[source[kept]] << 32) | code[target[kept]]
        return keys, network.edges["weight"].to_numpy()[kept]

    def _codes(self, network: "GeneNetwork") -> np.ndarray:
        return np.array([self._gene.setdefault(name, len(self._gene)) for name in network.genes.index], dtype=np.int64)

    def _centralities(self, network: "GeneNetwork") -> tuple[np.ndarray, np.ndarray]:
        return self._codes(network), centralities(network)[list(CENTRALITIES)].to_numpy(dtype=np.float32)


def _above_floor(pagerank_BX: np.ndarray) -> np.ndarray:
    """What PageRank gives a gene beyond what it gives every gene, which depends on the rest of the network alone."""
    above = pagerank_BX - np.fmin.reduce(pagerank_BX, axis=1, keepdims=True, initial=np.inf)
    above[above < 1e-6 * np.fmax.reduce(pagerank_BX, axis=1, keepdims=True, initial=0.0)] = 0.0  # rounding of solvers
    return above


def _compare(difference_BX: np.ndarray, null: str) -> tuple[np.ndarray, np.ndarray]:
    """Z and two-sided p-value of the first row among all rows, for each column; NaN elsewhere is no labelling."""
    missing = np.isnan(difference_BX)
    n_X = np.maximum((~missing).sum(axis=0), 1)
    # networks of fewer cells have other weights: what the labellings have in common is no difference of conditions
    difference_BX = np.where(missing, 0.0, difference_BX - np.nansum(difference_BX, axis=0) / n_X)
    spread = np.sqrt((difference_BX**2).sum(axis=0) / n_X)
    size_BX = np.abs(difference_BX)
    known = spread > 1e-9 * size_BX.max(axis=0, initial=1e-6)
    z_BX = np.divide(difference_BX, spread, out=np.zeros_like(difference_BX), where=known)
    if null == "edge":
        size_BX[missing] = -1.0  # never as large as the real one
        return z_BX[0], permutation_pvalues(size_BX[0], size_BX[1:]) * len(size_BX) / n_X
    if z_BX.size == 0:
        return z_BX[0], np.ones(0)
    size = np.sort(np.abs(z_BX[~missing]))  # the real labelling belongs to the null, so p is never 0
    reached = len(size) - np.searchsorted(size, np.abs(z_BX[0]) * (1 - 1e-9), side="left")
    return z_BX[0], reached / len(size)
