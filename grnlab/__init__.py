"""grnlab: gene networks from the attention of single-cell transformers.

``gl.io`` reads, ``gl.pp`` prepares, ``gl.tl`` computes, ``gl.pl`` shows; ``gl.datasets`` has small data sets and
``gl.load_model`` loads a backbone. Nothing heavy is imported before it is used.

Examples
--------
>>> import grnlab as gl
>>> gl.__version__.count(".")
2
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grnlab import datasets, io, pl, pp, tl
    from grnlab.backbones import load_model
    from grnlab.evaluate import GoldStandard
    from grnlab.heads import HeadSet, SelectionConfig
    from grnlab.network import GeneNetwork, NetworkSet, read_network

from grnlab._version import __version__

__all__ = [
    "GeneNetwork",
    "GoldStandard",
    "HeadSet",
    "NetworkSet",
    "SelectionConfig",
    "__version__",
    "datasets",
    "io",
    "load_model",
    "pl",
    "pp",
    "read_network",
    "tl",
]

# Warnings go to logging. There is no NullHandler, so that they are seen, on stderr, where nobody has set logging up.
_HOMES = {
    "load_model": "grnlab.backbones",
    "HeadSet": "grnlab.heads",
    "SelectionConfig": "grnlab.heads",
    "GoldStandard": "grnlab.evaluate",
    "GeneNetwork": "grnlab.network",
    "NetworkSet": "grnlab.network",
    "read_network": "grnlab.network",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"grnlab.{name}")
    msg = f"module 'grnlab' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
