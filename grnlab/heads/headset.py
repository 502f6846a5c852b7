"""Named sets of attention heads."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grnlab._files import atomic_file
from grnlab._reading import read_json
from grnlab.backbones.base import AttentionSpec

_KEYS = {"name": str, "origin": str, "shape": list, "weights": dict}
_MOST = 10_000  # layers, or heads of a layer


@dataclass(frozen=True, eq=False)  # tensors have no single truth value to compare by
class HeadSet:
    """Weights of the heads whose maps are averaged into a network.

    Attributes
    ----------
    name
        What results call the set.
    weights_LH
        Non-negative weight of each head, float32, shape (n_layers, n_heads); a weight of 0 leaves a head out.
    origin
        Where the choice comes from, for the provenance.

    Examples
    --------
    >>> spec = AttentionSpec(n_layers=2, n_heads=2, d_head=4, scale=0.5, n_prefix=1)
    >>> HeadSet.of(spec, [(0, 1), (1, 0)]).pairs()
    [(0, 1), (1, 0)]
    """

    name: str
    weights_LH: Tensor
    origin: str = ""

    def __post_init__(self) -> None:
        weights = self.weights_LH
        if weights.ndim != 2 or not weights.isfinite().all() or (weights < 0).any() or not (weights > 0).any():
            msg = (
                f"head set {self.name!r} needs a finite weight of at least 0 for each (layer, head) and one above 0; "
                f"got {weights.tolist()}."
            )
            raise ValueError(msg)

    @classmethod
    def mean(cls, spec: AttentionSpec) -> "HeadSet":
        """Take every head with the same weight: the unsupervised default."""
        return cls("mean of all heads", torch.ones(spec.n_layers, spec.n_heads), "unsupervised")

    @classmethod
    def of(
        cls, spec: AttentionSpec, heads: Iterable[tuple[int, int]] | Mapping[tuple[int, int], float], *, name: str = ""
    ) -> "HeadSet":
        """Choose heads by (layer, head), with equal weights or a mapping of weights.

        Raises
        ------
        ValueError
            When a head does not exist or none is given.
        """
        weighted = dict(heads) if isinstance(heads, Mapping) else dict.fromkeys(heads, 1.0)
        weights_LH = torch.zeros(spec.n_layers, spec.n_heads)
        for (layer, head), weight in weighted.items():
            if not (0 <= layer < spec.n_layers and 0 <= head < spec.n_heads):
                msg = f"heads holds ({layer}, {head}); the model has {spec.n_layers} layers of {spec.n_heads} heads."
                raise ValueError(msg)
            weights_LH[layer, head] = weight
        return cls(name or f"{len(weighted)} heads", weights_LH, "chosen by the user")

    @classmethod
    def layer(cls, spec: AttentionSpec, layer: int) -> "HeadSet":
        """All heads of one layer; negative numbers count from the last."""
        if not -spec.n_layers <= layer < spec.n_layers:
            msg = f"layer={layer} does not exist; the model has {spec.n_layers} layers."
            raise ValueError(msg)
        layer %= spec.n_layers
        return cls.of(spec, [(layer, head) for head in range(spec.n_heads)], name=f"layer {layer}")

    def pairs(self) -> list[tuple[int, int]]:
        """(layer, head) of every head with a weight."""
        return [(int(layer), int(head)) for layer, head in torch.nonzero(self.weights_LH)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for provenance."""
        weights = {f"{layer}.{head}": float(self.weights_LH[layer, head]) for layer, head in self.pairs()}
        return {"name": self.name, "origin": self.origin, "weights": weights}

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the set as JSON, with where it comes from.

        Parameters
        ----------
        path
            File to write.
        overwrite
            Replace an existing file.

        Raises
        ------
        FileExistsError
            When the file exists and `overwrite` is False.
        """
        content = self.to_dict() | {"shape": list(self.weights_LH.shape)}
        with atomic_file(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "HeadSet":
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file holds no head set.
        """
        try:
            content = read_json(path)
            if not isinstance(content, dict) or not all(isinstance(content.get(k), kind) for k, kind in _KEYS.items()):
                msg = f"a head set has {', '.join(_KEYS)}"
                raise TypeError(msg)
            n_layers, n_heads = map(int, content["shape"])
            if not (0 < n_layers <= _MOST and 0 < n_heads <= _MOST):
                msg = f"shape {content['shape']} is none of a model"
                raise ValueError(msg)
            spec = AttentionSpec(n_layers, n_heads, 1, 1.0, 0)
            pairs = ((key.split("."), value) for key, value in content["weights"].items())
            weights = {(int(layer), int(head)): float(value) for (layer, head), value in pairs}
            found = cls.of(spec, weights)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            msg = f"{path} holds no head set as HeadSet.save writes it: {error}"
            raise ValueError(msg) from error
        return cls(content["name"], found.weights_LH, content["origin"])
