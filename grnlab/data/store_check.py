"""Look at the structure of a zarr store before it is opened: what its arrays announce must fit its size.

An array without chunks on disk reads as its fill value, so a few lines of JSON may announce terabytes; a pipe among
the files would be waited for without end.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from grnlab._reading import most_bytes, parse_json

_METADATA = ("zarr.json", ".zarray", ".zmetadata")
_POINTER_BYTES = 8  # of values of any length, such as text
_DEEPEST = 32  # of a group in a group; h5ad's own tables need four


def check_store(path: Path) -> None:
    """Refuse a zarr store that holds other things than files, or whose arrays are far larger than its files.

    Parameters
    ----------
    path
        Its folder.

    Raises
    ------
    OSError, ValueError
        When it is such a store, or its metadata cannot be read.
    """
    n_bytes, announced = 0, 0
    for file in _files(path):
        n_bytes += file.stat().st_size
        if file.name in _METADATA:
            announced += sum(map(_bytes_of, _arrays(parse_json(file.read_bytes()))))
    if announced > most_bytes(n_bytes):
        msg = f"its arrays announce {announced:,} bytes, far more than its size allows; refused as unsafe"
        raise ValueError(msg)


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    if depth > _DEEPEST:
        msg = f"{folder} lies too deep; the store is damaged"
        raise ValueError(msg)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(Path(entry.path), depth + 1)
            elif entry.is_file():
                yield Path(entry.path)
            else:
                msg = f"{entry.path} is no file but a pipe, a device or a broken link"
                raise ValueError(msg)


def _arrays(content: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Descriptions of arrays in a metadata document, which may be that of a whole store."""
    if not isinstance(content, dict) or depth > _DEEPEST:
        return
    if "shape" in content and ("dtype" in content or "data_type" in content):
        yield content
    for part in content.values():
        yield from _arrays(part, depth + 1)


def _bytes_of(array: dict[str, Any]) -> int:
    """Bytes of an array in memory, or of one of its chunks where that is larger."""
    grid = array.get("chunk_grid")
    chunks = grid.get("configuration") if isinstance(grid, dict) else array
    chunks = chunks.get("chunk_shape", chunks.get("chunks")) if isinstance(chunks, dict) else None
    try:
        size = np.dtype(array.get("dtype", array.get("data_type"))).itemsize or _POINTER_BYTES
    except (TypeError, ValueError):
        size = _POINTER_BYTES
    return size * max(_product(array["shape"]), _product(chunks))


def _product(shape: Any) -> int:
    sizes = shape if isinstance(shape, list) else []
    return math.prod(one for one in sizes if isinstance(one, int) and one > 0)
