"""Pretraining tasks: each a pure corruption of the input and a loss; tasks compose by sum."""

from collections.abc import Mapping, Sequence
from typing import Any

from grnlab.objectives.base import Objective, count_loss, hide, masked_mean
from grnlab.objectives.bottleneck import Bottleneck
from grnlab.objectives.classify import Classify
from grnlab.objectives.contrast import Contrast
from grnlab.objectives.denoise import Denoise
from grnlab.objectives.discrete_noise import DiscreteNoise
from grnlab.objectives.divide import encode_in_parts, info_nce
from grnlab.objectives.dropout_contrast import DropoutContrast
from grnlab.objectives.mask import Mask
from grnlab.objectives.mask_bins import MaskBins
from grnlab.objectives.mask_values import MaskValues
from grnlab.objectives.mvc import Mvc
from grnlab.objectives.read_depth import ReadDepth
from grnlab.objectives.respond import Respond
from grnlab.objectives.tell_conditions import TellConditions

REGISTRY: dict[str, type] = {
    "denoise": Denoise,
    "mask": Mask,
    "bottleneck": Bottleneck,
    "mvc": Mvc,
    "classify": Classify,
    "contrast": Contrast,
    "read_depth": ReadDepth,
    "mask_bins": MaskBins,
    "dropout_contrast": DropoutContrast,
    "discrete_noise": DiscreteNoise,
    "mask_values": MaskValues,
    "tell_conditions": TellConditions,
    "respond": Respond,
}

__all__ = [
    "REGISTRY",
    "Bottleneck",
    "Classify",
    "Contrast",
    "Denoise",
    "DiscreteNoise",
    "DropoutContrast",
    "Mask",
    "MaskBins",
    "MaskValues",
    "Mvc",
    "Objective",
    "ReadDepth",
    "Respond",
    "TellConditions",
    "build_objectives",
    "check_objectives",
    "count_loss",
    "encode_in_parts",
    "hide",
    "info_nce",
    "masked_mean",
    "objective_name",
]


def check_objectives(objectives: Sequence[Objective], model: Any) -> None:
    """Refuse tasks that a model cannot be trained on.

    Parameters
    ----------
    objectives
        Tasks.
    model
        A backbone.

    Raises
    ------
    ValueError
        When there is no task, or the model lacks a method that one calls; the message names those it can be trained on.
    """
    if not objectives:
        msg = "objectives leaves nothing to train on; name at least one of a weight above 0."
        raise ValueError(msg)
    for objective in objectives:
        if missing := [name for name in getattr(objective, "needs", ()) if not hasattr(model, name)]:
            fit = [
                name for name, kind in REGISTRY.items() if all(hasattr(model, x) for x in getattr(kind, "needs", ()))
            ]
            msg = (
                f"{model.name!r} cannot be trained on {objective_name(objective)!r}: a {type(model).__name__} has no "
                f"{' and no '.join(missing)}. It can be trained on {fit}."
            )
            raise ValueError(msg)


def objective_name(objective: Objective) -> str:
    """Name of an objective in recipes and loss curves; of one that is not registered, that of its class.

    Parameters
    ----------
    objective
        The task.
    """
    kind = type(objective)
    return next((name for name, known in REGISTRY.items() if known is kind), kind.__name__.lower())


def build_objectives(specs: Sequence[str | Mapping[str, Any]]) -> list[Objective]:
    """Make objectives from a config: names, or mappings with ``name`` and parameters.

    An objective of weight 0 is left out, its corruption too.

    Raises
    ------
    ValueError
        For an unknown name, one that occurs twice, or a weight below 0.

    Examples
    --------
    >>> build_objectives(["denoise", {"name": "mask", "rate": 0.15}, {"name": "mvc", "weight": 0}])
    [Denoise(rate=0.6, factor=0.55, weight=1.0), Mask(rate=0.15, weight=1.0)]
    """
    objectives: dict[str, Objective] = {}
    for spec in specs:
        options = {"name": spec} if isinstance(spec, str) else dict(spec)
        name = options.pop("name", None)
        if name not in REGISTRY:
            msg = f"objective {name!r} is unknown; choose among {sorted(REGISTRY)}."
            raise ValueError(msg)
        if name in objectives:
            msg = f"objective {name!r} is listed twice; give it once, with a weight."
            raise ValueError(msg)
        objectives[name] = REGISTRY[name](**options)
        if not objectives[name].weight >= 0:
            msg = f"objective {name!r} has weight={objectives[name].weight}; it must be 0 (off) or above."
            raise ValueError(msg)
    return [objective for objective in objectives.values() if objective.weight > 0]
