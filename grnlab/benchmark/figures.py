"""The table as figures: every method with its intervals, and every method on every data set."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from grnlab.benchmark.summary import summarise

_COLOURS = {
    "control": "#8c8c8c",
    "popularity": "#b8860b",
    "expression": "#2a6f97",
    "model": "#c1121f",
    "supervised": "#6a4c93",
    "knowledge": "#3a7d44",
}


def kinds_of(cases: pd.DataFrame) -> dict[str, str]:
    """Method → its kind."""
    return dict(zip(cases["method"], cases["kind"], strict=True))


def plot_summary(cases: pd.DataFrame) -> Any:
    """Dots with intervals: AUPRC ratio and EPR of every method; a matplotlib Figure.

    Parameters
    ----------
    cases
        As :func:`run_benchmark` returns them.
    """
    from matplotlib.figure import Figure

    kind = kinds_of(cases)
    summary = summarise(cases)[::-1].reset_index(drop=True)
    figure = Figure(figsize=(9, 1.2 + 0.28 * len(summary)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    colours = [_COLOURS[kind[name]] for name in summary["method"]]
    for ax, name, label in zip(axes, ("auprc_ratio", "epr"), ("AUPRC / base rate", "EPR"), strict=True):
        ax.axvline(1, color="#bbbbbb", linewidth=1, zorder=0)
        ax.hlines(summary.index, summary[f"{name}_lo"], summary[f"{name}_hi"], color=colours, linewidth=1.6)
        ax.scatter(summary[name], summary.index, color=colours, s=24, zorder=2)
        _cut_axis(ax, summary, name, kind)
        ax.set_xlabel(f"{label} (chance 1)")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(left=False)
    most = summary["n_cases"].max()
    labels = [
        name if n == most else f"{name} ({n} cases)"
        for name, n in zip(summary["method"], summary["n_cases"], strict=True)
    ]
    axes[0].set_yticks(summary.index, labels)
    kinds = dict.fromkeys(kind[name] for name in summary["method"][::-1])
    handles = [axes[0].scatter([], [], color=_COLOURS[one], s=24, label=one) for one in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), frameon=False)
    n_datasets = cases["dataset"].nunique()
    figure.suptitle(f"{most} cases, data sets: {n_datasets}; 95 % intervals over data sets and cases", fontsize=11)
    return figure


def _cut_axis(ax: Any, summary: pd.DataFrame, name: str, kind: Mapping[str, str]) -> None:
    """End the axis where methods end; popularity beyond it is written as a number."""
    methods = summary["method"].map(kind) != "popularity"
    if not methods.any():
        return
    end = 1.1 * max(1.0, float(summary.loc[methods, f"{name}_hi"].max()))
    ax.set_xlim(min(0.9, 0.95 * float(summary[f"{name}_lo"].min())), end)
    for place, row in summary[summary[name] > end].iterrows():
        ax.text(end, place, f"{row[name]:.1f} →", ha="right", va="center", fontsize=8, backgroundcolor="white")


def plot_cases(cases: pd.DataFrame) -> Any:
    """Mean AUPRC ratio of every method (rows) per data set and gold standard (columns); a matplotlib Figure.

    Parameters
    ----------
    cases
        As :func:`run_benchmark` returns them.
    """
    import numpy as np
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure

    scored = cases[cases["auprc_ratio"].notna()]
    wide = scored.pivot_table("auprc_ratio", "method", ["dataset", "gold"], "mean", sort=False)
    wide = wide.loc[summarise(cases)["method"]]
    log = np.log2(wide.to_numpy().clip(min=0.25))
    span = max(1.0, float(np.nanquantile(np.abs(log), 0.98)))
    figure = Figure(figsize=(2.8 + 0.5 * wide.shape[1], 1.8 + 0.26 * len(wide)), layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor("#eeeeee")
    ax.imshow(log, cmap="RdBu_r", norm=TwoSlopeNorm(0, -span, span), aspect="auto")
    for (row, column), value in np.ndenumerate(wide.to_numpy()):
        if not np.isnan(value):
            bright = abs(log[row, column]) > 0.65 * span
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color="w" if bright else "k")
    ax.set_xticks(
        range(wide.shape[1]), [f"{a}: {b}" if a != b else a for a, b in wide.columns], rotation=60, ha="right"
    )
    ax.set_yticks(range(len(wide)), wide.index)
    ax.tick_params(length=0, labelsize=7)
    ax.set_title("AUPRC / base rate, mean over groups of cells", fontsize=9)
    return figure
