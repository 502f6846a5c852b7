"""Over-representation of gene sets, offline, against the genes of the experiment itself."""

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab.network.gene_sets import Codes, GeneSets, gene_names, libraries
from grnlab.network.statistics import benjamini_hochberg
from grnlab.network.tables import check_known

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

logger = logging.getLogger(__name__)

_SMALLEST_COMMUNITY = 5
_COLUMNS = {
    "group": object,
    "library": object,
    "term": object,
    "overlap": np.int64,
    "set_size": np.int64,
    "query_size": np.int64,
    "background_size": np.int64,
    "odds_ratio": np.float64,
    "pvalue": np.float64,
    "padj": np.float64,
    "genes": object,
}


def enrich(
    network: "GeneNetwork",
    genes: Iterable[str] | Mapping[str | int, Iterable[str]] | None = None,
    gene_sets: GeneSets | None = None,
    *,
    background: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Test gene lists for over-represented gene sets: one-sided hypergeometric test by gseapy, offline.

    Parameters
    ----------
    network
        The network.
    genes
        A list of genes, or label → list. None tests the communities of at least five genes of
        ``network.communities()``.
    gene_sets
        A GMT file, the name of a bundled one, or set name → genes. None tests all bundled sets.
    background
        The genes that could have been found. None takes every gene of the network's gene table: the genes of this
        experiment, never the whole genome. Sets are cut to it.

    Returns
    -------
    One row per list and set that share a gene, lowest ``pvalue`` first: ``group`` (the label; ``"genes"`` for a plain
    list), ``library``, ``term``, ``overlap``, ``set_size`` (in the background), ``query_size``, ``background_size``,
    ``odds_ratio`` (Haldane-corrected), ``pvalue``, ``padj``, ``genes`` (the shared ones, joined by ``;``).
    ``padj`` is Benjamini-Hochberg over every list × set tested in the call, also those that share no gene and are
    not listed. Empty lists give no rows; the table may be empty and then has the same columns.

    Raises
    ------
    ValueError
        When a gene is not in the background (with the nearest names), the background or a set is malformed, or no set
        has a gene in the background (as when symbols meet Ensembl ids).
    """
    universe = network.genes.index if background is None else gene_names(background, argument="background")
    groups = _groups(network, genes)
    where = f"the gene table of {network.name!r}" if background is None else "background"
    for label, members in groups.items():
        groups[label] = check_known(members, universe, argument=f"genes[{label!r}]", where=where)
    lists = {label: members for label, members in groups.items() if members}
    cut = cut_sets(libraries(gene_sets), universe) if lists else {}
    codes = Codes(universe)
    tables = [
        _test(label, members, library, sets, codes) for label, members in lists.items() for library, sets in cut.items()
    ]
    n_tests = len(lists) * sum(map(len, cut.values()))
    found = [table for table in tables if len(table)]
    if not found:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _COLUMNS.items()})
    result = pd.concat(found, ignore_index=True).assign(background_size=len(universe))
    result["padj"] = benjamini_hochberg(result["pvalue"].to_numpy(), n_tests)
    result = result.sort_values(["pvalue", "library", "term"], kind="stable", ignore_index=True)
    return result[list(_COLUMNS)].astype(_COLUMNS)


def _groups(
    network: "GeneNetwork", genes: Iterable[str] | Mapping[str | int, Iterable[str]] | None
) -> dict[str | int, list[str]]:
    if genes is None:
        found = network.communities().as_dict()
        return {label: members for label, members in found.items() if len(members) >= _SMALLEST_COMMUNITY}
    if isinstance(genes, Mapping):
        return {label: list(gene_names(members, argument=f"genes[{label!r}]")) for label, members in genes.items()}
    return {"genes": list(gene_names(genes, argument="genes"))}


def cut_sets(libraries: dict[str, dict[str, list[str]]], universe: pd.Index) -> dict[str, dict[str, list[str]]]:
    """Cut the sets to the genes of the background; refuses when nothing is left."""
    known = set(universe)
    cut = {
        library: {term: kept for term, genes in sets.items() if (kept := [gene for gene in genes if gene in known])}
        for library, sets in libraries.items()
    }
    left = sum(len(sets) for sets in cut.values())
    total = sum(len(sets) for sets in libraries.values())
    if left == 0:
        shown = repr(universe[0]) if len(universe) else "nothing"
        example = next((gene for sets in libraries.values() for genes in sets.values() for gene in genes), "none")
        msg = (
            f"gene_sets: none of the {total} sets has a gene among the {len(universe):,} genes of the background; the "
            f"sets name genes like {example!r}, the background {shown}. Use the same kind of names and species."
        )
        raise ValueError(msg)
    if left < total:
        logger.info("Enrichment: %d of %d gene sets have no gene in the background.", total - left, total)
    return cut


def _test(label: str | int, members: list[str], library: str, sets: dict[str, list[str]], codes: Codes) -> pd.DataFrame:
    query = set(members)
    if not any(query.intersection(genes) for genes in sets.values()):
        return pd.DataFrame()  # gseapy logs an error for what is an ordinary result
    import gseapy

    coded = {term: codes.of(genes) for term, genes in sets.items()}
    run = gseapy.enrich(codes.of(members), coded, background=codes.all, no_plot=True)
    run.close()
    raw = run.results
    shared = raw["Genes"].map(lambda joined: sorted(codes.names(joined)))
    columns = {
        "group": label,
        "library": library,
        "term": raw["Term"],
        "overlap": shared.map(len),
        "set_size": raw["Term"].map(lambda term: len(sets[term])),
        "query_size": len(members),
        "odds_ratio": raw["Odds Ratio"],
        "pvalue": raw["P-value"],
        "genes": shared.map(";".join),
    }
    return pd.DataFrame(columns)
