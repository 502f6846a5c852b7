"""Progress bars: on a terminal and in a notebook, not in logs and pipes."""

import sys
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # without ipywidgets a bar of text is enough
    from tqdm.auto import tqdm


def progress(*given: Any, show: bool = True, **options: Any) -> tqdm:
    """Make a bar of tqdm, shown where somebody looks at it.

    Parameters
    ----------
    given, options
        As for `tqdm`.
    show
        False: nowhere.
    """
    # the streams of a notebook say that they are no terminal, so tqdm's own choice (None) would hide the bar there
    hidden = True if not show else False if _in_notebook() else None
    return tqdm(*given, disable=hidden, **options)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return "IPKernelApp" in getattr(shell, "config", {})
