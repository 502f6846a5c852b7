"""The Triton kernels of the maps, compiled ahead of time for each architecture, without a GPU."""

import pytest

pytest.importorskip("triton")

from grnlab_kernels.triton_kernels import maps
from grnlab_kernels.triton_kernels.tiles import TILES

KERNELS = {
    "row_lse": (maps.row_lse_kernel, {}),
    "forward": (maps.combine_map_kernel, {"FORWARD": True, "BACKWARD": False}),
    "backward": (maps.combine_map_kernel, {"FORWARD": False, "BACKWARD": True}),
    "both": (maps.combine_map_kernel, {"FORWARD": True, "BACKWARD": True}),
}
VARIANTS = [
    pytest.param(
        *(name, d_head, dtype, arch),
        marks=[] if d_head == 64 and (dtype == "bf16" or (dtype == "fp32" and name == "both")) else pytest.mark.slow,
    )
    for name in KERNELS
    for d_head in (16, 32, 64, 128)
    for dtype in ("fp32", "bf16", "fp16")
    for arch in (80, 90)
]


@pytest.mark.parametrize(("name", "d_head", "dtype", "arch"), VARIANTS)
def test_fits_the_device(compile_for, name, d_head, dtype, arch):
    kernel, directions = KERNELS[name]
    tile = TILES[("row_lse" if name == "row_lse" else "combine_map") + "_fp32" * (dtype == "fp32")][d_head][arch]
    types = {"q": f"*{dtype}", "k": f"*{dtype}", "scale_log2": "fp32"}
    types |= dict.fromkeys(("lse", "share", "panel", "partial"), "*fp32")
    types |= dict.fromkeys(("n_heads", "n_genes", "start", "end"), "i32")
    sizes = {"D": d_head, "DEPTH": min(d_head, tile.depth), "ROWS": tile.rows, "COLUMNS": tile.columns}
    resources = compile_for(
        kernel,
        {argument: types[argument] for argument in kernel.arg_names if argument in types},
        sizes | directions | {"INTERPRETED": False},
        num_warps=tile.warps,
        num_stages=tile.stages,
        arch=arch,
    )
    assert resources.problems == []
    assert resources.matrix_instructions
