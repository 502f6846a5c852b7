"""What a suite is made of (cases with targets) and what comes out (rows), as Markdown and JSON.

Standard library alone: the process that starts the others stays small, as the peak memory of a process counts that of
its parent at the fork.
"""

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SIGNS = {">=": operator.ge, "<=": operator.le}
_UNITS = {"cpu": "cpu_s", "h200": "ms"}


@dataclass(frozen=True)
class Target:
    """What a row must reach: a metric of :meth:`Row.metrics`, a sign and a number."""

    metric: str
    sign: str
    value: float

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.value:g}"


@dataclass(frozen=True)
class Case:
    """One operation at one size, beside another way to do it.

    Attributes
    ----------
    name
        As ``--case`` takes it.
    problem
        Key of :data:`problems.PROBLEMS`.
    sizes
        Of the full run, of ``--quick`` and of ``--smoke``.
    peer
        A way of the problem; None when the case stands alone.
    targets, quick_targets
        Of the full run and of ``--quick``.
    threads
        Threads of each side, CPU suite.
    """

    name: str
    problem: str
    sizes: tuple[dict[str, int], dict[str, int], dict[str, int]]
    peer: str | None
    targets: tuple[Target, ...]
    quick_targets: tuple[Target, ...] = ()
    threads: int = 1

    def at(self, size: str) -> dict[str, int]:
        """Sizes of a run."""
        return self.sizes[("full", "quick", "smoke").index(size)]

    def targets_at(self, size: str) -> tuple[Target, ...]:
        """Targets of a run; ``--smoke`` has none."""
        return {"full": self.targets, "quick": self.quick_targets, "smoke": ()}[size]


@dataclass
class Side:
    """What one way cost, or why it has no cost.

    Attributes
    ----------
    time
        CPU-seconds (CPU suite) or milliseconds (h200 suite) of one call.
    noise
        Largest over smallest time of repeated measurements, minus 1.
    wall_s
        Wall time of one call.
    extra_mb, peak_mb
        Peak memory over what was held before the call, and in all.
    rel_err
        Of what was computed, see the problem; None where it cannot be told.
    trouble
        ``"absent: package"``, ``"OOM"``, ``"red: ..."`` or ``"failed: ..."``.
    """

    time: float | None = None
    noise: float | None = None
    wall_s: float | None = None
    extra_mb: float | None = None
    peak_mb: float | None = None
    rel_err: float | None = None
    trouble: str = ""
    work: dict[str, float] = field(default_factory=dict)
    items: int = 1

    @classmethod
    def best_of(cls, runs: "Sequence[Side]") -> "Side":
        """Take the quickest of repeated runs, with their spread; a run in trouble speaks for all."""
        for run in runs:
            if run.trouble or run.time is None:
                return run
        best = min(runs, key=lambda run: run.time or 0.0)
        slowest = max(run.time or 0.0 for run in runs)
        best.noise = slowest / best.time - 1 if best.time and len(runs) > 1 else best.noise
        return best


