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
    with _parent(path):
        handle, name = tempfile.mkstemp(prefix=_hidden(path), suffix=".partial", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; a result is an ordinary one
            _refuse_existing(path, overwrite=overwrite)  # another process may have been faster
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path`; it takes the final name only when the block succeeds.

    With `overwrite`, an older folder keeps its name until then, and gets it back when the exchange fails.

    Raises
    ------
    FileExistsError
        When `path` exists and `overwrite` is False.
    """
    path = Path(path).absolute()
    _refuse_existing(path, overwrite=overwrite)
    with _parent(path):
        temporary = Path(tempfile.mkdtemp(prefix=_hidden(path), suffix=".partial", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            _exchange(temporary, path, overwrite=overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def to_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk, so that a power cut cannot leave a name without its content."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give a folder its name, again where another process has just given the name to its own."""
    retired = temporary.with_suffix(".old")
    while True:
        _refuse_existing(path, overwrite=overwrite)
        if overwrite:
            with contextlib.suppress(FileNotFoundError):
                path.rename(retired)
        try:
            temporary.rename(path)
        except BaseException as error:
            if not _taken(path):
                if _taken(retired):
                    retired.rename(path)
                raise
            _remove(retired)  # what the other process has put there is the newer one
            if not isinstance(error, OSError):
                raise
        else:
            _remove(retired)
            return


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _parent(path: Path) -> Iterator[None]:
    """Make the folders above `path`; take those away again when the block fails."""
    made = []
    folder = path.parent
    while not folder.exists():
        made.append(folder)
        folder = folder.parent
    if not folder.is_dir():
        msg = f"{path} cannot be written: {folder} is a file, not a folder. Choose another place."
        raise NotADirectoryError(msg)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # somebody else put something there meanwhile
                folder.rmdir()
        raise


def _hidden(path: Path) -> str:
    return f".{path.name[:40]}."  # with prefix and suffix a long name would be too long for the file system


def _taken(path: Path) -> bool:
    return path.exists() or path.is_symlink()  # a link to nowhere exists too


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if _taken(path) and not overwrite:
        msg = f"{path} exists already and is left as it is. Choose another name, or pass overwrite=True (--overwrite)."
        raise FileExistsError(msg)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
