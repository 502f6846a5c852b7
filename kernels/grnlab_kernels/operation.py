"""Registration of operations with PyTorch, so that :func:`torch.compile` and exporters see one node each."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


def operation(name: str, *, mutates: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Register a function as ``torch.ops.grnlab.<name>``; its schema is read from its annotations.

    As :func:`torch.library.custom_op`, whose first call imports torch._dynamo: two seconds for a command that compiles
    nothing. An operation has no derivative unless one is registered: callers detach what they pass.

    Parameters
    ----------
    name
        Name in the namespace ``grnlab``.
    mutates
        Arguments that are written to; such an operation returns nothing.
    """

    def register(function: Callable[..., Any]) -> Any:
        torch.library.define(f"grnlab::{name}", torch.library.infer_schema(function, mutates_args=mutates))
        torch.library.impl(f"grnlab::{name}", "default")(function)
        if mutates:  # nothing is returned, whatever the data
            torch.library.register_fake(f"grnlab::{name}", lambda *args, **kwargs: None)
        return getattr(torch.ops.grnlab, name)

    return register


def fake(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what an operation returns for tensors without data."""
    return torch.library.register_fake(f"grnlab::{name}")
