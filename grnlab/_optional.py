"""Import packages where they are used, with an error that names the pip line."""

import importlib
from types import ModuleType


def require(module: str, *, install: str, purpose: str) -> ModuleType:
    """Import `module`, or say what it is needed for and how to get it.

    Parameters
    ----------
    module
        Dotted name, for example ``"lightning"``.
    install
        What to pass to ``pip install``, for example ``"grnlab[train]"``.
    purpose
        What the package is needed for, completing "... is needed".

    Raises
    ------
    ImportError
        When the package is missing; the message holds the pip line.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        msg = f'{module} is needed {purpose}. Install it with: pip install "{install}"'
        raise ImportError(msg) from error
