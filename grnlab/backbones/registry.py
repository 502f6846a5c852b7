"""Architectures by name, so that a checkpoint can say what it is a checkpoint of."""

from dataclasses import dataclass
from typing import Any, Protocol

from grnlab.backbones.base import Backbone
from grnlab.backbones.config import ModelConfig
from grnlab.genes import GeneVocab


class Pretrained(Backbone, Protocol):
    """A backbone that checkpoints hold: a :class:`torch.nn.Module` made as ``Model(vocab, config, name=name)``.

    Attributes
    ----------
    config
        Sizes and switches.
    weights_hash
        Hash of the file the weights came from; empty for new weights.
    provenance
        How the model was made; JSON values.
    """

    config: Any
    weights_hash: str
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Architecture:
    """An architecture.

    Attributes
    ----------
    name
        Its name in checkpoints.
    model, config
        Classes of its models and of their configuration.
    """

    name: str
    model: type[Any]
    config: type[ModelConfig]


_ARCHITECTURES: dict[str, Architecture] = {}


def register_architecture(name: str, model: type[Any], config: type[ModelConfig]) -> None:
    """Make an architecture known to checkpoints and to training.

    Parameters
    ----------
    name
        Its name in checkpoints.
    model
        Class of its models, see :class:`Pretrained`.
    config
        Class of their configurations; no other architecture has the same.

    Raises
    ------
    ValueError
        When the name or the configuration belongs to another architecture already.
    """
    new = Architecture(name, model, config)
    for other in _ARCHITECTURES.values():
        if other != new and (other.name == name or other.config is config):
            msg = f"architecture {name!r} with {config.__name__}: {other} is registered already; choose another name."
            raise ValueError(msg)
    _ARCHITECTURES[name] = new


def architectures() -> dict[str, Architecture]:
    """Name → architecture of all that are registered."""
    return dict(_ARCHITECTURES)


def architecture_of(model: Any) -> str:
    """Name of the architecture of a model, or of a configuration.

    Raises
    ------
    TypeError
        When its class is not registered.
    """
    for name, known in _ARCHITECTURES.items():
        if type(model) in (known.model, known.config):
            return name
    msg = f"{type(model).__name__} is no registered architecture ({', '.join(_ARCHITECTURES)}); register_architecture."
    raise TypeError(msg)


def build_model(vocab: GeneVocab, config: ModelConfig, *, name: str) -> Any:
    """Make a model with new weights.

    Parameters
    ----------
    vocab
        Genes the model knows.
    config
        Configuration of a registered architecture.
    name
        What results call the model.
    """
    return _ARCHITECTURES[architecture_of(config)].model(vocab, config, name=name)
