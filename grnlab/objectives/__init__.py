"""Pretraining tasks: each a pure corruption of the input and a loss; tasks compose by sum."""

from collections.abc import Mapping, Sequence
from typing import Any

from grnlab.objectives.base import Objective, count_loss
from grnlab.objectives.classify import Classify
from grnlab.objectives.denoise import Denoise
from grnlab.objectives.mask import Mask
from grnlab.objectives.mvc import Mvc

REGISTRY: dict[str, type] = {"denoise": Denoise, "mask": Mask, "mvc": Mvc, "classify": Classify}

__all__ = ["REGISTRY", "Classify", "Denoise", "Mask", "Mvc", "Objective", "build_objectives", "count_loss"]


def build_objectives(specs: Sequence[str | Mapping[str, Any]]) -> list[Objective]:
    """Make objectives from a config: names, or mappings with ``name`` and parameters.

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> build_objectives(["denoise", {"name": "mask", "rate": 0.15}])
    [Denoise(rate=0.6, factor=0.55, weight=1.0), Mask(rate=0.15, weight=1.0)]
    """
    objectives = []
    for spec in specs:
        options = {"name": spec} if isinstance(spec, str) else dict(spec)
        name = options.pop("name", None)
        if name not in REGISTRY:
            msg = f"objective {name!r} is unknown; choose among {sorted(REGISTRY)}."
            raise ValueError(msg)
        objectives.append(REGISTRY[name](**options))
    return objectives
