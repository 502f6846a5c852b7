"""Attention of a model on the cells of a data set."""

from collections.abc import Collection
from pathlib import Path

import anndata as ad

from grnlab._progress import progress
from grnlab.attention import AttentionMaps, pool_queries_keys
from grnlab.attention.needs import AttentionNeeds, measure_needs
from grnlab.attention.pool import READOUT_OF_MAPS
from grnlab.attention.prepare import prepare_cells
from grnlab.attention.stream import make_plan, stream_attention
from grnlab.backbones.base import Backbone


def attention(
    adata: ad.AnnData | str | Path,
    model: Backbone,
    *,
    groupby: str | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    context: str = "expressed",
    min_cells: int = 5,
    skip_small: bool = False,
    state: str | Path | None = None,
) -> AttentionMaps:
    """Run a model over cells and pool its queries and keys per group of cells.

    Cells in memory are read at once. Those on disk (a path to an h5ad file or a zarr store, or an AnnData opened with
    ``backed="r"``) are read 2,048 at a time, so that memory does not grow with their number; under ``torchrun`` every
    process reads its share of them, and all return the same maps. See :func:`estimate_attention` for what that takes.

    Parameters
    ----------
    adata
        Counts. Genes are matched to the model **by name** (symbol, Ensembl id, alias); their order has no effect.
    model
        A backbone, see :func:`grnlab.load_model`.
    groupby
        Column of ``adata.obs`` whose values are the groups; all cells are one group by default. Cells without a value
        are left out.
    genes
        How many genes to show the model, ``"all"``, or their names (symbols of the model's vocabulary), see
        :func:`grnlab.data.select.select_genes`. A model that reads whole cells (``model.whole_cells``, as Geneformer)
        is shown every gene it knows, and these are kept.
    layer
        Layer that holds the counts; ``X`` by default.
    context
        ``"expressed"``: every cell is shown the genes it expresses, and a gene is averaged over the cells that
        express it; cheaper, and closer to the mix of expressed and silent genes that pretraining shows.
        ``"shared"``: all genes, zeros included.
    min_cells
        Groups with fewer cells are an error, or are left out with `skip_small`.
    skip_small
        Leave small groups out with a warning in the log.
    state
        Folder that keeps the sums over the cells read so far. A run that was stopped, even killed, goes on from there
        when it is called again with the same data, model and settings; with others it is refused. The folder is yours
        to remove.

    Returns
    -------
    Pooled attention. It takes O(groups · heads · genes · d_head) whatever the number of cells.

    Raises
    ------
    ValueError
        When `adata` holds no counts, its genes are unknown or duplicated or of another species, `groupby` does not
        exist, a group is too small, or `state` is of another run. The message says how to mend it.
    FileNotFoundError
        When there is no such file.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> gl.tl.attention(adata, gl.load_model("grnlab-small"), genes=50)
    AttentionMaps(50 genes, 4 layers × 4 heads; all (40 cells))
    """
    if not isinstance(adata, ad.AnnData) or adata.isbacked or state is not None:
        plan = make_plan(adata, model, groupby=groupby, layer=layer, min_cells=min_cells, skip_small=skip_small)
        with plan:
            return stream_attention(plan, model, genes=genes, context=context, groupby=groupby, state=state)
    cells = prepare_cells(
        adata, model, groupby=groupby, genes=genes, layer=layer, min_cells=min_cells, skip_small=skip_small
    )
    pooled = {}
    with progress(total=sum(map(len, cells.groups.values())), desc="attention", unit="cell") as bar:
        for name in cells.groups:
            bar.set_postfix_str(name)
            counts, totals = cells.of(name)
            pooled[name] = pool_queries_keys(
                *(model, counts, cells.tokens, totals),
                name=name,
                context=context,
                keep=None if len(cells.chosen) == len(cells.genes) else cells.chosen,
                on_batch=bar.update,
            )
    provenance = cells.provenance | {
        "context": context,
        "readout": READOUT_OF_MAPS[model.attention.kind],
        "seed": "none: nothing here is random",
    }
    expression = {name: table.iloc[cells.chosen] for name, table in cells.expression().items()}
    return AttentionMaps(cells.genes.iloc[cells.chosen], pooled, model.attention, expression, provenance)


def estimate_attention(
    adata: ad.AnnData | str | Path,
    model: Backbone,
    *,
    groupby: str | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    context: str = "expressed",
    min_cells: int = 5,
    skip_small: bool = False,
) -> AttentionNeeds:
    """Say how long :func:`attention` would take for cells on disk, and how much memory: measured on some of them.

    Takes less than a minute, whatever the number of cells.

    Parameters
    ----------
    adata, model, groupby, genes, layer, context, min_cells, skip_small
        As in :func:`attention`.

    Raises
    ------
    ValueError, FileNotFoundError
        As there, for what can be seen without reading all counts.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> gl.tl.estimate_attention(adata, gl.load_model("grnlab-small"), genes=50).n_genes
    50
    """
    with make_plan(adata, model, groupby=groupby, layer=layer, min_cells=min_cells, skip_small=skip_small) as plan:
        return measure_needs(plan, model, genes=genes, context=context)
