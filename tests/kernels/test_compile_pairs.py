"""The Triton kernels over pairs of genes, compiled ahead of time for each architecture, without a GPU."""

import pytest

pytest.importorskip("triton")

from grnlab_kernels.triton_kernels.pairs import head_hist_kernel, head_panel_kernel
from grnlab_kernels.triton_kernels.tiles import TILES

KERNELS = {
    "head_panel": (head_panel_kernel, {"panel": "*fp32"}, {}),
    "head_hist": (head_hist_kernel, {"counts": "*i64", "n_bins": "i32"}, {"SHIFT": 15}),
}


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("d_head", [16, 32, 64, 128])
@pytest.mark.parametrize("name", KERNELS)
def test_fits_the_device(compile_for, name, d_head, dtype, arch):
    kernel, own_types, own_constants = KERNELS[name]
    tile = TILES[f"{name}_fp32" if dtype == "fp32" else name][d_head][arch]
    types = {"q": f"*{dtype}", "k": f"*{dtype}", "lse": "*fp32", "query": "*i64", "key": "*i64", "scale_log2": "fp32"}
    depths = {"D": d_head, "DEPTH": min(d_head, tile.depth)}
    resources = compile_for(
        kernel,
        types | own_types | dict.fromkeys(("n_rows", "n_columns", "n_genes"), "i32"),
        own_constants | {"ROWS": tile.rows, "COLUMNS": tile.columns, "INTERPRETED": False, **depths},
        num_warps=tile.warps,
        num_stages=tile.stages,
        arch=arch,
    )
    assert resources.problems == []
    assert resources.matrix_instructions
    assert resources.registers * tile.warps * 32 * 2 <= 65_536  # two programs on a multiprocessor at least
