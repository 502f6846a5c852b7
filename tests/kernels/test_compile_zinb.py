"""The Triton kernel of the ZINB loss, compiled ahead of time for each architecture, without a GPU."""

import pytest

pytest.importorskip("triton")

from grnlab_kernels.triton_kernels.tiles import TILES
from grnlab_kernels.triton_kernels.zinb import zinb_kernel

TENSORS = ("x", "log_mu", "log_theta", "zero_logit", "nll", "by_mu", "by_theta", "by_zero")


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(("dtype", "inflated"), [("fp32", True), ("bf16", True), ("fp64", True), ("fp32", False)])
def test_fits_the_device(compile_for, arch, dtype, inflated):
    tile = TILES["zinb"][0][arch]
    output = "fp64" if dtype == "fp64" else "fp32"
    types = {name: f"*{output if name in TENSORS[4:] else dtype}" for name in TENSORS} | {"x": "*fp32"}
    resources = compile_for(
        zinb_kernel,
        types | {"n_elements": "i32"},
        {"INFLATED": inflated, "COLUMNS": tile.columns},
        num_warps=tile.warps,
        num_stages=tile.stages,
        arch=arch,
    )
    assert resources.problems == []
    assert resources.registers <= 128  # four programs of 128 threads on a multiprocessor
