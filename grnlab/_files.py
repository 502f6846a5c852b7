"""Files that are either whole or not there: atomic writes, no silent overwrite."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it onto `path` only when the block succeeds.

    An interrupted block leaves nothing behind and an older file untouched.

    Raises
    ------
    FileExistsError
        When `path` exists and `overwrite` is False.
    """
    path = Path(path)
    _refuse_existing(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; a result is an ordinary one
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path`; it takes the final name only when the block succeeds.

    Raises
    ------
    FileExistsError
        When `path` exists and `overwrite` is False.
    """
    path = Path(path).absolute()
    _refuse_existing(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            retired = temporary.with_suffix(".old")
            path.rename(retired)
            temporary.rename(path)
            shutil.rmtree(retired) if retired.is_dir() else retired.unlink()
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        msg = f"{path} exists already and is left as it is. Choose another name, or pass overwrite=True (--overwrite)."
        raise FileExistsError(msg)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
