"""Attention of a model on the cells of a data set."""

from collections.abc import Collection

import anndata as ad

from grnlab._progress import progress
from grnlab.attention import AttentionMaps, pool_queries_keys
from grnlab.attention.pool import READOUT_OF_MAPS
from grnlab.attention.prepare import prepare_cells
from grnlab.backbones.base import Backbone


def attention(
    adata: ad.AnnData,
    model: Backbone,
    *,
    groupby: str | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    context: str = "expressed",
    min_cells: int = 5,
    skip_small: bool = False,
) -> AttentionMaps:
    """Run a model over cells and pool its queries and keys per group of cells.

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

    Returns
    -------
    Pooled attention. Memory is O(groups · heads · genes · d_head) whatever the number of cells.

    Raises
    ------
    ValueError
        When `adata` holds no counts, its genes are unknown or duplicated or of another species, `groupby` does not
        exist, or a group is too small. The message says how to mend it.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> gl.tl.attention(adata, gl.load_model("grnlab-small"), genes=50)
    AttentionMaps(50 genes, 4 layers × 4 heads; all (40 cells))
    """
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
