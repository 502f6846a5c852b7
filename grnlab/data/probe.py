"""Look into an HDF5 file in another process, since the library may hang or crash on a damaged one.

A damaged heap makes the C library loop for ever, out of reach of Python's exceptions. One process is started with the
first file and serves all; it is replaced when it hangs or dies.
"""

import atexit
import contextlib
import json
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
        """Let the process read the structure of a file.

        Raises
        ------
        OSError
            When that hangs or ends the process.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(str(path.resolve())) + "\n")
        self._process.stdin.flush()
        try:
            ended = self._answers.get(timeout=self.seconds) == ""
        except queue.Empty:
            self.close()
            msg = f"its structure cannot be read within {self.seconds:g} s; the file is damaged."
            raise OSError(msg) from None
        if ended:
            self.close()
            msg = "the HDF5 library crashes on it; the file is damaged."
            raise OSError(msg)

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


def look_into(path: str) -> None:
    """Read the structure of an HDF5 file, its attributes and short lists of strings, and the ends of its arrays.

    Exceptions are of no interest here: whoever reads the file next gets them too.
    """
    import h5py

    def visit(_: str, thing: Any) -> None:
        with contextlib.suppress(Exception):
            dict(thing.attrs)
        if not isinstance(thing, h5py.Dataset):
            return
        with contextlib.suppress(Exception):
            if thing.ndim and thing.size:
                thing[0], thing[-1]
            if thing.ndim == 0 or (thing.dtype.kind == "O" and thing.size <= _MOST_STRINGS):
                thing[()]

    with contextlib.suppress(Exception), h5py.File(path, "r") as file:
        visit("/", file)
        file.visititems(visit)


def main() -> None:
    """Read each file named on standard input; a line of output says that it is done."""
    for line in sys.stdin:
        look_into(json.loads(line))
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
