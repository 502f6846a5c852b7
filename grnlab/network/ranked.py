"""Gene sets among the hubs: enrichment of a whole ranking, without a cut between hub and no hub."""

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from grnlab.network.enrichment import cut_sets
from grnlab.network.gene_sets import Codes, GeneSets, libraries
from grnlab.network.hubs import centralities, check_centrality, check_count, order_by
from grnlab.network.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

_COLUMNS = ("library", "term", "set_size", "es", "nes", "pvalue", "padj", "leading_edge")


def prerank(
    network: "GeneNetwork",
    gene_sets: GeneSets | None = None,
    *,
    by: str = "pagerank",
    min_size: int = 5,
    max_size: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank the genes by a centrality and test where gene sets lie in the ranking: preranked GSEA by gseapy, offline.

    The score of a gene is the normal quantile of its rank (ties share theirs), so that the few largest hubs do not
    decide everything, and both ends of the ranking can be told.

    Parameters
    ----------
    network
        The network; all genes of its table are ranked, those without an edge last (ties by name).
    gene_sets
        A GMT file, the name of a bundled one, or set name → genes. None tests all bundled sets.
    by
        One of the eight centralities of `grnlab.network.hubs.hubs`.
    min_size, max_size
        Sets with fewer or more genes of the network are not tested.
    seed
        Seed of the sampling of p-values. gseapy's multilevel method where it has it (1.3 and later; p-values down to
        1e-50 and faster), else 1,000 permutations.

    Returns
    -------
    One row per set tested, lowest ``pvalue`` first: ``library``, ``term``, ``set_size`` (genes of the network), ``es``,
    ``nes`` (positive: among the hubs; negative: among the genes of few edges), ``pvalue``, ``padj``
    (Benjamini-Hochberg over all sets tested), ``leading_edge`` (joined by ``;``). Where gseapy finds no null score of
    the same sign, ``nes``, ``pvalue`` and ``padj`` are missing, and the row is last.

    Raises
    ------
    ValueError
        When `by` is no centrality, or no set has a gene in the network.

    References
    ----------
    Subramanian et al. (2005), doi:10.1073/pnas.0506580102; Korotkevich et al. (2021), doi:10.1101/060012.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> genes = [f"G{i:02d}" for i in range(40)]
    >>> pairs = [(a, b, 1.0) for a in genes[:6] for b in genes[6:]]
    >>> edges = pd.DataFrame(pairs, columns=["source", "target", "weight"])
    >>> network = GeneNetwork.from_edges(edges, name="six hubs")
    >>> table = network.prerank({"hubs": genes[:6], "others": genes[20:26]})
    >>> table["term"].iloc[0], bool(table["nes"].iloc[0] > 0)
    ('hubs', True)
    """
    check_centrality(by)
    check_count(min_size, argument="min_size")
    check_count(max_size, argument="max_size")
    universe = network.genes.index
    cut = cut_sets(libraries(gene_sets), universe)
    sets = {
        (library, term): genes
        for library, terms in cut.items()
        for term, genes in terms.items()
        if max(min_size, 1) <= len(genes) <= max_size and len(genes) < len(universe)
    }
    values = centralities(network)[by].astype(float)
    if not sets or values.nunique() < 2:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in _COLUMNS})
    # rounded as by order_by: solvers give equal genes values that differ in the last bits
    values = (values.iloc[order_by(values)] / values.abs().max()).round(10)
    # normal scores: a few huge hubs would decide every enrichment score, and leave no null scores below zero
    scores = pd.Series(ndtri((values.rank() - 0.5) / len(values)), index=values.index)
    scores -= 1e-12 * np.arange(len(scores))  # gseapy would order ties as it likes, and warn of it
    codes, keys = Codes(universe), {f"S{i}": key for i, key in enumerate(sets)}
    coded = {name: codes.of(sets[key]) for name, key in keys.items()}
    table = _gseapy(scores.set_axis(codes.of(scores.index)), coded, seed)
    rows = []
    for term, es, nes, pvalue, lead in table[["Term", "ES", "NES", "NOM p-val", "Lead_genes"]].itertuples(index=False):
        key = keys[term]
        leading = ";".join(codes.names(str(lead)))
        rows.append((*key, len(sets[key]), float(es), float(nes), float(pvalue), float("nan"), leading))
    result = pd.DataFrame(rows, columns=list(_COLUMNS))
    result["padj"] = benjamini_hochberg(result["pvalue"].to_numpy(dtype=float))
    result["size"] = -result["nes"].abs()
    ordered = result.sort_values(["pvalue", "size", "library", "term"], kind="stable", ignore_index=True)
    return ordered.drop(columns="size")


def _gseapy(values: pd.Series, sets: dict[str, list[str]], seed: int) -> pd.DataFrame:
    import gseapy

    method: dict[str, Any] = {"permutation_num": 1_000}
    if "method" in inspect.signature(gseapy.prerank).parameters:
        method = {"method": "multilevel"}
    run = gseapy.prerank(
        values, sets, min_size=1, max_size=len(values), seed=seed, threads=1, no_plot=True, outdir=None, **method
    )
    return run.res2d
