"""The table as files: cases.csv, summary.csv, report.md and figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from grnlab._files import atomic_file
from grnlab._provenance import versions
from grnlab.benchmark.datasets import ALL_CELLS
from grnlab.benchmark.figures import kinds_of, plot_cases, plot_summary
from grnlab.benchmark.hubs import hub_table
from grnlab.benchmark.methods import METHODS
from grnlab.benchmark.summary import CASE, compare, summarise

_DEFINITIONS = """
- **Candidates** of a gold standard: its regulators × its targets among the genes every method saw (one list per data
  set; per group those at least 2 % and five of its cells express), a gene with itself left out. Genes the model does
  not know are left out for every method. Size and base rate stand beside each case below.
- **AUPRC ratio**: average precision, ties averaged, over the base rate. **EPR**: precision among the top K, K the
  number of true edges, over the base rate; `epr_odds` in cases.csv is the odds ratio some benchmarks call EPR. Chance
  is 1.
- **Per-TF AUROC**: mean over regulators with five true targets or more; popularity of regulators cannot raise it.
- **Direction**: source = regulator. A symmetric score has its direction from the gold standard's list of regulators
  alone; `auprc_ratio_reversed` in cases.csv is the same ranking read from target to regulator, where it is known.
- **Intervals**: 95 %, data sets drawn with replacement, then cases within. **Rank**: by AUPRC ratio within a case.
- **CPU**: seconds of the process per group of cells, whatever a method needs included, fitting of heads on other cells
  excluded; for `popularity`, `supervised` and `knowledge` per gold standard. `peak_mb` is the peak of the whole
  process.
- `popularity` methods learn from other regulators (`degree_only`: other pairs) of the judging gold standard itself, and
  `knowledge` methods use other gold standards: no edge of a regulator they score in the judge, but not the cells alone.
