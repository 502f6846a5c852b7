"""The command ``grnlab benchmark``."""

import argparse
import time
from pathlib import Path
from typing import Any

from grnlab._arguments import at_least_one, gene_number, whole_number

_BENCHMARK_HELP = """
Examples
--------
  grnlab benchmark --data DIR --out results --quick
  grnlab benchmark --data DIR --out results
  grnlab benchmark --data DIR --out results --datasets pbmc3k hesc_liu --methods all
  grnlab benchmark --out mine --h5ad cells.h5ad --groupby cell_type --gold edges.tsv --methods attention pearson
  grnlab benchmark --list

Every method scores the same pairs of the same genes. OUT holds cases.csv, summary.csv, report.md and figures; what it
holds already is not computed again, so that a stopped run goes on, and other methods or data sets are added to it.
"""


def add_benchmark(commands: Any) -> argparse.ArgumentParser:
    """Add the command to the parser of ``grnlab``."""
    benchmark: argparse.ArgumentParser = commands.add_parser(
        "benchmark",
        help="judge methods on data sets with known edges",
        description="Score methods on cells by gold standards: one table, with controls and what everything costs.",
        epilog=_BENCHMARK_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmark.add_argument("--data", type=Path, metavar="DIR", help="folder with the data sets and gold standards")
    benchmark.add_argument("--out", type=Path, metavar="DIR", help="folder to write, or of a run to go on with")
    benchmark.add_argument("--quick", action="store_true", help="two cell types, two gold standards, fast methods")
    benchmark.add_argument("--datasets", nargs="+", default=(), metavar="NAME", help="default: all, see --list")
    benchmark.add_argument("--golds", nargs="+", default=(), metavar="NAME", help="gold standards (default: all)")
    benchmark.add_argument(
        "--methods", nargs="+", default=(), metavar="NAME", help="default: the fast ones, see --list; 'all' for all"
    )
    benchmark.add_argument("--model", default="grnlab-small", help="built-in name or checkpoint folder (%(default)s)")
    benchmark.add_argument("--genes", type=gene_number, help="genes chosen per data set (default: 2000, quick: 1000)")
    benchmark.add_argument("--h5ad", type=Path, metavar="FILE", help="cells of your own, raw counts, as a further case")
    benchmark.add_argument("--groupby", metavar="COLUMN", help="column of obs with the cell types of --h5ad")
    benchmark.add_argument(
        "--gold", type=Path, nargs="+", default=(), metavar="FILE", help="edge tables that judge --h5ad"
    )
    benchmark.add_argument("--min-cells", type=at_least_one, default=100, help="smallest group (%(default)s)")
    benchmark.add_argument("--seed", type=whole_number, default=0, help="of what is random (%(default)s)")
    benchmark.add_argument("--list", action="store_true", help="list data sets and methods, and do nothing")
    benchmark.set_defaults(run=_benchmark)
    return benchmark


def _benchmark(options: argparse.Namespace) -> None:
    from dataclasses import replace

    import grnlab as gl
    from grnlab import benchmark

    if options.list:
        for name, dataset in benchmark.DATASETS.items():
            print(f"{name:26} data set, judged by {', '.join(dataset.golds)}")
        for name, method in benchmark.METHODS.items():
            print(f"{name:26} {method.kind}{', slow' if method.slow else ''}: {method.about}")
        return
    if options.out is None or (options.data is None and options.h5ad is None):
        msg = "--out is needed, and --data or --h5ad; see grnlab benchmark --help."
        raise ValueError(msg)
    settings = {"min_cells": options.min_cells, "seed": options.seed}
    if options.genes is not None:
        settings["n_genes"] = options.genes
    config = benchmark.choose(options.datasets, options.methods, golds=options.golds, quick=options.quick, **settings)
    if options.h5ad is None and (options.gold or options.groupby):
        msg = "--gold and --groupby describe --h5ad, which is missing."
        raise ValueError(msg)
    if options.h5ad is not None:
        own, golds = benchmark.outside(options.h5ad, options.gold, groupby=options.groupby)
        others = config.datasets if options.datasets or options.quick else ()
        config = replace(config, datasets=(*others, own), golds={**config.golds, **golds})
    if options.data is None and config.datasets[:-1]:
        msg = "--datasets and --quick need --data, the folder the data sets are in."
        raise ValueError(msg)
    started = time.monotonic()
    table = benchmark.run_benchmark(options.out, gl.load_model(options.model), config, data=options.data)
    summary = benchmark.summarise(table)
    print(summary.to_string(index=False, float_format="{:.3g}".format))
    failed = table.loc[table["error"] != "", "method"].nunique()
    print(f"\nDone in {time.monotonic() - started:.0f} s. {len(table):,} rows", end="")
    print(f", {failed} methods without a score somewhere (report.md says why)." if failed else ".", end=" ")
    print(f"Read {options.out / 'report.md'}.")
