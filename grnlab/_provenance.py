"""Where a result came from: the versions, hashes and settings every result carries."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_RECORDED = (
    "grnlab",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "anndata",
    "scanpy",
    "igraph",
    "leidenalg",
    "gseapy",
    "pyvis",
)


def versions() -> dict[str, str]:
    """Versions of grnlab and of the installed packages that can change a result.

    Examples
    --------
    >>> "torch" in versions()
    True
    """
    found = {}
    for name in _RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_identity(model: Any) -> str:
    """Hash of the weights of a model: of the file they came from, or, where there is none, of the weights themselves.

    Empty for what has no weights.
    """
    if known := getattr(model, "weights_hash", ""):
        return str(known)
    if not hasattr(model, "state_dict"):
        return ""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
