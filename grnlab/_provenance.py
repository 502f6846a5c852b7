"""Where a result came from: the versions, hashes and settings every result carries."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
