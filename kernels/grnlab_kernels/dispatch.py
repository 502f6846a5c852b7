"""Which implementation of an operation runs: `auto` may choose, a backend asked for by name runs or raises.

``"torch"`` is PyTorch on any device, on the CPU with the worker pool of :mod:`grnlab_kernels.workers`. ``"triton"`` are
the kernels of :mod:`grnlab_kernels.triton_kernels`: on a CUDA device, or anywhere, slowly, in Triton's interpreter
when the environment variable ``TRITON_INTERPRET=1`` was set before the first kernel ran.
"""

import importlib.util
import logging
import os
from functools import cache

import torch

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "triton")
_OLDEST_CAPABILITY = (8, 0)  # asynchronous copies and bfloat16 matrix instructions


def interpreting() -> bool:
    """Whether Triton kernels run in Triton's interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def why_not_triton(device: torch.device | str | None = None) -> str | None:
    """Say why Triton kernels cannot run on tensors of a device (None: anywhere here); None when they can."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed (pip install 'grnlab[triton]')"
    if interpreting():
        return None
    if not torch.cuda.is_available():
        return "no CUDA device is present (TRITON_INTERPRET=1 runs the kernels on the CPU, for tests)"
    device = torch.device(device or "cuda")
    if device.type != "cuda":
        return f"the tensors are on {str(device)!r}; move them with .to('cuda')"
    if (capability := torch.cuda.get_device_capability(device)) < _OLDEST_CAPABILITY:
        return f"the device has compute capability {capability[0]}.{capability[1]}, the kernels need 8.0 or newer"
    return None


def resolve_backend(backend: str = "auto", device: torch.device | str | None = None) -> str:
    """Name the implementation that will run.

    Parameters
    ----------
    backend
        ``"auto"`` (may be changed by the environment variable ``GRNLAB_KERNELS``), ``"torch"`` or ``"triton"``.
    device
        Device of the tensors; the CPU by default. ``"auto"`` takes Triton on CUDA devices where it can run, and logs
        once when it cannot.

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
    device = torch.device(device or "cpu")
    if backend == "torch" or (backend == "auto" and device.type != "cuda"):
        return "torch"
    reason = why_not_triton(device)
    if reason is None:
        return "triton"
    if backend == "triton":
        msg = f'backend="triton" cannot run: {reason}. Use backend="torch" or "auto".'
        raise RuntimeError(msg)
    _log_once(reason)
    return "torch"


@cache
def _log_once(reason: str) -> None:
    logger.warning("PyTorch runs in place of the Triton kernels: %s", reason)
