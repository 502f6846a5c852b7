"""The vectors a model has of its genes."""

from typing import Any

import pandas as pd

from grnlab.backbones.base import Backbone


def gene_embeddings(model: Backbone) -> pd.DataFrame:
    """Embedding of every gene a model knows, without any cell: what enters its first layer.

    Parameters
    ----------
    model
        A backbone, see :func:`grnlab.load_model`.

    Returns
    -------
    One row per gene, named by symbol; a symbol that two species share is kept once, the first.

    Raises
    ------
    ValueError
        When the model has no such table.

    Examples
    --------
    >>> import grnlab as gl
    >>> gene_embeddings(gl.load_model("grnlab-small")).loc["SPI1"].shape
    (128,)
    """
    table: Any = getattr(model, "gene_embedding", None)
    if table is None or not hasattr(table, "weight"):
        msg = f"model {getattr(model, 'name', model)!r} has no table of gene embeddings."
        raise ValueError(msg)
    symbols = pd.Index(model.vocab.symbols.astype(str), name="gene")
    found = pd.DataFrame(table.weight.detach().float().cpu().numpy()[: len(symbols)], index=symbols)
    return found[~found.index.duplicated()]
