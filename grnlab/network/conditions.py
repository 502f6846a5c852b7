"""Conditions and stability on real cells: attention pooled once per block of cells, blocks shuffled or drawn again."""

import logging
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from grnlab.attention import AttentionMaps
from grnlab.heads import HeadSet
from grnlab.network.blocks import infer_from_blocks
from grnlab.network.differential import DifferentialNetworks, check_test, permutation_test
from grnlab.network.network import GeneNetwork
from grnlab.network.rules import EdgeRules
from grnlab.network.stability import bootstrap, check_size

logger = logging.getLogger(__name__)

BLOCK = "_grnlab_block"
Pool = Callable[[ad.AnnData], AttentionMaps]  # pools the groups of adata.obs[BLOCK]


def compare_blocks(
    adata: ad.AnnData,
    pool: Pool,
    heads: HeadSet | None,
    rules: EdgeRules,
    *,
    condition: str,
    a: str,
    b: str,
    units: str | None,
    strata: str | None,
    n_blocks: int,
    seed: int,
    test: dict[str, Any],
) -> DifferentialNetworks:
    """Cut the cells of two conditions into blocks, pool these once, and shuffle them; see `tl.compare_conditions`."""
    check_test(**test)  # before the model runs
    columns = {"condition": condition, "units": units, "strata": strata}
    text = {argument: _text(adata, column, argument) for argument, column in columns.items() if column is not None}
    labels = text["condition"]
    for argument, wanted in (("a", a), ("b", b)):
        if wanted not in set(labels):
            msg = f"{argument}={wanted!r} is not in adata.obs[{condition!r}], which has {sorted(set(labels) - {''})}."
            raise ValueError(msg)
    kept = np.flatnonzero(labels.isin([a, b]) & np.logical_and.reduce([column != "" for column in text.values()]))
    table = pd.DataFrame({argument: column.to_numpy()[kept] for argument, column in text.items()})
    within = table.groupby(list(table.columns), sort=True).ngroup().to_numpy()
    # with units there is one block a unit and condition, shuffled as a whole
    block = random_blocks(within, n_blocks, seed=seed) if units is None else within
    cells = adata[kept].copy()
    maps = _pooled(cells, block, pool)
    first = table.groupby(block).first()
    infer = infer_from_blocks(maps, heads, rules)
    return permutation_test(
        infer,
        first["condition"].tolist(),
        a=a,
        b=b,
        units=None if units is None else first["units"].tolist(),
        strata=None if strata is None else first["strata"].tolist(),
        seed=seed,
        **test,
    )


def bootstrap_blocks(
    adata: ad.AnnData,
    pool: Pool,
    heads: HeadSet | None,
    rules: EdgeRules,
    *,
    name: str,
    units: str | None,
    n_blocks: int,
    n_bootstraps: int,
    seed: int,
) -> GeneNetwork:
    """Cut the cells of one group into blocks, pool these once, and draw them again; see `tl.bootstrap_networks`."""
    if units is None:
        block, cells = random_blocks(np.zeros(adata.n_obs, dtype=np.int64), n_blocks, seed=seed), adata
    else:
        text = _text(adata, units, "units")
        cells = adata[(text != "").to_numpy()]
        block = pd.factorize(text[text != ""])[0]
    check_size(int(block.max(initial=-1)) + 1, n_bootstraps)
    maps = _pooled(cells.copy(), block, pool)
    infer = infer_from_blocks(maps, heads, rules, name=name)
    return bootstrap(infer, len(maps.groups), n_bootstraps=n_bootstraps, seed=seed)


def random_blocks(group: np.ndarray, n_blocks: int, *, seed: int) -> np.ndarray:
    """Cut the cells of each group at random into blocks of the same size, `n_blocks` in the smallest group.

    Blocks of one size are exchangeable; cells left over go to the blocks one by one, so that sizes differ by one cell
    at most per block of a group.

    Raises
    ------
    ValueError
        When `n_blocks` is below 2, or a group has fewer cells than that.

    Examples
    --------
    >>> np.bincount(random_blocks(np.array([0] * 4 + [1] * 8), 2, seed=0)).tolist()
    [2, 2, 2, 2, 2, 2]
    """
    sizes = np.bincount(group)
    if n_blocks < 2 or sizes.min() < n_blocks:
        msg = f"n_blocks={n_blocks} must be from 2 to the cells of the smallest group, which has {sizes.min()}."
        raise ValueError(msg)
    size = sizes.min() / n_blocks
    rng = np.random.default_rng(seed)
    block, start = np.empty(len(group), dtype=np.int64), 0
    for number, n_cells in enumerate(sizes):
        here = max(2, round(n_cells / size))
        block[group == number] = start + rng.permutation(np.arange(n_cells) % here)
        start += here
    return block


def _pooled(cells: ad.AnnData, block: np.ndarray, pool: Pool) -> AttentionMaps:
    # names of equal width keep the order of the numbers when they are sorted as text
    cells.obs[BLOCK] = [f"block {number:08d}" for number in block]
    logger.info("%d cells in %d blocks of %.0f", len(block), block.max() + 1, len(block) / (block.max() + 1))
    return pool(cells)


def _text(adata: ad.AnnData, column: str, argument: str) -> pd.Series:
    """A column of obs as text; missing values are empty."""
    if column not in adata.obs:
        msg = f"{argument}={column!r} is not a column of adata.obs; there are {list(map(str, adata.obs.columns))}."
        raise ValueError(msg)
    return adata.obs[column].astype(object).map(str, na_action="ignore").fillna("").reset_index(drop=True)
