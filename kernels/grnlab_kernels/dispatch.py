"""Which implementation of an operation runs: `auto` may choose, a backend asked for by name runs or raises."""

import os

BACKENDS = ("auto", "torch", "triton")


def why_not_triton() -> str | None:
    """Say why Triton kernels cannot run here; None when they can."""
    return "this version of grnlab_kernels holds the PyTorch operations only"


def resolve_backend(backend: str = "auto") -> str:
    """Name the implementation that will run.

    Parameters
    ----------
    backend
        ``"auto"`` (may be changed by the environment variable ``GRNLAB_KERNELS``), ``"torch"`` or ``"triton"``.

    Raises
    ------
    ValueError
        For an unknown name.
    RuntimeError
        When a backend asked for by name cannot run; the message says why.

    Examples
    --------
    >>> resolve_backend("torch")
    'torch'
    """
    if backend == "auto":
        backend = os.environ.get("GRNLAB_KERNELS", "auto")
    if backend not in BACKENDS:
        msg = f"backend={backend!r} is unknown; choose one of {BACKENDS}."
        raise ValueError(msg)
    if backend == "triton" and (reason := why_not_triton()) is not None:
        msg = f'backend="triton" cannot run: {reason}. Use backend="torch" or "auto".'
        raise RuntimeError(msg)
    return "torch" if backend == "auto" else backend
