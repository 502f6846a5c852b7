"""Read what publishers ship: tensors without running their pickles, dictionaries without any class.

Every key of a checkpoint is either taken, or named as not needed, or an error: silently missing weights give random
attention that looks like a network.
"""

import io
import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from grnlab._reading import check_plain_file, read_json
from grnlab.backbones.sizes import check_sizes
from grnlab.genes import GeneVocab

Model = TypeVar("Model", bound=torch.nn.Module)


class WeightReader:
    """Take weights out of a state dictionary one by one; at the end nothing may be left.

    Parameters
    ----------
    weights
        Name → tensor.
    source
        How messages call the file.
    """

    def __init__(self, weights: Mapping[str, Any], source: str | Path) -> None:
        self._left = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
        self._source = source

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str) -> Tensor:
        """A weight, as float32.

        Raises
        ------
        ValueError
            When it is not there, was taken, or is not finite.
        """
        if name not in self._left:
            near = [key for key in self._left if key.rsplit(".", 1)[0] == name.rsplit(".", 1)[0]][:3]
            msg = f"{self._source} lacks the weights {name!r} (beside it there are {near or list(self._left)[:3]})."
            raise ValueError(msg)
        weight = self._left.pop(name).float()
        if not weight.isfinite().all():
            msg = f"the weights {name!r} of {self._source} hold NaN or infinite values; restore the original file."
            raise ValueError(msg)
        return weight

    def linear(self, ours: str, theirs: str) -> dict[str, Tensor]:
        """Weight and bias of a layer, under the name it has here."""
        return {f"{ours}.{part}": self.take(f"{theirs}.{part}") for part in ("weight", "bias")}

    def finish(self, *, not_needed: Sequence[str] = ()) -> None:
        """Refuse weights that nobody took, but for those whose names start with `not_needed`.

        Raises
        ------
        ValueError
            When there are any: the model in the file is another than the one built here.
        """
        strange = [name for name in self._left if not name.startswith(tuple(not_needed))]
        if strange:
            msg = (
                f"{self._source} holds {len(strange)} weights that this architecture does not have, the first are "
                f"{strange[:3]}; loading it without them would give another attention than the publisher's."
            )
            raise ValueError(msg)


def with_weights(
    kind: Callable[..., Model],
    vocab: GeneVocab,
    config: Any,
    *,
    weights: Mapping[str, Tensor],
    source: Path,
    **name: str,
) -> Model:
    """Make a model with weights; every one must be there, of its shape, and no size may be foreign to them.

    Parameters
    ----------
    kind
        Class of the model.
    vocab, config, name
        What it is made with.
    weights
        Name → tensor.
    source
        How messages call the file.

    Raises
    ------
    ValueError
        When they do not fit.
    """
    try:
        check_sizes(config.to_dict(), weights)
        model = kind(vocab, config, **name)
        model.load_state_dict(dict(weights))
    except (RuntimeError, ValueError) as error:
        msg = f"the weights in {source} do not fit its configuration: {error}"
        raise ValueError(msg) from error
    return model


def read_tensors(path: Path, *, allow_pickle: bool = False) -> Any:
    """Content of a file of weights: safetensors, or what ``torch.save`` wrote.

    Parameters
    ----------
    path
        The file.
    allow_pickle
        Read a file that holds more than tensors and plain values. Classes that are not installed, or not PyTorch's,
        become empty stand-ins.

    Raises
    ------
    ValueError
        When the file cannot be read, or holds other objects and `allow_pickle` is False.
    """
    check_plain_file(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            msg = f"{path} is not a complete safetensors file: {error}"
            raise ValueError(msg) from error
    try:
        if allow_pickle:
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_STAND_INS)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        msg = (
            f"{path} is a pickle: reading one can run any code it holds, so grnlab reads tensors and plain values only "
            f"(torch.load with weights_only=True), and this file holds more. If you trust it, pass allow_pickle=True "
            f"and keep the result with grnlab.backbones.save_model. ({str(error).splitlines()[0]})"
        )
        raise ValueError(msg) from error
    except Exception as error:  # a broken pickle raises anything
        msg = f"{path} is not a complete file of PyTorch weights: {error}"
        raise ValueError(msg) from error


def read_dictionary(path: Path) -> dict[str, Any]:
    """A dictionary of names and numbers, from JSON or from a pickle that holds nothing else.

    Raises
    ------
    ValueError
        When there is anything else in it.
    """
    try:
        if path.suffix == ".json":
            content = read_json(path)
        else:
            check_plain_file(path)
            content = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except (
        *(pickle.UnpicklingError, EOFError, ValueError, AttributeError, IndexError, KeyError, TypeError),
        *(RecursionError, OverflowError, MemoryError, NameError, struct.error),
    ) as error:
        msg = f"{path} is no dictionary of names and numbers: {error}"
        raise ValueError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} holds a {type(content).__name__}; expected a dictionary."
        raise ValueError(msg)
    return {str(name): value for name, value in content.items()}


class _Dtype:
    """Stands for a NumPy type of numbers while a pickle is read; its state is the byte order."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code.lstrip("<>=|")
        if self.code[:1] not in set("iuf"):
            msg = f"it holds NumPy values of type {code!r}"
            raise pickle.UnpicklingError(msg)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = (">" if state[1] == ">" else "<") + self.code


def _number(dtype: _Dtype, raw: bytes) -> float:
    return np.frombuffer(raw, dtype=dtype.code)[0].item()


class _PlainUnpickler(pickle._Unpickler):  # type: ignore[name-defined, misc, unused-ignore]
    """Reads dictionaries, texts and numbers; any class but a NumPy number is refused before it is made.

    The unpickler written in C takes memory for as many objects as a pickle announces; that in Python for those it has.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module.removeprefix("numpy.").lstrip("_"), name) == ("core.multiarray", "scalar"):
            return _number
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return lambda text, _: text.encode("latin1")
        msg = f"it holds a {module}.{name}"
        raise pickle.UnpicklingError(msg)


class _StandIn(dict):
    """Takes the place of a class of somebody else: keeps the items of mappings, runs nothing."""

    def __new__(cls, *_: object, **__: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __call__(self, *_: object, **__: object) -> "_StandIn":
        return self

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.update(state)

    def append(self, _: object) -> None:
        """Where a pickle fills a list."""

    def extend(self, _: object) -> None:
        """Where a pickle fills a list."""


_TENSORS = {("torch._utils", f"_rebuild_{name}") for name in ("tensor", "tensor_v2", "parameter")}
_CONTAINERS = {("collections", "OrderedDict"), ("builtins", "set"), ("_codecs", "encode"), ("torch", "Size")}


class _StandInUnpickler(pickle.Unpickler):
    """PyTorch's tensors and plain containers are made; every other class becomes an empty stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        is_type = module == "torch" and (
            name.endswith("Storage") or isinstance(getattr(torch, name, None), torch.dtype)
        )
        if is_type or (module, name) in _TENSORS | _CONTAINERS or (module, name) == ("torch.storage", "UntypedStorage"):
            return super().find_class(module, name)
        return _StandIn


def _load(file: Any, **options: Any) -> Any:
    return _StandInUnpickler(file, **options).load()


_STAND_INS = ModuleType("stand_ins")  # what torch.load takes for the pickle module
_STAND_INS.Unpickler, _STAND_INS.load = _StandInUnpickler, _load  # type: ignore[attr-defined]
