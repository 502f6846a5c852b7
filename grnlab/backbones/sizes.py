"""Sizes that a configuration announces must be those of the weights beside it."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

_ANY_SIZE, _ANY_WIDTH = 10_000, 1_000  # numbers in a configuration that are not suspicious, whatever the weights


def check_sizes(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Refuse numbers of layers, and sizes, that no model with these weights has, before memory is taken for them.

    Parameters
    ----------
    config
        Plain values, as in JSON.
    weights
        Name → tensor.

    Raises
    ------
    ValueError
        Naming the number.
    """
    _check(config.items(), len(weights), {size for weight in weights.values() for size in weight.shape})


def _check(items: Iterable[tuple[Any, Any]], n_weights: int, dimensions: set[int]) -> None:
    for name, value in items:
        key = str(name)
        if isinstance(value, Mapping):
            _check(value.items(), n_weights, dimensions)
        elif isinstance(value, list | tuple):
            _check(((key, one) for one in value), n_weights, dimensions)
        if not isinstance(value, int):
            continue
        most = n_weights if "layers" in key else max({_ANY_SIZE, *dimensions})
        foreign = key.startswith("d_") and value > _ANY_WIDTH and not any(size % value == 0 for size in dimensions)
        if abs(value) > most or foreign:
            msg = f"{key} is {value}, which is not that of these {n_weights:,} weights."
            raise ValueError(msg)
