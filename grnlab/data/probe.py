"""Look into a file of cells before it is read; an HDF5 file in another process, since the library may hang or crash.

A damaged heap makes the C library loop for ever, out of reach of Python's exceptions. One process is started with the
first file and serves all; it is replaced when it hangs or dies.
"""

import atexit
import contextlib
import json
import math
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

_SECONDS = 30.0  # a sound file takes milliseconds
_MOST_STRINGS = 200_000  # names of genes and categories, but not those of millions of cells


class Probe:
    """A process that opens files to see whether that goes well.

    Parameters
    ----------
    seconds
        Time for one file.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        atexit.register(self.close)

    def check(self, path: Path) -> None:
        """Let the process read the structure of a file; that of a zarr store is read here.

        Raises
        ------
        OSError, ValueError
            When that hangs or ends the process, or it finds something that may not be read, see :func:`look_into`.
        """
        from grnlab._reading import most_bytes  # not above: the other process starts quickly without
        from grnlab.data.store_check import check_store

        if path.is_dir():
            check_store(path)
            return
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(path.resolve()), most_bytes(path.stat().st_size)]) + "\n")
        self._process.stdin.flush()
        try:
            answer = self._answers.get(timeout=self.seconds)
        except queue.Empty:
            self.close()
            msg = f"its structure cannot be read within {self.seconds:g} s; the file is damaged."
            raise OSError(msg) from None
        if answer == "":
            self.close()
            msg = "the HDF5 library crashes on it; the file is damaged."
            raise OSError(msg)
        if found := json.loads(answer):
            raise OSError(found)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    def _start(self) -> None:
        # -P: the folder of this file holds a select.py, which must not hide the one of Python
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answers = queue.Queue()
        threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()


def _listen(lines: IO[str], answers: "queue.Queue[str]") -> None:
    with lines:
        for line in lines:
            answers.put(line)
    answers.put("")  # the process has ended


PROBE = Probe()


def look_into(path: str, most: int) -> str:
    """Read the structure of an HDF5 file, its attributes and short lists of strings, and the ends of its arrays.

    Exceptions are of no interest here: whoever reads the file next gets them too.

    Parameters
    ----------
    path
        The file.
    most
        Bytes that its arrays may sensibly take in memory.

    Returns
    -------
    What forbids to read the file: a part of it lies in another file, which may be anything this user can read; or its
    arrays are far larger than the file. Empty where there is nothing of this kind.
    """
    import h5py

    found, n_bytes = "", 0

    def visit(name: str, thing: Any) -> bool | None:
        nonlocal found, n_bytes
        with contextlib.suppress(Exception):
            dict(thing.attrs)
        with contextlib.suppress(Exception):
            if _leads_elsewhere(thing):
                found = f"{name} leads to another file; h5ad files hold their own data"
                return True
        if not isinstance(thing, h5py.Dataset):
            return None
        with contextlib.suppress(Exception):
            n_bytes += max(thing.size, math.prod(thing.chunks or (0,))) * thing.dtype.itemsize
        if n_bytes > most:
            found = f"its arrays announce {n_bytes:,} bytes, far more than its size allows; refused as unsafe"
            return True
        with contextlib.suppress(Exception):
            if thing.ndim and thing.size:
                thing[0], thing[-1]
            if thing.ndim == 0 or (thing.dtype.kind == "O" and thing.size <= _MOST_STRINGS):
                thing[()]
        return None

    with contextlib.suppress(Exception), h5py.File(path, "r") as file:
        if not visit("/", file):
            file.visititems(visit)
    return found


def _leads_elsewhere(thing: Any) -> bool:
    """Whether a data set lies in other files, or a group links to one."""
    import h5py

    if isinstance(thing, h5py.Dataset):
        return bool(thing.external) or thing.is_virtual
    return any(isinstance(thing.get(name, getlink=True), h5py.ExternalLink) for name in thing)


def main() -> None:
    """Read each file named on standard input; a line of output says that it is done."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(look_into(*json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
