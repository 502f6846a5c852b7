"""The command ``grnlab infer``."""

import argparse
import difflib
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grnlab._arguments import at_least_one, gene_number

if TYPE_CHECKING:
    from grnlab.attention import AttentionMaps
    from grnlab.genes import GeneVocab

logger = logging.getLogger(__name__)
_SETTINGS = ("groupby", "genes", "layer", "context", "min_cells", "skip_small")

_INFER_HELP = """
Examples
--------
  grnlab infer blood.h5ad --groupby cell_type --out networks
  grnlab infer blood.h5ad --groupby cell_type --out networks --genes 4000 --top-k 20
  grnlab infer blood.h5ad --out one_network --regulators all
  grnlab infer atlas.zarr --groupby cell_type --out networks --dry-run
  torchrun --nproc-per-node 2 -m grnlab infer atlas.zarr --groupby cell_type --out networks

DATA must hold raw counts in X (or --layer). Genes are matched by name: symbols, Ensembl ids or aliases. Cells are read
from disk a chunk at a time, so that memory does not grow with their number. Of a run that was stopped, OUT.state holds
the sums so far: the same command goes on from there.
OUT is made new: page (network.html), networks (networks.grns), tables, enrichment and summary.md. Nothing is written
under its name before all of it is there, and an existing folder is kept unless you say --overwrite.
"""


def add_infer(commands: Any) -> argparse.ArgumentParser:
    """Add the command to the parser of ``grnlab``."""
    infer: argparse.ArgumentParser = commands.add_parser(
        "infer",
        help="networks of your own cells",
        description="Infer one gene network per group of cells from an h5ad file or zarr store of counts.",
        epilog=_INFER_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    infer.add_argument("data", type=Path, metavar="DATA", help="h5ad file or zarr store: cells × genes, raw counts")
    infer.add_argument("--groupby", help="column of obs with the cell types; without it all cells are one group")
    infer.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    infer.add_argument(
        "--model", default="grnlab-small", help="built-in name, checkpoint, or hf:// address (%(default)s)"
    )
    infer.add_argument("--layer", help="layer that holds the counts (default: X)")
    infer.add_argument(
        "--genes", type=gene_number, default=2000, help="how many genes to show the model, or 'all' (%(default)s)"
    )
    infer.add_argument(
        "--context",
        choices=("expressed", "shared"),
        default="expressed",
        help="show a cell the genes it expresses, or the same genes as every cell, zeros included (%(default)s)",
    )
    infer.add_argument("--min-cells", type=at_least_one, default=5, help="smallest group (%(default)s)")
    infer.add_argument("--skip-small", action="store_true", help="leave smaller groups out instead of stopping")
    infer.add_argument("--top-k", type=at_least_one, default=10, help="strongest edges kept per gene (%(default)s)")
    infer.add_argument("--per", choices=("target", "regulator"), default="target", help="of which genes (%(default)s)")
    infer.add_argument(
        "--regulators", default="tf", help="'tf', 'all', or a text file with one gene per line (%(default)s)"
    )
    infer.add_argument(
        "--directed",
        action="store_true",
        help="keep the model's own direction: do not average a map with its transpose",
    )
    infer.add_argument(
        "--apc", action="store_true", help="average product correction: take off what either gene has with all others"
    )
    infer.add_argument("--gmt", type=Path, help="gene sets to test communities against (default: bundled sets)")
    infer.add_argument("--dry-run", action="store_true", help="say how long it takes and how much memory, and stop")
    infer.set_defaults(run=_infer)
    return infer


def _infer(options: argparse.Namespace) -> None:
    import grnlab as gl
    from grnlab.attention.ranks import first_of_processes
    from grnlab.report import check_out, write_report

    check_out(options.out, overwrite=options.overwrite)
    if options.gmt is not None:
        from grnlab.network import read_gmt

        read_gmt(options.gmt)  # a malformed file is told now, not after the work
    started = time.monotonic()
    model = gl.load_model(options.model)
    regulators = options.regulators
    if regulators not in ("tf", "all"):
        regulators = _read_regulators(Path(regulators), model.vocab)
    settings = {name: getattr(options, name) for name in _SETTINGS}
    if options.dry_run:
        print(gl.tl.estimate_attention(options.data, model, **settings))
        return
    state = options.out.with_name(f"{options.out.name}.state")
    try:
        maps = gl.tl.attention(options.data, model, state=state, **settings)
    except KeyboardInterrupt:
        if not state.exists():
            raise
        msg = f"interrupted; {state} holds the sums so far, and the same command goes on from there."
        raise KeyboardInterrupt(msg) from None
    if not first_of_processes():
        return
    if not isinstance(regulators, str):
        regulators = _shown(regulators, maps)
    networks = gl.tl.infer_networks(
        maps,
        top_k=options.top_k,
        per=options.per,
        regulators=regulators,
        symmetrize=not options.directed,
        apc=options.apc,
    )
    notes = (f"data: {options.data.name}", f"model: {model.name}, weights {model.weights_hash[:12]}")
    write_report(
        networks,
        options.out,
        gene_sets=options.gmt,
        title=options.data.stem,
        seed=options.seed,
        notes=notes,
        overwrite=options.overwrite,
    )
    shutil.rmtree(state, ignore_errors=True)
    say_done(options.out, started)


def _read_regulators(path: Path, vocab: "GeneVocab") -> list[str]:
    """Symbols of the genes named in a file, checked before the work starts."""
    if not path.is_file():
        msg = (
            f"--regulators is {str(path)!r}, which is no file; give 'tf', 'all', or a text file with one gene per line."
        )
        raise ValueError(msg)
    try:
        names = path.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError as error:
        msg = f"--regulators {path} is not a text file ({error}); give one gene per line."
        raise ValueError(msg) from error
    if not names:
        msg = f"--regulators {path} holds no gene; give one per line."
        raise ValueError(msg)
    unknown = [name for name in names if vocab.token(name) is None]
    if unknown:
        near = difflib.get_close_matches(unknown[0], vocab.by_symbol, n=3)
        msg = (
            f"--regulators {path}: {len(unknown)} of {len(names)} genes are unknown to the model, the first is "
            f"{unknown[0]!r} (nearest names: {', '.join(near) or 'none'}). Correct them or take them out."
        )
        raise ValueError(msg)
    return sorted({str(vocab.symbols[vocab.token(name)]) for name in names})


def _shown(regulators: list[str], maps: "AttentionMaps") -> list[str]:
    shown = [name for name in regulators if name in maps.genes.index]
    if not shown:
        msg = (
            f"--regulators: none of the {len(regulators)} genes is among the {len(maps.genes):,} shown to the model; "
            "show more with --genes."
        )
        raise ValueError(msg)
    if len(shown) < len(regulators):
        logger.warning(
            "%d of %d --regulators are not among the genes shown", len(regulators) - len(shown), len(regulators)
        )
    return shown


def say_done(out: Path, started: float) -> None:
    """Print the summary of a report and where to look."""
    print((out / "summary.md").read_text(encoding="utf-8").split("## Files")[0].rstrip())
    print(f"\nDone in {time.monotonic() - started:.0f} s. Open {out / 'network.html'} in a browser.")
