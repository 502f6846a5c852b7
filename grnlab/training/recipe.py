"""Recipes: one YAML file that says which cells, which model and which training, so that a run has a name.

A recipe has a ``name``, a ``vocabulary``, an ``architecture`` (``scprint`` where it says none) and the sections
``model``, ``data`` and ``training``. See the recipes beside this file for examples.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from grnlab._reading import read_text
from grnlab.backbones import load_model
from grnlab.backbones.registry import architectures
from grnlab.data import CellCollection, Label, QualityRules, load_collection
from grnlab.data.hierarchy import read_hierarchy
from grnlab.genes import GeneVocab
from grnlab.training.config import PretrainConfig
from grnlab.training.recipes.cell_types import CELL_TYPES, coarse_cell_type

Section = TypeVar("Section")
_DEEPEST = 50  # of a list in a list; recipes need five
_MOST_LAYERS, _MOST_SIZE = 1_000, 1_000_000  # of a model; more would be built for ever, or fill the memory


@dataclass(frozen=True)
class LabelConfig:
    """A label of the cells, which the model learns to tell.

    Attributes
    ----------
    column
        Column of ``obs``.
    classes
        The labels; by default those found in the files. ``"coarse"``: the built-in coarse cell types, with the many
        spellings of public data. A mapping: label → the values of the column that stand for it; cells with any other
        value are unknown.
    ontology
        OBO file, or table with the columns ``child, parent``, relative to the data folder: labels may then stand at
        any level.
    required
        Whether a file without the column is an error.
    """

    column: str
    classes: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None
    ontology: str | None = None
    required: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) and self.classes != "coarse":
            msg = f"classes={self.classes!r} is unknown; give a list of labels, or 'coarse'."
            raise ValueError(msg)
        if self.ontology is not None and self.classes == "coarse":
            msg = "classes='coarse' has no levels; leave ontology out."
            raise ValueError(msg)
        if isinstance(self.classes, Mapping):
            spellings = [value for values in self.classes.values() for value in values]
            if twice := sorted({value for value in spellings if spellings.count(value) > 1}):
                msg = f"classes names the values {twice} under more than one label; a cell has one."
                raise ValueError(msg)


@dataclass(frozen=True)
class DataConfig:
    """The cells of a run.

    Attributes
    ----------
    files
        Paths and patterns relative to the data folder.
    exclude
        Patterns of files to leave out.
    slot
        Where the counts are: ``"X"``, ``"raw/X"`` or ``"layers/NAME"``.
    labels
        Label → where it comes from.
    rules
        See :class:`grnlab.data.QualityRules`.
    on_error
        ``"raise"`` or ``"skip"`` files that cannot be used.
    held_out
        Data sets whose cells are for validation only.
    memory_gb
        Counts up to this size are kept in memory, larger ones read from disk.
    """

    files: tuple[str, ...] = ("**/*.h5ad", "**/*.zarr")
    exclude: tuple[str, ...] = ()
    slot: str = "X"
    labels: Mapping[str, LabelConfig] = field(default_factory=dict)
    rules: QualityRules = field(default_factory=QualityRules)
    on_error: str = "raise"
    held_out: tuple[str, ...] = ()
    memory_gb: float = 2.0


@dataclass(frozen=True)
class Recipe:
    """A run by name.

    Attributes
    ----------
    name
        Name of the model.
    vocabulary
        Built-in model, checkpoint folder, or file written by :meth:`grnlab.genes.GeneVocab.save`.
    architecture
        Name of a registered architecture.
    model
        Keys of its configuration but classes and groups, which come from the labels.
    data, training
        Cells and settings.
    """

    name: str
    vocabulary: str
    architecture: str
    model: Mapping[str, Any]
    data: DataConfig
    training: PretrainConfig

    def vocab(self) -> GeneVocab:
        """Load the vocabulary."""
        path = Path(self.vocabulary)
        return GeneVocab.load(path) if path.is_file() else load_model(self.vocabulary).vocab

    def cells(self, folder: Path, vocab: GeneVocab, *, cache: Path | None = None) -> CellCollection:
        """Scan the files of a data folder; labels of an ontology are counted leaves first, as the model does.

        Raises
        ------
        ValueError
            When a file that is named is not there, a pattern finds nothing, or a file cannot be used.
        """
        if not folder.is_dir():
            msg = f"the data folder {folder} is no folder."
            raise ValueError(msg)
        data = self.data
        cells = load_collection(
            _paths(folder, data),
            vocab,
            label={name: self._label(name) for name in data.labels},
            rules=data.rules,
            slot=data.slot,
            on_error=data.on_error,
            cache=cache,
            memory_bytes=int(data.memory_gb * (1 << 30)),
        )
        for name, label in data.labels.items():
            if label.ontology is not None:
                leaves, groups = read_hierarchy(folder / label.ontology).split(cells.label_values[name])
                _reorder(cells, name, (*leaves, *groups))
        return cells

    def model_config(self, cells: CellCollection, folder: Path) -> Any:
        """Architecture, with a class for every label that has two or more values among the cells, if it has classes.

        Raises
        ------
        ValueError
            When it has classes, but not of several levels, and a label has.
        """
        classes: dict[str, tuple[str, ...]] = {}
        groups: dict[str, dict[str, tuple[str, ...]]] = {}
        for name, label in self.data.labels.items():
            classes[name] = cells.label_values[name]
            if label.ontology is not None:
                classes[name], groups[name] = read_hierarchy(folder / label.ontology).split(classes[name])
        classes = {name: values for name, values in classes.items() if len(values) > 1}
        groups = {name: coarse for name, coarse in groups.items() if name in classes}
        config = architectures()[self.architecture].config
        if any(groups.values()) and "classes" in _keys(config) and "groups" not in _keys(config):
            msg = (
                f"architecture={self.architecture!r} tells labels of one level, but {sorted(groups)} have more among "
                "the cells; leave ontology out, or train 'scprint'."
            )
            raise ValueError(msg)
        from_labels = {"classes": classes, "groups": groups}
        taken = {name: value for name, value in from_labels.items() if name in _keys(config)}
        return config.from_dict({**self.model, **taken})

    def _label(self, name: str) -> Label:
        label = self.data.labels[name]
        if label.classes == "coarse":
            return Label(label.column, CELL_TYPES, coarse_cell_type, required=label.required)
        if isinstance(label.classes, Mapping):
            of_value = {value: one for one, values in label.classes.items() for value in values}
            return Label(label.column, tuple(label.classes), of_value.get, required=label.required)
        return Label(label.column, label.classes, required=label.required)


def builtin_recipes() -> dict[str, Path]:
    """Name → file of the recipes that come with the package."""
    root = Path(str(files("grnlab.training") / "recipes"))
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def read_recipe(name: str | Path, **training: Any) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    name
        Name of a built-in recipe, or a YAML file.
    **training
        Settings that replace those of the file; None leaves them.

    Raises
    ------
    ValueError
        For an unknown name, a file that is not YAML, or an unknown key (the nearest is named).

    Examples
    --------
    >>> read_recipe("laptop", max_minutes=1.0).training.max_minutes
    1.0
    """
    import yaml

    path = builtin_recipes().get(str(name), Path(name))
    if not path.is_file():
        msg = f"{str(name)!r} is neither a recipe ({', '.join(builtin_recipes())}) nor a YAML file."
        raise ValueError(msg)
    try:
        text = read_text(path)
        _refuse_bombs(text)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        msg = f"{path} is not YAML: {error}"
        raise ValueError(msg) from error
    try:
        recipe = _recipe(content)
        return replace(
            recipe, training=replace(recipe.training, **{k: v for k, v in training.items() if v is not None})
        )
    except (TypeError, ValueError) as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error


