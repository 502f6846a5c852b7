"""The command ``grnlab compare-models``."""

import argparse
import time
from pathlib import Path
from typing import Any

from grnlab._arguments import at_least_one, gene_number

_COMPARE_HELP = """
Examples
--------
  grnlab compare-models blood.h5ad --models grnlab-small scGPT_human --groupby cell_type --out compared
  grnlab compare-models blood.h5ad --models grnlab-small medium-v1.ckpt Geneformer-V1-10M --out compared

A model is a built-in name, a folder of grnlab, a publisher's files, or hf://owner/repository/path. The genes compared
are those that all models know. OUT holds pairs.tsv, the networks of each model, their consensus and its page.
"""


def add_compare(commands: Any) -> argparse.ArgumentParser:
    """Add the command to the parser of ``grnlab``."""
    compare: argparse.ArgumentParser = commands.add_parser(
        "compare-models",
        help="networks of the same cells by several models",
        description="Infer networks of the same cells by several models: overlap, rank correlation, consensus.",
        epilog=_COMPARE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("data", type=Path, metavar="DATA.h5ad", help="cells × genes, raw counts")
    compare.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="two or more")
    compare.add_argument("--groupby", help="column of obs with the cell types; without it all cells are one group")
    compare.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    compare.add_argument("--layer", help="layer that holds the counts (default: X)")
    compare.add_argument("--genes", type=gene_number, default=2000, help="how many genes, or 'all' (%(default)s)")
    compare.add_argument("--min-cells", type=at_least_one, default=5, help="smallest group (%(default)s)")
    compare.add_argument("--skip-small", action="store_true", help="leave smaller groups out instead of stopping")
    compare.add_argument("--top-k", type=at_least_one, default=10, help="edges kept per target (%(default)s)")
    compare.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    compare.set_defaults(run=_compare)
    return compare


def _compare(options: argparse.Namespace) -> None:
    import grnlab as gl
    from grnlab.compare_models import compare_models

    if options.out.exists() and not options.overwrite:
        msg = f"{options.out} exists already and is left as it is. Choose another --out, or say --overwrite."
        raise FileExistsError(msg)
    started = time.monotonic()
    models: dict[str, Any] = {}
    for name in options.models:
        model = gl.load_model(name)
        known = model.name if model.name not in models else f"{model.name} ({len(models) + 1})"
        models[known] = model
    found = compare_models(
        gl.io.read(options.data, layer=options.layer),
        models,
        groupby=options.groupby,
        genes=options.genes,
        min_cells=options.min_cells,
        skip_small=options.skip_small,
        top_k=options.top_k,
    )
    found.write(options.out, overwrite=options.overwrite)
    print(found.pairs.to_string(index=False, float_format="%.3f"))
    print(f"\nDone in {time.monotonic() - started:.0f} s. Open {options.out / 'network.html'} in a browser.")
