"""Networks of genes that lie close to each other in an embedding, as models and factorisations give them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab.network.hubs import check_count

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

_BLOCK = 1_000  # targets at once: 160 MB of cosines at 20,000 genes


def from_embedding(
    embedding: np.ndarray, genes: Sequence[str], *, name: str, top_k: int = 10, minimum: float = 0.0
) -> "GeneNetwork":
    """Make a network of the cosines between gene embeddings: the nearest genes of every gene.

    A cosine has no direction: the source is the near gene, the target the one it is near to. It says which genes are
    alike to the model, and is the baseline that attention has to beat.

    Parameters
    ----------
    embedding
        Genes × dimensions.
    genes
        Name of each row.
    name
        Name of the network.
    top_k
        Nearest genes of every gene.
    minimum
        Keep cosines above it only.

    Raises
    ------
    ValueError
        When shapes differ, values are not finite, or a number is out of range.

    Examples
    --------
    >>> values = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> from_embedding(values, ["A", "B", "C"], name="near", top_k=1).targets("A")["target"].tolist()
    ['B']
    """
    from grnlab.network.network import GeneNetwork

    values = np.asarray(embedding, dtype=np.float64)
    names = np.array(list(genes), dtype=object)
    if values.ndim != 2 or len(values) != len(names):
        msg = f"embedding must have one row for each of the {len(names)} genes, got shape {values.shape}."
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = "embedding holds values that are not finite; leave such genes out."
        raise ValueError(msg)
    check_count(top_k, argument="top_k")
    if not np.isfinite(minimum):
        msg = f"minimum must be a number, got {minimum!r}."
        raise ValueError(msg)
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(float).tiny)
    kept = min(top_k, max(len(names) - 1, 0))
    parts = []
    for start in range(0, len(names), _BLOCK):
        cosine_TG = unit[start : start + _BLOCK] @ unit.T
        target = np.arange(start, start + len(cosine_TG))
        cosine_TG[target - start, target] = -np.inf
        near = np.argsort(-cosine_TG, axis=1, kind="stable")[:, :kept]
        weight = np.take_along_axis(cosine_TG, near, axis=1).ravel()
        strong = weight > minimum
        ends = {"source": names[near.ravel()[strong]], "target": names[np.repeat(target, kept)[strong]]}
        parts.append(pd.DataFrame({**ends, "weight": weight[strong]}))
    edges = pd.concat(parts) if parts else pd.DataFrame({"source": [], "target": [], "weight": []})
    return GeneNetwork(edges.astype({"weight": float}), pd.DataFrame(index=names), name=name)