def _refuse_bombs(text: str) -> None:
    """Refuse aliases, which may repeat what they name without end, and nesting that takes the parser for ever."""
    import yaml

    depth = 0
    for token in yaml.scan(text):
        kind = type(token).__name__
        depth += kind.endswith("StartToken") - kind.endswith("EndToken")
        if isinstance(token, yaml.AliasToken):
            msg = "it uses an alias (*name); write the value itself"
            raise ValueError(msg)
        if depth > _DEEPEST:
            msg = "it is nested too deeply"
            raise ValueError(msg)


def _recipe(content: Any) -> Recipe:
    values = _known(content, "recipe", ["name", "vocabulary", "architecture", "model", "data", "training"])
    data = _known(values.get("data") or {}, "data", _keys(DataConfig))
    named = data.pop("labels", None) or {}
    if not isinstance(named, Mapping):
        msg = f"data.labels must hold labels with their columns; got {named!r:.80}."
        raise ValueError(msg)
    labels = {
        name: _section(LabelConfig, {"column": one} if isinstance(one, str) else one, f"data.labels.{name}")
        for name, one in named.items()
    }
    rules = _section(QualityRules, data.pop("rules", None) or {}, "data.rules")
    for key in {"files", "exclude", "held_out"} & set(data):  # a list, or one name
        data[key] = (data[key],) if isinstance(data[key], str) else tuple(data[key])
    architecture = str(values.get("architecture") or "scprint")
    if architecture not in architectures():
        msg = f"architecture={architecture!r} is unknown; choose among {', '.join(map(repr, architectures()))}."
        raise ValueError(msg)
    model = _known(values.get("model") or {}, "model", _keys(architectures()[architecture].config))
    for key, value in model.items():
        most = _MOST_LAYERS if "layers" in key else _MOST_SIZE
        if isinstance(value, int) and value > most:
            msg = f"model.{key} is {value}; expected at most {most:,}."
            raise ValueError(msg)
    if given := sorted({"classes", "groups"} & set(model)):
        msg = f"model.{given[0]} is made of data.labels; name the labels there."
        raise ValueError(msg)
    return Recipe(
        name=str(values.get("name") or "model"),
        vocabulary=str(values.get("vocabulary") or "grnlab-small"),
        architecture=architecture,
        model=model,
        data=DataConfig(labels=labels, rules=rules, **data),
        training=_section(PretrainConfig, values.get("training") or {}, "training"),
    )


