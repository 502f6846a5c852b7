"""Tests of the Triton kernels themselves: on a CUDA device (marker gpu), or on the CPU in Triton's interpreter."""

from pathlib import Path

import pytest
import torch
from grnlab_kernels.dispatch import interpreting, why_not_triton


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    reason = why_not_triton()
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=f"{reason}; run by tests/kernels/test_interpreter.py"))
        elif not interpreting():
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device():
    return torch.device("cpu" if interpreting() else "cuda")
