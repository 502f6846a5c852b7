"""How far a run is, and what follows from it: the learning rate and the end."""

from dataclasses import asdict, dataclass
from typing import Any

from grnlab.training.config import PretrainConfig


@dataclass
class Progress:
    """Progress of a run.

    Attributes
    ----------
    step, minutes
        Optimizer steps done, and minutes used; those of a resumed run count from its first start.
    best
        Lowest validation loss so far.
    since_best
        Validations since then.
    since_cut
        Validations since then, or since the learning rate was lowered.
    factor
        Product of all lowerings of the learning rate.
    """

    step: int = 0
    minutes: float = 0.0
    best: float | None = None
    since_best: int = 0
    since_cut: int = 0
    factor: float = 1.0

    def share(self, config: PretrainConfig) -> float:
        """Share of the run that is done, by steps or minutes, whichever is further; 0 to 1."""
        share = self.step / config.max_steps
        if config.max_minutes is not None:
            share = max(share, self.minutes / config.max_minutes)
        return min(share, 1.0)

    def rate(self, config: PretrainConfig) -> float:
        """Learning rate of the next step as a factor of ``lr``.

        Examples
        --------
        >>> config = PretrainConfig(max_steps=100, warmup=10)
        >>> Progress(step=4).rate(config), Progress(step=50).rate(config)
        (0.48, 0.5)
        """
        rise = min((self.step + 1) / max(config.warmup, 1), 1.0)
        return rise * (1.0 - self.share(config) if config.schedule == "linear" else self.factor)

    def validated(self, loss: float, config: PretrainConfig) -> None:
        """Take note of a validation loss; lower the learning rate where the schedule says so."""
        if self.best is None or loss < self.best:
            self.best, self.since_best, self.since_cut = loss, 0, 0
            return
        self.since_best += 1
        self.since_cut += 1
        if config.schedule == "plateau" and self.since_cut >= config.plateau_patience:
            self.factor *= config.plateau_factor
            self.since_cut = 0

    def ended(self, config: PretrainConfig) -> bool:
        """Whether the run is over: by steps, by minutes, or because validation no longer gets better."""
        stalled = config.early_stop is not None and self.since_best >= config.early_stop
        return self.share(config) >= 1.0 or stalled

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; ``Progress(**values)`` is the inverse."""
        return asdict(self)
