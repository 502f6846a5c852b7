import dataclasses
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from grnlab_kernels.dispatch import interpreting

# 8.6 and 8.9 have 99 KB of shared memory a program, 8.0 has 163 KB: what is listed for 80 runs on all of them.
SHARED_LIMIT = {80: 99 * 1024, 90: 227 * 1024}


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a kernel compiled for one architecture takes of it."""

    arch: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    matrix_instructions: bool
    has_local_memory: bool

    @property
    def problems(self):
        """Why the kernel would run slowly or not at all; empty when it is as it should be."""
        return [
            *([f"{self.spill_bytes} bytes a thread spilled"] if self.spill_bytes else []),
            *(["local memory in the inner code"] if self.has_local_memory else []),
            *([f"{self.shared_bytes} bytes shared"] if self.shared_bytes > SHARED_LIMIT[self.arch] else []),
        ]


def _tool(name, *arguments):
    import triton.backends.nvidia

    path = Path(triton.backends.nvidia.__file__).parent / "bin" / name
    return subprocess.run([path, *arguments], check=True, capture_output=True, text=True).stdout


def _resources(compiled, arch):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", cubin.name)
        code = _tool("nvdisasm", cubin.name)
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return Resources(
        arch=arch,
        registers=found["REG"],
        spill_bytes=found["STACK"] + found["LOCAL"],
        shared_bytes=compiled.metadata.shared,
        matrix_instructions=bool(re.search(r"\bH(G)?MMA\b", code)),
        has_local_memory=bool(re.search(r"\b(LDL|STL)\b", code)),
    )


@pytest.fixture(scope="session")
def compile_for():
    """Compile a Triton kernel ahead of time, without a GPU.

    ``signature`` gives a type for each run-time argument ("*bf16", "i32", "fp32"), ``constants`` the constexpr ones.
    Pointers count as aligned to 16 bytes, as those of tensors are.
    """
    triton = pytest.importorskip("triton")
    if interpreting():
        pytest.skip("TRITON_INTERPRET=1: the kernels of this process are interpreted, not compiled")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    known = {}

    def compile_kernel(kernel, signature, constants, *, num_warps, num_stages, arch):
        options = {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True}
        key = (kernel.fn, tuple(signature.items()), tuple(constants.items()), tuple(options.items()), arch)
        if key not in known:
            types = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
            aligned = {
                (place,): [["tt.divisibility", 16]]
                for place, name in enumerate(kernel.arg_names)
                if types[name].startswith("*")
            }
            source = ASTSource(kernel, types, constants, aligned)
            compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
            known[key] = _resources(compiled, arch)
        name, found = kernel.fn.__name__, known[key]
        print(f"{name} {signature} {constants} {num_warps} warps {num_stages} stages: {found}")  # pytest -rP shows it
        return found

    return compile_kernel
