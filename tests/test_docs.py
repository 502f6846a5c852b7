"""What the documentation promises: the guide's code runs, and is as short as its title says."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"


def code_blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_a_new_backbone_in_100_lines(tmp_path, monkeypatch):
    pytest.importorskip("lightning")
    from grnlab.backbones import registry

    monkeypatch.setattr(registry, "_ARCHITECTURES", registry.architectures())
    monkeypatch.chdir(tmp_path)
    backbone, *uses = code_blocks("new_backbone.md")
    assert len(backbone.splitlines()) <= 100
    names = {"__name__": "pico"}
    for code in (backbone, *uses):
        exec(compile(code, "docs/new_backbone.md", "exec"), names)  # the page is ours
    data, network = names["data"], names["network"]
    true = set(zip(data.edges["source"], data.edges["target"], strict=True))
    candidates = [(tf, gene) for tf in data.tfs for gene in data.others]
    found = set(zip(network.edges["source"], network.edges["target"], strict=True)) & set(candidates)
    base_rate = np.mean([pair in true for pair in candidates])
    assert len(found & true) / len(found) > 1.5 * base_rate


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "kernels/README.md", "benchmarks/README.md"])
def test_links_to_files_of_the_repository_lead_somewhere(page):
    path = DOCS.parent / page
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_errors_are_explained_in_the_words_the_package_uses():
    said = " ".join(
        node.value.replace("\n", " ")
        for path in sorted((DOCS.parent / "grnlab").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    classes = " ".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "grnlab").rglob("*.py"))
    explained = re.findall(r"^\| `([^`]+)` \|", (DOCS / "errors.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(explained) > 10
    for words in explained:
        assert words in said or f"class {words}(" in classes, words
