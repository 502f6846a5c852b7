"""Triton kernels; each module imports triton at its top and is itself imported only by the operation that runs it."""
