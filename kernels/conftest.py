"""Without Triton the doctests of its kernels cannot be collected."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["grnlab_kernels/triton_kernels/*"]
