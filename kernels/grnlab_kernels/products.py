"""The matrix product of the CPU engines."""

import torch
from torch import Tensor


def products(a_RK: Tensor, b_CK: Tensor) -> Tensor:
    """``a bᵀ`` of contiguous matrices of one dtype.

    In float32 on the CPU by oneDNN where PyTorch has it: torch.mm is MKL, which does without AVX-512 on AMD and leaves
    half the speed of such a core unused.
    """
    fast = a_RK.device.type == "cpu" and a_RK.dtype == torch.float32
    if fast and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return torch.ops.mkldnn._linear_pointwise(a_RK, b_CK, None, "none", [], "")
    return torch.mm(a_RK, b_CK.T)
