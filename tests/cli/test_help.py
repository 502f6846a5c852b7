import re

import pytest

import grnlab as gl


@pytest.mark.parametrize("command", [(), ("demo",), ("infer",), ("models",), ("benchmark",), ("compare-models",)])
def test_help_teaches(grnlab, command):
    status, out, _ = grnlab(*command, "--help")
    assert status == 0
    assert "grnlab" in out
    assert len(out.splitlines()) > 8
    for option in set(re.findall(r"^  (--?[a-z0-9-]+)", out, flags=re.MULTILINE)):
        described = re.search(rf"^  {option}\b.*(\n {{10,}}\S.*)*", out, flags=re.MULTILINE).group()
        assert re.search(r"\s{2,}\S+ \S+", described), f"{option} is not described"


@pytest.mark.parametrize("command", [(), ("demo",), ("infer",), ("models",), ("benchmark",), ("compare-models",)])
def test_help_has_examples_that_parse(grnlab, command):
    from grnlab.cli import _parser

    _, out, _ = grnlab(*command, "--help")
    examples = re.findall(r"^  grnlab (.*)$", out.split("Examples\n--------")[1], flags=re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        if "--help" not in example:
            assert callable(_parser().parse_args(example.split()).run)
            assert example.startswith(" ".join(command))


def test_version_and_models(grnlab):
    assert grnlab("--version")[1].strip() == f"grnlab {gl.__version__}"
    status, out, err = grnlab("models")
    assert (status, err) == (0, "")
    from grnlab.backbones import builtin_models

    assert len(out.partition("\n\n")[0].splitlines()) == len(builtin_models())
    status, _, err = grnlab("models", "--card", "nothing")
    assert status == 2
    assert "no built-in model is called 'nothing'" in err


@pytest.mark.parametrize("arguments", [(), ("infre",), ("infer",), ("infer", "x.h5ad")])
def test_an_incomplete_command_shows_the_usage(grnlab, arguments):
    status, _, err = grnlab(*arguments)
    assert status == 2
    assert "usage: grnlab" in err
    assert ("networks of your own cells" in err) == (arguments == ())


def test_models_names_the_published_ones_and_their_licences(grnlab):
    status, out, _ = grnlab("models")
    assert status == 0
    assert re.search(r"scgpt: folder with args\.json, vocab\.json, best_model\.pt; https://.*; weights: MIT", out)
    assert re.search(r"scfoundation: .*non-commercial", out)
