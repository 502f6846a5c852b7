"""Text from outside: what is no plain file, unpacks to far more than its size, or is no text, table or JSON is refused.

A name may lead to a pipe or a device, which never ends; a few kB may unpack to many GB; brackets may be nested until
the interpreter gives up. Every reader of text goes through here.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_SMALL, _LARGEST_RATIO = 100_000_000, 200  # bytes; real tables shrink 3 to 30 times
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
EXACT = "round_trip"  # way of pandas to read numbers; its default crashes on 1e400999999999999999999
DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What reading a damaged zip archive may raise beside ValueError and OSError."""
DAMAGED_ARRAYS = (*DAMAGED_ARCHIVE, tokenize.TokenError, SyntaxError, SystemError, OverflowError, MemoryError)
"""What NumPy may raise beside ValueError and OSError where it reads a damaged array, or makes text of one."""
_UNPACKING = (OSError, EOFError, zlib.error, lzma.LZMAError)


def most_bytes(n_packed: int) -> int:
    """Bytes that so many packed bytes may sensibly unpack to.

    Parameters
    ----------
    n_packed
        Size of the file.
    """
    return max(_SMALL, _LARGEST_RATIO * n_packed)


def check_plain_file(path: Path) -> None:
    """Refuse what is no plain file: a folder, a pipe or a device.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError
        When there is nothing.
    ValueError
        When it is something else.
    """
    if not path.exists():
        msg = f"there is no file {path}."
        raise FileNotFoundError(msg)
    if not path.is_file():
        msg = f"{path} is no file but a folder, pipe or device; name a file."
        raise ValueError(msg)


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes; what its name says is packed (``.gz``, ``.bz2``, ``.xz``) is unpacked.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is no plain file; and while it is read, when it is damaged or unpacks to too much.
    """
    path = Path(path)
    check_plain_file(path)
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        with path.open("rb") as file:
            yield file
        return
    with opener(path, "rb") as packed, io.BufferedReader(_Unpacked(packed, path)) as file:
        yield file


@contextlib.contextmanager
def opened_archive(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for reading; errors of a damaged one (:data:`DAMAGED_ARCHIVE`) may come later.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`opened`; or when it would unpack to too much.
    """
    path = Path(path)
    check_plain_file(path)
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > most_bytes(path.stat().st_size):
            msg = f"it would unpack to {unpacked:,} bytes, more than {_LARGEST_RATIO} times its size; refused as unsafe"
            raise ValueError(msg)
        yield archive


def read_text(path: str | Path) -> str:
    """Text of a file, unpacked where it is packed.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`opened`; or when it is not UTF-8.
    """
    with opened(path) as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path} is not UTF-8 text ({error.reason} at byte {error.start})."
        raise ValueError(msg) from error


def read_json(path: str | Path) -> Any:
    """Content of a JSON file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read_text` and :func:`parse_json`.
    """
    return parse_json(read_text(path))


def parse_json(text: str | bytes) -> Any:
    """Content of a text of JSON.

    Parameters
    ----------
    text
        The text.

    Raises
    ------
    ValueError
        When it is no JSON, or nested too deeply.

    Examples
    --------
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: the text is no JSON: it is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        msg = "the text is no JSON: it is nested too deeply."
        raise ValueError(msg) from error


def read_separated(path: str | Path, *, separator: str, **options: Any) -> "pd.DataFrame":
    """Read a table of text, packed or not; whatever is wrong with the file is a ValueError that names it.

    Parameters
    ----------
    path
        The file.
    separator
        Between columns.
    options
        Of :func:`pandas.read_csv`.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is empty, no text, or no table.
    """
    import pandas as pd

    try:
        with opened(path) as file:
            return pd.read_csv(file, sep=separator, float_precision=EXACT, **options)
    except FileNotFoundError:
        raise
    except (OSError, LookupError, TypeError, ValueError) as error:
        msg = f"{path} cannot be read as a table: {' '.join(str(error).split())}."
        raise ValueError(msg) from error


def to_numbers(values: "pd.Series") -> "pd.Series":
    """Numbers of a column that may be text; NaN where it is none, or one beyond all floats (pandas crashes on some).

    Examples
    --------
    >>> import pandas as pd
    >>> to_numbers(pd.Series(["1.5", "x", "9e4009999999"])).tolist()
    [1.5, nan, nan]
    """
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(values):
        values = values.mask(values.astype(str).str.contains(r"[eE][+-]?\d{5}"))
    return pd.to_numeric(values, errors="coerce")


class _Unpacked(io.RawIOBase):
    """What a packed file unpacks to, until that is too much."""

    def __init__(self, packed: IO[bytes], path: Path) -> None:
        self._packed, self._path = packed, path
        self._left = most_bytes(path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._packed.read(len(buffer))
        except _UNPACKING as error:
            msg = f"{self._path} is damaged: {error}."
            raise ValueError(msg) from error
        self._left -= len(data)
        if self._left < 0:
            msg = f"{self._path} unpacks to more than {_LARGEST_RATIO} times its size; refused as unsafe."
            raise ValueError(msg)
        buffer[: len(data)] = data
        return len(data)
