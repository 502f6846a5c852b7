"""The Triton kernels over cells, compiled ahead of time for each architecture, without a GPU."""

import pytest

pytest.importorskip("triton")

from grnlab_kernels.triton_kernels.cells import cell_lse_kernel, cell_mean_map_kernel, cell_scatter_kernel
from grnlab_kernels.triton_kernels.tiles import TILES, Tile

KERNELS = {
    "cell_lse": (cell_lse_kernel, {"real": "*u8"}),
    "cell_mean_map": (
        cell_mean_map_kernel,
        {"share": "*fp32", "part": "*fp32", "n_cells": "i32", "cells_per_part": "i32"},
    ),
    "cell_scatter": (
        cell_scatter_kernel,
        {"share": "*fp32", "genes": "*i64", "real": "*u8", "total": "*fp32", "n_all_genes": "i32"},
    ),
}


def compiled(compile_for, name, d_head, dtype, arch, tile, **other_types):
    kernel, own_types = KERNELS[name]
    types = {
        "q": f"*{dtype}",
        "k": f"*{dtype}",
        "lse": "*fp32",
        "n_heads": "i32",
        "n_genes": "i32",
        "scale_log2": "fp32",
    }
    sizes = {"D": d_head, "DEPTH": min(d_head, tile.depth), "ROWS": tile.rows, "COLUMNS": tile.columns}
    return compile_for(
        kernel,
        types | own_types | other_types,
        sizes | {"INTERPRETED": False},
        num_warps=tile.warps,
        num_stages=tile.stages,
        arch=arch,
    )


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("d_head", [16, 32, 64, 128])
@pytest.mark.parametrize("name", KERNELS)
def test_fits_the_device(compile_for, name, d_head, dtype, arch):
    tile = TILES[f"{name}_fp32" if dtype == "fp32" else name][d_head][arch]
    resources = compiled(compile_for, name, d_head, dtype, arch, tile)
    assert resources.problems == []
    assert resources.matrix_instructions
    assert resources.registers * tile.warps * 32 * 2 <= 65_536  # two programs on a multiprocessor at least


@pytest.mark.parametrize("arch", [80, 90])
def test_scatter_into_float64(compile_for, arch):
    tile = TILES["cell_scatter"][64][arch]
    resources = compiled(compile_for, "cell_scatter", 64, "bf16", arch, tile, total="*fp64")
    assert resources.problems == []


@pytest.mark.parametrize("tile", [Tile(64, 64, 4, 3), Tile(128, 128, 8, 3)], ids=str)
@pytest.mark.parametrize("arch", [80, 90])
def test_other_tiles_worth_a_try_on_a_device(compile_for, tile, arch):
    assert compiled(compile_for, "cell_mean_map", 64, "bf16", arch, tile).problems == []
