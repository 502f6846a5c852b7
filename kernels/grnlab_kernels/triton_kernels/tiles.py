"""Tile sizes of every kernel: a static table, no autotuning, so a result never depends on a timing.

A new entry is proven before it stands here: ``tests/kernels/test_compile_*.py`` compile every variant of every kernel
ahead of time, without a GPU, for compute capability 8.0 and 9.0, and fail when registers spill, when shared memory
exceeds what the device has (99 KB for the entries of 80, so that 8.6 and 8.9 launch them too, 227 KB for those of 90)
or when a product does not run on the matrix units.
"""

from dataclasses import dataclass, replace

import torch

from grnlab_kernels.dispatch import interpreting


@dataclass(frozen=True)
class Tile:
    """Elements of the output (or of the scores) one program holds, and how it runs.

    Attributes
    ----------
    rows, columns
        Powers of two, 16 or more where the tile is a matrix product.
    warps
        Warps of 32 threads of one program.
    stages
        Loads kept in flight by the software pipeline.
    depth
        Most elements of d_head multiplied at once, for kernels that can do so in parts.
    """

    rows: int
    columns: int
    warps: int
    stages: int
    depth: int = 128

    def launch(self, d_head: int) -> dict[str, int | bool]:
        """What a kernel with a product of matrices is launched with: its compile-time sizes and how it runs."""
        sizes = {"D": d_head, "DEPTH": min(d_head, self.depth), "ROWS": self.rows, "COLUMNS": self.columns}
        options = {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}
        return sizes | options | {"INTERPRETED": interpreting()}


# kernel → d_head (0 where there is none) → oldest compute capability → tile.
# float32 inputs take the entry of "<kernel>_fp32" where there is one.
TILES: dict[str, dict[int, dict[int, Tile]]] = {
    "row_lse": {
        16: {80: Tile(64, 64, 4, 3), 90: Tile(128, 128, 8, 3)},
        32: {80: Tile(64, 64, 4, 3), 90: Tile(128, 128, 8, 3)},
        64: {80: Tile(64, 64, 4, 3), 90: Tile(128, 128, 8, 3)},
        128: {80: Tile(64, 64, 4, 3), 90: Tile(128, 128, 8, 2)},
    },
    "row_lse_fp32": {
        16: {80: Tile(64, 32, 4, 2), 90: Tile(128, 64, 8, 2)},
        32: {80: Tile(64, 32, 4, 2), 90: Tile(128, 64, 8, 2)},
        64: {80: Tile(64, 32, 4, 2, depth=32), 90: Tile(128, 64, 8, 2, depth=32)},
        128: {80: Tile(64, 32, 4, 2, depth=32), 90: Tile(64, 64, 4, 2, depth=32)},
    },
    "combine_map": {
        16: {80: Tile(64, 64, 4, 3), 90: Tile(64, 128, 4, 3)},
        32: {80: Tile(64, 64, 4, 3), 90: Tile(64, 128, 4, 3)},
        64: {80: Tile(64, 64, 4, 3), 90: Tile(128, 128, 8, 3)},
        128: {80: Tile(64, 64, 4, 3), 90: Tile(128, 128, 8, 3, depth=64)},
    },
    "combine_map_fp32": {
        16: {80: Tile(64, 32, 4, 2), 90: Tile(128, 64, 8, 2)},
        32: {80: Tile(64, 32, 4, 2, depth=16), 90: Tile(128, 64, 8, 2)},
        64: {80: Tile(64, 32, 4, 3, depth=16), 90: Tile(128, 64, 8, 2, depth=32)},
        128: {80: Tile(32, 64, 4, 2, depth=32), 90: Tile(64, 64, 8, 2, depth=32)},
    },
    "cell_lse": {d_head: {80: Tile(64, 64, 4, 2), 90: Tile(128, 64, 8, 3)} for d_head in (16, 32, 64, 128)},
    "cell_lse_fp32": {
        d_head: {80: Tile(64, 32, 4, 2, depth=16), 90: Tile(64, 64, 4, 2, depth=32)} for d_head in (16, 32, 64, 128)
    },
    "cell_mean_map": {
        16: {80: Tile(64, 64, 4, 3), 90: Tile(128, 64, 8, 3)},
        32: {80: Tile(64, 64, 4, 3), 90: Tile(128, 64, 8, 3)},
        64: {80: Tile(64, 64, 4, 3), 90: Tile(128, 64, 8, 3)},
        128: {80: Tile(64, 64, 4, 2), 90: Tile(64, 64, 4, 2)},
    },
    "cell_mean_map_fp32": {
        d_head: {80: Tile(64, 32, 4, 2, depth=16), 90: Tile(64, 64, 4, 2, depth=32)} for d_head in (16, 32, 64, 128)
    },
    "cell_scatter": {
        16: {80: Tile(64, 64, 4, 3), 90: Tile(64, 64, 4, 3)},
        32: {80: Tile(64, 64, 4, 3), 90: Tile(64, 64, 4, 3)},
        64: {80: Tile(64, 64, 4, 3), 90: Tile(64, 64, 4, 3)},
        128: {80: Tile(64, 64, 4, 2), 90: Tile(64, 64, 4, 2)},
    },
    "cell_scatter_fp32": {
        d_head: {80: Tile(64, 32, 4, 2, depth=16), 90: Tile(64, 64, 4, 2, depth=32)} for d_head in (16, 32, 64, 128)
    },
    "head_panel": {d_head: {80: Tile(64, 64, 8, 1), 90: Tile(64, 64, 8, 1)} for d_head in (16, 32, 64, 128)},
    "head_panel_fp32": {
        d_head: {80: Tile(64, 32, 4, 1, depth=32), 90: Tile(64, 32, 4, 1, depth=32)} for d_head in (16, 32, 64, 128)
    },
    "head_hist": {d_head: {80: Tile(64, 64, 8, 1), 90: Tile(64, 64, 8, 1)} for d_head in (16, 32, 64, 128)},
    "head_hist_fp32": {
        d_head: {80: Tile(64, 32, 4, 1, depth=32), 90: Tile(64, 32, 4, 1, depth=32)} for d_head in (16, 32, 64, 128)
    },
    "zinb": {0: {80: Tile(1, 128, 4, 1), 90: Tile(1, 128, 4, 1)}},
}

_INTERPRETED_ROWS, _INTERPRETED_ELEMENTS = 64, 64 * 64


def tile(kernel: str, d_head: int, device: torch.device | str, dtype: torch.dtype = torch.bfloat16) -> Tile:
    """Tile of a kernel on a device; in the interpreter, on the CPU, at most 64 rows and 64 · 64 elements of it.

    Parameters
    ----------
    kernel
        A key of `TILES`.
    d_head
        Head dimension; 0 for kernels that have none.
    device
        Where the tensors are.
    dtype
        Of the inputs.

    Examples
    --------
    >>> tile("combine_map", 64, "cpu")
    Tile(rows=64, columns=64, warps=8, stages=3, depth=128)
    """
    device = torch.device(device)
    entries = TILES.get(f"{kernel}_fp32", TILES[kernel]) if dtype == torch.float32 else TILES[kernel]
    if device.type != "cuda":
        full = entries[d_head][90]
        rows = min(full.rows, _INTERPRETED_ROWS)
        return replace(full, rows=rows, columns=min(full.columns, _INTERPRETED_ELEMENTS // rows))
    return entries[d_head][90 if torch.cuda.get_device_capability(device)[0] >= 9 else 80]
