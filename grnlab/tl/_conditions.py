"""Networks of resampled cells: two conditions compared, one group bootstrapped."""

from collections.abc import Collection
from typing import Any

import anndata as ad

from grnlab.attention import AttentionMaps
from grnlab.attention.prepare import prepare_cells
from grnlab.backbones.base import Backbone
from grnlab.heads import HeadSet
from grnlab.network.conditions import BLOCK, bootstrap_blocks, compare_blocks
from grnlab.network.differential import DifferentialNetworks
from grnlab.network.networks import NetworkSet
from grnlab.network.rules import EdgeRules
from grnlab.tl._attention import attention


def compare_conditions(
    adata: ad.AnnData,
    model: Backbone,
    *,
    condition: str,
    a: str,
    b: str,
    units: str | None = None,
    strata: str | None = None,
    heads: HeadSet | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    context: str = "expressed",
    n_blocks: int = 20,
    n_permutations: int = 200,
    null: str = "edge",
    min_frequency: float = 0.1,
    seed: int = 0,
    **settings: Any,
) -> DifferentialNetworks:
    """Compare the networks of two conditions with a permutation test: differential edges, hubs and overlap.

    The model runs **once** over every cell: queries and keys are pooled per block of cells, and the networks of every
    labelling are computed from the sums of its blocks, which is exact. Give the cells of one type: differences in the
    mix of types are differences of conditions too.

    Parameters
    ----------
    adata, model, genes, layer, context
        As in :func:`attention`.
    condition
        Column of ``adata.obs``.
    a, b
        The two values of `condition` to compare; other cells take no part.
    units
        Column with the samples (donors): blocks are donors and are shuffled as a whole. Without it the cells of a
        condition are cut at random into blocks of equal size, and **the p-values speak of these cells only**: cells
        of one donor are no replicates.
    strata
        Column within whose values conditions are shuffled (batch; or donor, when each has both conditions and `units`
        is not given).
    heads
        As in :func:`infer_networks`.
    settings
        `top_k`, `per`, `regulators`, `symmetrize`, `apc` and `min_fraction`, as in :func:`infer_networks`.
    n_blocks
        Blocks of the smaller condition (in each stratum) when there are no `units`. Memory grows with it: per block
        8 bytes × heads × genes × d_head.
    n_permutations, null, min_frequency, seed
        As in :func:`grnlab.network.permutation_test`.

    Returns
    -------
    Edges, hubs and overlap with p-values and false discovery rates.

    Raises
    ------
    ValueError
        When a column or condition is missing, or there are too few cells or units.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40].copy()
    >>> adata.obs["half"] = ["a"] * 20 + ["b"] * 20
    >>> model = gl.load_model("grnlab-small")
    >>> options = {"genes": 50, "n_blocks": 4, "n_permutations": 9}
    >>> found = gl.tl.compare_conditions(adata, model, condition="half", a="a", b="b", **options)
    >>> found.a.name, found.n_permutations
    ('a', 9)
    """
    rules = EdgeRules(**settings)

    def pool(cells: ad.AnnData) -> AttentionMaps:
        return attention(cells, model, groupby=BLOCK, genes=genes, layer=layer, context=context, min_cells=1)

    test = {"n_permutations": n_permutations, "null": null, "min_frequency": min_frequency}
    return compare_blocks(
        adata,
        pool,
        heads,
        rules,
        condition=condition,
        a=a,
        b=b,
        units=units,
        strata=strata,
        n_blocks=n_blocks,
        seed=seed,
        test=test,
    )


def bootstrap_networks(
    adata: ad.AnnData,
    model: Backbone,
    *,
    groupby: str | None = None,
    units: str | None = None,
    heads: HeadSet | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    context: str = "expressed",
    n_blocks: int = 20,
    n_bootstraps: int = 100,
    min_cells: int = 40,
    skip_small: bool = False,
    seed: int = 0,
    **settings: Any,
) -> NetworkSet:
    """Infer networks whose every edge says how often it comes back from resampled cells.

    The model runs **once** over every cell; blocks of cells (random ones, or the `units`) are drawn with replacement
    and their pooled queries and keys summed, which is exact for the cells drawn. Cells of one random block go
    together, which makes the spread smaller by a factor of 1 - 1 / n_blocks in the variance.

    Parameters
    ----------
    adata, model, groupby, genes, layer, context
        As in :func:`attention`; genes are chosen on all cells together.
    units
        Column of ``adata.obs`` with the samples (donors), drawn as a whole.
    heads
        As in :func:`infer_networks`.
    settings
        `top_k`, `per`, `regulators`, `symmetrize`, `apc` and `min_fraction`, as in :func:`infer_networks`.
    n_blocks
        Blocks per group when there are no `units`.
    n_bootstraps, seed
        As in :func:`grnlab.network.bootstrap`.
    min_cells, skip_small
        Groups with fewer cells are an error, or are left out.

    Returns
    -------
    Networks with the edge columns ``confidence``, ``weight_mean`` and ``weight_sd``.

    Raises
    ------
    ValueError
        As :func:`attention` and :func:`infer_networks`, and when a group has fewer cells than blocks.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> model = gl.load_model("grnlab-small")
    >>> nets = gl.tl.bootstrap_networks(adata, model, genes=50, n_blocks=5, n_bootstraps=10)
    >>> bool(nets["all"].edges["confidence"].between(0, 1).all())
    True
    """
    rules = EdgeRules(**settings)
    cells = prepare_cells(
        adata, model, groupby=groupby, genes=genes, layer=layer, min_cells=min_cells, skip_small=skip_small
    )
    names = cells.genes.index[cells.chosen].tolist()  # chosen once, so that all groups have the same genes

    def pool(block: ad.AnnData) -> AttentionMaps:
        return attention(block, model, groupby=BLOCK, genes=names, layer=layer, context=context, min_cells=1)

    networks = []
    for name, rows in cells.groups.items():
        network = bootstrap_blocks(
            adata[rows],
            pool,
            heads,
            rules,
            name=name,
            units=units,
            n_blocks=n_blocks,
            n_bootstraps=n_bootstraps,
            seed=seed,
        )
        networks.append(network)
    return NetworkSet(networks)
