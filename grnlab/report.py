"""What a run leaves behind: the page, the networks, tables and a summary, in one folder that is whole or not there."""

import logging
import os
from pathlib import Path

import anndata as ad
import pandas as pd

from grnlab._files import atomic_directory
from grnlab.network import NetworkSet
from grnlab.viz import write_page

logger = logging.getLogger(__name__)
_PARTS = frozenset({"network.html", "networks.grns", "tables", "enrichment.tsv", "summary.md"})
_READ_ME = """
## Files

- `network.html` the interactive page; open it in a browser, no network access is needed
- `networks.grns` the networks; `gl.NetworkSet.load("networks.grns")`
- `tables/` edges, genes, hubs, communities and a summary row per group, tab-separated
- `enrichment.tsv` gene sets over-represented in communities, against the genes of each network

An edge runs from the regulator (the gene attended to) to the target (the gene that attends). Attention predicts; it
does not prove regulation.
"""


def write_report(
    networks: NetworkSet,
    out: str | Path,
    *,
    gene_sets: str | Path | None = None,
    title: str = "",
    seed: int = 0,
    notes: tuple[str, ...] = (),
    overwrite: bool = False,
) -> Path:
    """Write everything a run found into a new folder.

    Parameters
    ----------
    networks
        The networks.
    out
        Folder to make.
    gene_sets
        GMT file to test communities against; the bundled sets by default.
    title
        Heading of page and summary.
    seed
        Of communities and layout.
    notes
        Lines for the top of the summary.
    overwrite
        Replace an existing folder.

    Returns
    -------
    The folder.

    Raises
    ------
    FileExistsError
        When `out` exists and `overwrite` is False, or it holds something that no report wrote.
    """
    check_out(out, overwrite=overwrite)
    with atomic_directory(out, overwrite=overwrite) as folder:
        found, untested = _enrichment(networks, gene_sets)
        enrichment = _long(found)
        networks.save(folder / "networks.grns")
        networks.write_tables(folder / "tables")
        enrichment.to_csv(folder / "enrichment.tsv", sep="\t", index=False)
        write_page(networks, folder / "network.html", enrichment=found, title=title or None, seed=seed)
        (folder / "summary.md").write_text(
            summary_text(networks, enrichment, title, (*notes, *untested)), encoding="utf-8"
        )
    return Path(out)


def _enrichment(networks: NetworkSet, gene_sets: str | Path | None) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Enrichment of the communities of every group, by its name, and notes on groups that no gene set speaks of."""
    tables, notes = {}, []
    for name, network in networks.items():
        try:
            tables[name] = network.enrich(gene_sets=gene_sets)
        except ValueError as error:  # networks must not be lost because gene sets do not fit them
            logger.warning("no gene set was tested for %s: %s", name, error)
            notes.append(f"no gene set was tested for {_cell(name)}: {error}")
            tables[name] = network.enrich({})
    return tables, notes


def _long(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    named = [table.rename(columns={"group": "community"}).assign(group=name) for name, table in tables.items()]
    found = [table for table in named if len(table)] or named[:1]
    enrichment = pd.concat(found, ignore_index=True)
    enrichment.insert(0, "group", enrichment.pop("group"))
    return enrichment


def check_out(out: str | Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a folder that could not be written or whose replacement would lose other files.

    Raises
    ------
    FileExistsError
        When `out` exists and `overwrite` is False, or it is a file, or holds something that no report wrote.
    NotADirectoryError, PermissionError
        When the folder above it is a file or read-only.
    """
    out = Path(out)
    if out.exists() or out.is_symlink():
        if not overwrite:
            msg = f"{out} exists already and is left as it is. Choose another --out, or say --overwrite."
            raise FileExistsError(msg)
        foreign = sorted({path.name for path in out.iterdir()} - _PARTS) if out.is_dir() else [out.name]
        if foreign:
            msg = (
                f"{out} holds what no report wrote ({', '.join(foreign[:3])}), and --overwrite would delete it. Choose "
                "another --out, or move these files away."
            )
            raise FileExistsError(msg)
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        msg = f"{out} cannot be written: {above} is a file, not a folder. Choose another --out."
        raise NotADirectoryError(msg)
    if not os.access(above, os.W_OK | os.X_OK):
        msg = f"{out} cannot be written: you may not write into {above}. Choose another --out."
        raise PermissionError(msg)


def summary_text(networks: NetworkSet, enrichment: pd.DataFrame, title: str, notes: tuple[str, ...]) -> str:
    """Markdown summary: a row per group with sizes, hubs and the best enriched gene set."""
    lines = [f"# {title or 'Gene networks'}", "", *[f"- {note}" for note in notes]]
    if networks.provenance.get("alignment"):
        lines.append(f"- genes: {networks.provenance['alignment']}")
    lines += [
        "",
        "| group | cells | genes | edges | strongest regulators (PageRank) | best enriched gene set of a community |",
        "|---|---|---|---|---|---|",
    ]
    for name, network in networks.items():
        hubs = network.hubs()
        regulators = _cell(", ".join(hubs.index[hubs["out_degree"] > 0][:6])) or "none"
        found = enrichment[(enrichment["group"] == name) & (enrichment["padj"] < 0.05)]
        best = (
            f"{_cell(found.iloc[0]['term'])} (padj {found.iloc[0]['padj']:.1e})"
            if len(found)
            else "none at padj < 0.05"
        )
        cells = network.provenance.get("n_cells", "")
        sizes = f"{cells} | {len(network.genes)} | {len(network.edges)}"
        lines.append(f"| {_cell(name)} | {sizes} | {regulators} | {best} |")
    return "\n".join([*lines, _READ_ME])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")  # a cell of a Markdown table ends at a bar or a line end


def residue_note(adata: ad.AnnData) -> str:
    """Say that counts were recovered and how exactly."""
    residue = float(adata.uns["recovered_counts"]["largest_residue"])
    return (
        "counts were recovered from log-normalised values; every value lies within "
        f"{residue:.3f} of a whole number of counts"
    )
