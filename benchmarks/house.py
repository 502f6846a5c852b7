"""The state of the house by one command: contracts, file sizes, import time, wheel size, public docstrings.

``python benchmarks/house.py [--json FILE] [--wheel]``; the wheel takes a minute and needs ``pip install build``.
"""

import argparse
import ast
import inspect
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCES = ("grnlab", "kernels/grnlab_kernels")
LINES, FUNCTION = 400, 60
HEAVY = ("torch", "scanpy", "igraph", "lightning", "sklearn", "pandas", "anndata", "matplotlib")


def main() -> None:
    """Print one line per question, write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--wheel", action="store_true", help="build the wheel and tell its size")
    arguments = parser.parse_args()
    found = {"contracts": contracts(), **sizes(), **imports(), **docstrings()}
    if arguments.wheel:
        found["wheel_mb"] = wheel_mb()
    for name, value in found.items():
        print(f"{name:24} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(not found["contracts"].endswith("0 broken.") or bool(found["public_without_docstring"]))


def contracts() -> str:
    """Last word of the import linter."""
    command = [str(Path(sys.executable).with_name("lint-imports"))]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return next((line for line in reversed(out.splitlines()) if line.startswith("Contracts:")), "did not run")


def sizes() -> dict[str, Any]:
    """Files and functions longer than the guide, and how much code there is."""
    files, functions, total = {}, {}, 0
    for path in sorted(path for source in SOURCES for path in (ROOT / source).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name, n_lines = path.relative_to(ROOT).as_posix(), len(text.splitlines())
        total += n_lines
        if n_lines > LINES:
            files[name] = n_lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                length = node.end_lineno - first.lineno + 1
                if length > FUNCTION:
                    functions[f"{name}:{node.name}"] = length
    return {"lines": total, f"files_over_{LINES}": files, f"functions_over_{FUNCTION}": functions}


def imports() -> dict[str, Any]:
    """Median seconds of five fresh imports, and which heavy packages they bring."""
    code = f"import sys, grnlab; print([x for x in {HEAVY} if x in sys.modules])"
    bare, full, heavy = [], [], "[]"
    for _ in range(5):
        for times, what in ((bare, "pass"), (full, code)):
            started = time.perf_counter()
            out = subprocess.run([sys.executable, "-c", what], cwd=ROOT, capture_output=True, text=True, check=True)
            times.append(time.perf_counter() - started)
            heavy = out.stdout.strip() or heavy
    return {"import_seconds": round(sorted(full)[2] - sorted(bare)[2], 3), "import_brings": heavy}


def docstrings() -> dict[str, Any]:
    """Public names of every room, and those without a docstring."""
    import importlib
    import pkgutil

    import grnlab

    rooms = [info.name for info in pkgutil.iter_modules(grnlab.__path__, "grnlab.") if info.name[7] != "_"]
    seen, missing = set(), []
    for room in rooms:
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if not callable(thing):
                continue
            members = [(f"{room}.{name}", thing)]
            if inspect.isclass(thing):
                public = [(k, v) for k, v in vars(thing).items() if k[0] != "_"]
                members += [(f"{room}.{name}.{k}", v) for k, v in public if inspect.isfunction(v)]
            seen.update(label for label, _ in members)
            missing += [label for label, one in members if not inspect.getdoc(one)]
    return {"public_names": len(seen), "public_without_docstring": missing}


def wheel_mb() -> float:
    """Size of the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT)]
        subprocess.run(command, check=True)
        return round(max(path.stat().st_size for path in Path(folder).glob("*.whl")) / 1e6, 2)


if __name__ == "__main__":
    main()
