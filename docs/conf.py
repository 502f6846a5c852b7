"""The site: ``sphinx-build -W docs site``.

Pages that are made of what stands elsewhere (docstrings, error messages, notebooks, Markdown beside the code) are
written into ``docs/made/`` before the build. A link from such Markdown to a file that is no page becomes plain text.
"""

import argparse
import ast
import importlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MADE = ROOT / "docs" / "made"
ROOMS = (
    *("io", "pp", "tl", "pl", "datasets", "network", "evaluate", "heads", "attention", "backbones", "tasks"),
    *("training", "objectives", "nn", "data", "genes", "benchmark"),
)
COPIED = {
    "costs.md": "benchmarks/README.md",
    "kernels.md": "kernels/README.md",
    "grnlab-small.md": "grnlab/backbones/weights/grnlab-small/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
_LINK = re.compile(r"!?\[([^\]]*)\]\((?!https?:|#)[^)]*\)")

project, author = "grnlab", "The grnlab developers"
copyright = author
extensions = ["myst_nb", *(f"sphinx.ext.{name}" for name in ("autodoc", "autosummary", "napoleon", "viewcode"))]
autosummary_generate = False  # a table at the head of a page, no page of each name
html_theme = "furo"
html_title = "grnlab"
html_static_path, html_css_files = ["_static"], ["site.css"]
smartquotes = False  # --out must stay --out
nb_execution_mode = "off"  # the tests run every notebook
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
exclude_patterns: list[str] = []


def make_pages() -> None:
    """Write the pages that are not in this folder."""
    shutil.rmtree(MADE, ignore_errors=True)
    (MADE / "api").mkdir(parents=True)
    (MADE / "tutorials").mkdir()
    for path in (ROOT / "tutorials").glob("*.ipynb"):
        shutil.copy(path, MADE / "tutorials")
    for page, source in COPIED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        front = re.match(r"---\n.*?\n---\n", text, flags=re.DOTALL)  # of a model card, for the Hub
        (MADE / page).write_text(_LINK.sub(r"\1", text[front.end() :] if front else text), encoding="utf-8")
    for room in ROOMS:
        title = f"grnlab.{room}"
        module = importlib.import_module(title)
        callables = [name for name in module.__all__ if callable(getattr(module, name))]  # tables have no docstring
        names = "".join(f"   {name}\n" for name in sorted(callables, key=str.lower))
        page = (
            f"{title}\n{'=' * len(title)}\n\n.. currentmodule:: {title}\n\n"
            f".. autosummary::\n   :nosignatures:\n\n{names}\n"
            f".. automodule:: {title}\n   :members:\n   :imported-members:\n"
            "   :inherited-members: Mapping, Module, ModuleDict, tuple, ValueError, KeyboardInterrupt\n"
        )
        (MADE / "api" / f"{room}.rst").write_text(page, encoding="utf-8")
    (MADE / "commands.md").write_text("# Command line\n" + commands(), encoding="utf-8")
    (MADE / "messages.md").write_text("# All messages\n\n… is a value.\n" + messages(), encoding="utf-8")


def commands() -> str:
    """What ``grnlab COMMAND --help`` prints, of every command."""
    from grnlab.cli import _parser

    os.environ["COLUMNS"] = "100"  # argparse wraps to the terminal
    choices = [action.choices for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return "\n".join(f"\n## grnlab {name}\n\n```text\n{one.format_help()}```" for name, one in choices[0].items())


def messages() -> str:
    """Every error of the package by room, from the source: what is raised, what it says, who raises it."""
    lines: list[str] = []
    rooms = [path for path in (ROOT / "grnlab").iterdir() if path.suffix == ".py" or path.is_dir()]
    for room in sorted(path for path in rooms if path.stem != "__init__"):
        sources = [room] if room.suffix == ".py" else sorted(room.rglob("*.py"))
        found = [entry for source in sources for entry in _raised(source)]
        if found:
            lines += [f"\n## {room.stem.lstrip('_')}\n"]
            lines += [f"- **{kind}** in `{function}`: {text}" for kind, text, function in found]
    return "\n".join(lines) + "\n"


def _raised(source: Path) -> Iterator[tuple[str, str, str]]:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        texts = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "msg":
                texts[node.lineno] = _template(node.value)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                before = [text for line, text in sorted(texts.items()) if line < node.lineno]
                given = node.exc.args[0]
                text = before[-1] if isinstance(given, ast.Name) and before else _template(given)
                if text:
                    yield ast.unparse(node.exc.func), text, function.name


def _template(node: ast.expr) -> str:
    """Text of a message with its values as …, safe as Markdown."""
    text = ""
    for part in ast.walk(node) if isinstance(node, ast.IfExp) else [node]:
        if isinstance(part, ast.JoinedStr):
            pieces = [x.value if isinstance(x, ast.Constant) else "…" for x in part.values]
            text = text or "".join(map(str, pieces))
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            text = text or part.value
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


def setup(app: Any) -> None:
    """Attributes that share one description, as ``n_layers, n_heads``, stay names: Sphinx takes a space for a type."""

    def keep_names(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
        for number, line in enumerate(lines):
            if found := re.match(r"(\s*:(?:ivar|var) )((?:\w+, )+\w+)(:.*)", line):
                lines[number] = found[1] + found[2].replace(", ", ",\u200b") + found[3]

    app.connect("autodoc-process-docstring", keep_names, priority=900)  # after napoleon


make_pages()