def _keys(kind: type[Any]) -> list[str]:
    return [one.name for one in fields(kind)]


def _section(kind: type[Section], content: Any, name: str) -> Section:
    return kind(**_known(content, name, _keys(kind)))


def _known(content: Any, name: str, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        msg = f"{name} must hold keys with values; got {content!r}."
        raise ValueError(msg)
    for key in content:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(keys)}."
            msg = f"{name} has an unknown key {key!r}; {hint}"
            raise ValueError(msg)
    return dict(content)


def _reorder(cells: CellCollection, name: str, values: tuple[str, ...]) -> None:
    """Count the labels of the cells in another order."""
    code = {value: number for number, value in enumerate(values)}
    table = np.array([*(code[value] for value in cells.label_values[name]), -1], dtype=np.int32)
    cells.labels[name], cells.label_values[name] = table[cells.labels[name]], values


def _paths(folder: Path, data: DataConfig) -> list[Path]:
    left_out = {path for pattern in data.exclude for path in folder.glob(pattern)}
    found: dict[Path, None] = {}
    for pattern in data.files:
        matches = [path for path in sorted(folder.glob(pattern)) if path not in left_out]
        if not matches and not any(sign in pattern for sign in "*?["):
            msg = f"{folder / pattern} is not there."
            raise ValueError(msg)
        found.update(dict.fromkeys(matches))
    if not found:
        msg = f"{folder} holds no file that matches {', '.join(data.files)}; expected h5ad files or zarr stores."
        raise ValueError(msg)
    return list(found)
