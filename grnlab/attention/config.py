"""Settings of the read-outs that have any."""

from dataclasses import dataclass

DERIVATIVES = ("difference", "jvp")


@dataclass(frozen=True)
class ReadOutConfig:
    """Settings of read-outs; each read-out uses those it needs.

    Attributes
    ----------
    mask_rate
        Share of a cell's genes whose counts are hidden at once, to be predicted from the others: as in pretraining.
    n_masks
        How often other genes are hidden, per cell. A pair is seen when the target is hidden and the regulator is not.
    derivative
        How ``"jacobian"`` differentiates: ``"difference"``, central differences, two forwards per regulator;
        ``"jvp"``, exact forward-mode derivatives through PyTorch's own attention, some five forwards in time.
    step
        Half the distance of a central difference, in ``log2(1 + count)``.
    quantiles
        Levels ``"perturbation"`` sets a regulator to, beside 0: quantiles of its positive counts in the group.
    n_steps
        Points on the path of ``"integrated_gradients"``.
    batch
        Versions of a cell run at once.

    Raises
    ------
    ValueError
        When a setting is out of its range.
    """

    mask_rate: float = 0.3
    n_masks: int = 1
    derivative: str = "difference"
    step: float = 0.25
    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    n_steps: int = 16
    batch: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.mask_rate < 1:
            msg = f"mask_rate={self.mask_rate} must lie between 0 and 1, both excluded."
            raise ValueError(msg)
        for name in ("n_masks", "n_steps", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                msg = f"{name}={value!r} must be a whole number of at least 1."
                raise ValueError(msg)
        if self.derivative not in DERIVATIVES:
            msg = f"derivative={self.derivative!r} is unknown; choose one of {DERIVATIVES}."
            raise ValueError(msg)
        if not self.step > 0:
            msg = f"step={self.step} must be above 0."
            raise ValueError(msg)
        if not self.quantiles or not all(0 <= level <= 1 for level in self.quantiles):
            msg = f"quantiles={self.quantiles} must be one or more numbers from 0 to 1."
            raise ValueError(msg)