@dataclass
class Row:
    """One line of the table."""

    case: Case
    size: str
    ours: Side
    peer: Side | None
    ceilings: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """Whatever targets may speak of, as far as it was measured."""
        found: dict[str, float | None] = {
            **{name: getattr(self.ours, name) for name in ("time", "wall_s", "extra_mb", "peak_mb", "rel_err")},
            "fraction_of_ceiling": self.fraction,
        }
        if self.ours.time:
            found["items_per_s"] = self.ours.items / self.ours.time
        if self.peer is not None and not self.peer.trouble:
            found["time_ratio"] = _ratio(self.peer.time, self.ours.time)
            found["memory_ratio"] = _ratio(self.peer.extra_mb, self.ours.extra_mb and max(self.ours.extra_mb, 1.0))
            found["error_ratio"] = _ratio(self.peer.rel_err, self.ours.rel_err)
        return {name: value for name, value in found.items() if value is not None}

    @property
    def fraction(self) -> float | None:
        """Least time the ceilings allow, by the one that binds, over the time taken."""
        floors = [amount / self.ceilings[name] for name, amount in self.ours.work.items() if amount]
        seconds = None if self.ours.time is None else self.ours.time * self.ceilings.get("seconds_per_unit", 1.0)
        return max(floors) / seconds if floors and seconds else None

    @property
    def missed(self) -> list[str]:
        """Targets not reached; a target on a peer that is absent or ran out of memory is none."""
        if self.ours.trouble:
            return [] if self.ours.trouble.startswith("absent") else [self.ours.trouble]
        peer_trouble = self.peer.trouble if self.peer is not None else ""
        if peer_trouble.startswith(("red", "failed")):
            return [f"{self.case.peer} {peer_trouble}"]
        missed = []
        for target in self.case.targets_at(self.size):
            if target.metric.endswith("_ratio") and peer_trouble:
                continue
            if target.metric not in self.metrics:
                missed.append(f"{target}: not measured")
            elif not _SIGNS[target.sign](self.metrics[target.metric], target.value):
                missed.append(f"{target}: {self.metrics[target.metric]:.3g}")
        return missed

    def to_json(self, suite: str) -> dict[str, Any]:
        """One flat object."""
        unit, peer = _UNITS[suite], self.peer or Side()
        return {
            "case": self.case.name,
            unit: self.ours.time,
            "peer": self.case.peer,
            f"peer_{unit}": peer.time,
            "extra_mb": self.ours.extra_mb,
            "peer_extra_mb": peer.extra_mb,
            "rel_err": self.ours.rel_err,
            "fraction_of_ceiling": self.fraction,
            "peer_rel_err": peer.rel_err,
            "noise": self.ours.noise,
            "peer_noise": peer.noise,
            "wall_s": self.ours.wall_s,
            "peak_mb": self.ours.peak_mb,
            "sizes": self.case.at(self.size),
            "threads": self.case.threads,
            "trouble": self.ours.trouble,
            "peer_trouble": peer.trouble,
            "metrics": self.metrics,
            "targets": [str(target) for target in self.case.targets_at(self.size)],
            "missed": self.missed,
        }


def markdown(rows: Sequence[Row], suite: str) -> str:
    """The rows as a table."""
    unit = {"cpu": "CPU-s", "h200": "ms"}[suite]
    names = (
        f"case | sizes | {unit} | peer | peer {unit} | extra MB | peer MB | error | peer error | of ceiling | target"
    )
    lines = [f"| {names} |", "|---" * 11 + "|"]
    for row in rows:
        peer = row.peer or Side()
        verdict = "; ".join(row.missed) and f"MISSED {'; '.join(row.missed)}"
        stated = ", ".join(str(target) for target in row.case.targets_at(row.size))
        cells = [
            row.case.name,
            " ".join(f"{name}={value}" for name, value in row.case.at(row.size).items()),
            row.ours.trouble or _shown(row.ours.time),
            row.case.peer or "–",
            peer.trouble or _shown(peer.time),
            *(_shown(value) for value in (row.ours.extra_mb, peer.extra_mb, row.ours.rel_err, peer.rel_err)),
            _shown(row.fraction),
            verdict or stated,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_json(path: Path, suite: str, conditions: dict[str, Any], rows: Sequence[Row]) -> None:
    """Conditions and rows, one row a line."""
    shown = ",\n".join("    " + json.dumps(row.to_json(suite)) for row in rows)
    head = json.dumps(conditions, indent=2).replace("\n", "\n  ")
    path.write_text(f'{{\n  "suite": "{suite}",\n  "conditions": {head},\n  "rows": [\n{shown}\n  ]\n}}\n')


def _ratio(peer: float | None, ours: float | None) -> float | None:
    return peer / ours if peer is not None and ours else None


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
