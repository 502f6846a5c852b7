"""What holds for every public name: it resolves, is described, annotated, and takes few positional arguments."""

import importlib
import inspect
import pkgutil
import re

import pytest

import grnlab

ROOMS = (
    *("grnlab.pp", "grnlab.tl", "grnlab.pl", "grnlab.io", "grnlab.datasets", "grnlab.genes", "grnlab.data"),
    *("grnlab.backbones", "grnlab.attention", "grnlab.heads", "grnlab.network", "grnlab.viz", "grnlab.evaluate"),
    *("grnlab.benchmark", "grnlab.tasks", "grnlab.nn", "grnlab.objectives"),
)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def modules():
    found = ["grnlab"]
    found += [info.name for info in pkgutil.walk_packages(grnlab.__path__, "grnlab.")]
    return sorted(name for name in found if not name.endswith("__main__"))


def public():
    """Name → function, class, method or property reachable through the rooms."""
    found = {"grnlab.load_model": grnlab.load_model}
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing):
                continue
            found[f"{room}.{name}"] = thing
            if inspect.isclass(thing):
                for attribute, member in vars(thing).items():
                    if attribute.startswith("_"):
                        continue
                    inner = getattr(member, "__func__", getattr(member, "func", getattr(member, "fget", member)))
                    if inspect.isfunction(inner):
                        found[f"{room}.{name}.{attribute}"] = inner
    return found


PUBLIC = public()
# Parts that rooms call, not people.
_INNER = ("grnlab.data.sample_context", "grnlab.attention.pool_queries_keys", "grnlab.tasks.cell_embeddings")
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if inspect.isfunction(thing)}


def parameters(function):
    return [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]


def test_there_is_something_to_check():
    for name in ("grnlab.tl.attention", "grnlab.network.GeneNetwork.hubs", "grnlab.genes.GeneVocab.token"):
        assert name in FUNCTIONS
    assert len(FUNCTIONS) > 60


@pytest.mark.parametrize("room", ["grnlab", *ROOMS])
def test_every_name_of_all_resolves(room):
    module = importlib.import_module(room)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_dir_shows_the_namespaces_and_unknown_names_are_named():
    assert {"pp", "tl", "pl", "io", "datasets", "load_model"} <= set(dir(grnlab))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = grnlab.nothing


@pytest.mark.parametrize("name", modules())
def test_every_module_is_described(name):
    assert (importlib.import_module(name).__doc__ or "").strip()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_summary_line(name):
    # a class without a docstring would show its base's, a dataclass its signature
    thing = PUBLIC[name]
    text = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    summary = (text or "").strip().splitlines()[:1]
    assert summary, f"{name} has no docstring"
    assert len(summary[0]) >= 10
    assert summary[0].endswith((".", ":", ";", ",")) or len(summary[0]) > 60
    assert not summary[0].startswith(f"{name.rsplit('.', 1)[-1]}(")


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - set(_INNER)))
def test_at_most_three_positional_parameters(name):
    positional = [p.name for p in parameters(FUNCTIONS[name]) if p.kind in _POSITIONAL]
    assert len(positional) <= 3, f"{name}{positional}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_annotations_everywhere(name):
    missing = [p.name for p in parameters(FUNCTIONS[name]) if p.annotation is p.empty]
    assert not missing, f"{name}: {missing}"
    assert inspect.signature(FUNCTIONS[name]).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_default_can_be_changed(name):
    changeable = [p.name for p in parameters(FUNCTIONS[name]) if isinstance(p.default, list | dict | set)]
    assert not changeable


VERBS = [
    name
    for name, function in FUNCTIONS.items()
    if name.count(".") == 2 and not name.startswith("grnlab.evaluate") and len(parameters(function)) > 1
]


@pytest.mark.parametrize("name", VERBS)
def test_every_parameter_of_a_verb_is_described(name):
    text = inspect.getdoc(FUNCTIONS[name])
    if "Parameters as in" in text or "Parameters are those of" in text:
        return
    missing = [p.name for p in parameters(FUNCTIONS[name]) if not re.search(rf"\b{p.name}\b", text)]
    assert not missing, f"{name}: {missing}"
