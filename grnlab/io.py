"""Read data sets, with errors that say how to mend a file."""

from pathlib import Path

import anndata as ad

from grnlab.data.counts import counts_of
from grnlab.data.source import read_anndata, what_folder
from grnlab.evaluate import fetch_gold, read_gold

__all__ = ["fetch_gold", "read", "read_gold"]


def read(path: str | Path, *, layer: str | None = None) -> ad.AnnData:
    """Read an h5ad file and check that it holds counts.

    Parameters
    ----------
    path
        An ``.h5ad`` file.
    layer
        Layer that holds the counts; ``X`` by default.

    Returns
    -------
    AnnData whose ``X`` is a CSR matrix of counts, float32, shape (n_cells, n_genes).

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is not a readable h5ad (a folder, empty, truncated, another format), or does not hold counts.
    """
    if not isinstance(path, str | Path):
        msg = f"path is a {type(path).__name__}; name an .h5ad file."
        raise ValueError(msg)
    path = Path(path)
    if path.is_dir():
        raise ValueError(what_folder(path))
    adata = read_anndata(path)
    adata.X = counts_of(adata, layer=layer)
    return adata