"""

_DEFAULT = "attention"  # the read-out of infer_networks
_HUBS = """
A hub is a gene that many genes have among their ten strongest partners. AUROC: chance that a transcription factor, or a
marker of the group's own cell type (PanglaoDB), is more of a hub than another gene. Enriched: share of groups with a
false discovery rate below 5 %; first: no other cell type's markers are more enriched. ENCODE factors: share of factors
whose bound genes rank high among their targets. Rank tests throughout.
"""


def write_report(cases: pd.DataFrame, out: Path, settings: Mapping[str, Any], hubs: pd.DataFrame) -> None:
    """Write cases.csv, summary.csv, hubs.csv, report.md, summary.png and cases.png.

    Parameters
    ----------
    cases
        A row per data set, group, gold standard and method.
    out
        Folder, which must exist; files of these names are replaced.
    settings
        Said in the report.
    hubs
        A row per group of blood cells and method, see :func:`grnlab.benchmark.hubs.hub_rows`; may be empty.
    """
    summary = summarise(cases)
    tables = {"cases.csv": cases, "summary.csv": summary} | ({"hubs.csv": hubs} if len(hubs) else {})
    for name, table in tables.items():
        with atomic_file(out / name, overwrite=True) as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")
    with atomic_file(out / "report.md", overwrite=True) as temporary:
        temporary.write_text(_markdown(cases, settings, hubs), encoding="utf-8")
    if summary.empty:
        return
    for name, draw in (("summary.png", plot_summary), ("cases.png", plot_cases)):
        with atomic_file(out / name, overwrite=True) as temporary:
            figure = draw(cases)
            figure.savefig(temporary, dpi=150, format="png", bbox_inches="tight")


def _markdown(cases: pd.DataFrame, settings: Mapping[str, Any], hubs: pd.DataFrame) -> str:
    named = {key: value for key, value in settings.items() if key != "datasets"}
    lines = ["# Benchmark of networks", "", _DEFINITIONS.strip(), ""]
    lines += [", ".join(f"{key} {value}" for key, value in (named | versions()).items()), ""]
    pooled, adapted = cases["group"] == ALL_CELLS, cases["adapted"]
    grouped = cases["dataset"].isin(cases.loc[~pooled, "dataset"])  # data sets that have groups
    levels = {
        "All cases": pooled | True,
        "Groups of cells": ~pooled & ~adapted,
        "All cells of a data set that has groups": pooled & grouped & ~adapted,
        "Data sets of one group": pooled & ~grouped & ~adapted,
        "Adapted models (simulated cells)": adapted,
    }
    for title, rows in levels.items():
        part = cases[rows]
        if len(part) and part["auprc_ratio"].notna().any() and (title == "All cases" or rows.sum() < len(cases)):
            lines += [f"## {title}", "", *_summary_table(summarise(part)), ""]
    if {_DEFAULT} < set(cases.loc[cases["auprc_ratio"].notna(), "method"]):
        lines += [f"## Difference from `{_DEFAULT}` on the same cases", "", *_compare_table(cases), ""]
    if len(hubs):
        lines += ["## Hubs of blood cells", "", _HUBS.strip(), "", *_table(hub_table(hubs).round(3)), ""]
    lines += ["## Each data set and gold standard", "", *_pairs_table(cases), ""]
    lines += ["## Cases and their candidates", "", *_universe_table(cases), ""]
    failed = cases[cases["error"] != ""].drop_duplicates(["method", "dataset", "error"])
    if len(failed):
        lines += ["## What has no score", "", *_table(failed[["method", "dataset", "group", "error"]]), ""]
    lines += ["## Methods", ""]
    about = {name: f": {METHODS[name].about}" for name in METHODS}
    lines += [f"- `{name}` ({kind}){about.get(name, '')}" for name, kind in kinds_of(cases).items()]
    return "\n".join(lines) + "\n"


def _summary_table(summary: pd.DataFrame) -> list[str]:
    shown = pd.DataFrame({"method": summary["method"], "cases": summary["n_cases"]})
    for name, title in (("auprc_ratio", "AUPRC ratio"), ("epr", "EPR")):
        shown[title] = [
            f"{row[name]:.2f} ({row[f'{name}_lo']:.2f}–{row[f'{name}_hi']:.2f})" for _, row in summary.iterrows()
        ]
    for name, title in (("auroc", "AUROC"), ("per_tf_auroc", "per-TF AUROC")):
        shown[title] = summary[name].map("{:.3f}".format)
    for name, title in (("mean_rank", "mean rank"), ("cpu_s", "CPU s")):
        shown[title] = summary[name].map("{:.1f}".format)
    return _table(shown)


def _compare_table(cases: pd.DataFrame) -> list[str]:
    table = compare(cases, _DEFAULT)
    shown = pd.DataFrame({"method": table["method"], "cases": table["n_cases"]})
    shown["better in"] = table["better"].map("{:.0%}".format)
    for name, title in (("auprc_ratio_gain", "AUPRC ratio"), ("epr_gain", "EPR")):
        shown[title] = [
            f"{row[name]:+.2f} ({row[f'{name}_lo']:+.2f} to {row[f'{name}_hi']:+.2f})" for _, row in table.iterrows()
        ]
    return _table(shown)


def _pairs_table(cases: pd.DataFrame) -> list[str]:
    scored = cases[cases["auprc_ratio"].notna()]
    keys = ["dataset", "gold", "method"]
    means = scored.groupby(keys, sort=False)[["auprc_ratio", "epr", "auroc", "per_tf_auroc"]].mean().reset_index()
    once = scored.drop_duplicates(CASE).groupby(["dataset", "gold"], sort=False)
    sizes = once.agg(groups=("group", "size"), candidates=("n_candidates", "mean"), base_rate=("base_rate", "mean"))
    means = means.merge(sizes.reset_index(), on=["dataset", "gold"])
    means = means.sort_values(["dataset", "gold", "auprc_ratio"], ascending=[True, True, False], kind="stable")
    for name, form in {"auprc_ratio": "{:.2f}", "epr": "{:.2f}", "auroc": "{:.3f}", "per_tf_auroc": "{:.3f}",
                       "candidates": "{:,.0f}", "base_rate": "{:.4f}"}.items():  # fmt: skip
        means[name] = means[name].map(form.format)
    return _table(means)


def _universe_table(cases: pd.DataFrame) -> list[str]:
    names = ["n_cells", "n_genes", "n_regulators", "n_targets", "n_candidates", "n_true", "base_rate"]
    once = cases.drop_duplicates(CASE)[[*CASE, *names]].copy()
    for name in names[:-1]:
        once[name] = once[name].map("{:,}".format)
    once["base_rate"] = once["base_rate"].map("{:.4f}".format)
    return _table(once)


def _table(frame: pd.DataFrame) -> list[str]:
    rows = [[str(value).replace("|", "\\|").replace("\n", " ") for value in row] for row in frame.to_numpy()]
    head = list(frame.columns)
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
