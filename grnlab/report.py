"""What a run leaves behind: the page, the networks, tables and a summary, in one folder that is whole or not there."""

import logging
from pathlib import Path

import anndata as ad
import pandas as pd

from grnlab._files import atomic_directory
from grnlab.network import NetworkSet
from grnlab.viz import write_page

logger = logging.getLogger(__name__)
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
        When `out` exists and `overwrite` is False.
    """
    with atomic_directory(out, overwrite=overwrite) as folder:
        enrichment = pd.concat(
            [
                network.enrich(gene_sets=gene_sets).rename(columns={"group": "community"}).assign(group=name)
                for name, network in networks.items()
            ],
            ignore_index=True,
        )
        enrichment.insert(0, "group", enrichment.pop("group"))
        networks.save(folder / "networks.grns")
        networks.write_tables(folder / "tables")
        enrichment.to_csv(folder / "enrichment.tsv", sep="\t", index=False)
        write_page(networks, folder / "network.html", title=title or None, seed=seed)
        (folder / "summary.md").write_text(summary_text(networks, enrichment, title, notes), encoding="utf-8")
    return Path(out)


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
        hubs = ", ".join(network.hubs(n=6).index) if len(network.edges) else "none"
        found = enrichment[(enrichment["group"] == name) & (enrichment["padj"] < 0.05)]
        best = f"{found.iloc[0]['term']} (padj {found.iloc[0]['padj']:.1e})" if len(found) else "none at padj < 0.05"
        cells = network.provenance.get("n_cells", "")
        lines.append(f"| {name} | {cells} | {len(network.genes)} | {len(network.edges)} | {hubs} | {best} |")
    return "\n".join([*lines, _READ_ME])


def residue_note(adata: ad.AnnData) -> str:
    """Say that counts were recovered and how exactly."""
    residue = float(adata.uns["recovered_counts"]["largest_residue"])
    return (
        "counts were recovered from log-normalised values; every value lies within "
        f"{residue:.3f} of a whole number of counts"
    )
