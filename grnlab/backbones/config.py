"""What the configurations of all architectures have in common."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of an architecture, as plain values and back.

    Those of an architecture are a frozen dataclass of their own; its fields are plain values, tuples and mappings.
    """

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`; an unknown key raises TypeError."""
        return cls(**{name: _fixed(value) for name, value in values.items()})


class ClassesConfig(ModelConfig):
    """Sizes and switches of an architecture that tells classes of cells, with a field ``classes``: class → labels."""

    classes: Mapping[str, tuple[str, ...]]

    def labels(self, name: str) -> tuple[str, ...]:
        """All labels of a class in the order of their codes."""
        return tuple(self.classes[name])

    def check_labels(self) -> None:
        """Refuse a label that would have two codes.

        Raises
        ------
        ValueError
            When a class has a label twice.
        """
        for name in self.classes:
            if twice := sorted(label for label, times in Counter(self.labels(name)).items() if times > 1):
                msg = f"class {name!r} has the labels {twice} twice; a label is a leaf or a group, and has one code."
                raise ValueError(msg)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _fixed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _fixed(one) for name, one in value.items()}
    return tuple(_fixed(one) for one in value) if isinstance(value, list | tuple) else value
