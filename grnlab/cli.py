"""The command line: ``grnlab demo``, ``infer``, ``models``, ``pretrain``, ``benchmark``."""

import argparse
import difflib
import io
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grnlab.attention import AttentionMaps
    from grnlab.genes import GeneVocab

from grnlab._arguments import at_least_one, gene_number, positive, whole_number
from grnlab._cli_benchmark import add_benchmark
from grnlab._cli_compare import add_compare
from grnlab._version import __version__

logger = logging.getLogger(__name__)

_HELP = """
Examples
--------
  grnlab demo --out demo
  grnlab infer blood.h5ad --groupby cell_type --out networks
  grnlab infer --help
"""
_DEMO_HELP = """
Examples
--------
  grnlab demo
  grnlab demo --out blood_networks --seed 1

Needs no data and no network access. Afterwards open network.html in the folder written.
"""
_MODELS_HELP = """
Examples
--------
  grnlab models
  grnlab models --card grnlab-small

The card says what a model was trained on, and what it is and is not good for.
"""
_INFER_HELP = """
Examples
--------
  grnlab infer blood.h5ad --groupby cell_type --out networks
  grnlab infer blood.h5ad --groupby cell_type --out networks --genes 4000 --top-k 20
  grnlab infer blood.h5ad --out one_network --regulators all

DATA.h5ad must hold raw counts in X (or --layer). Genes are matched by name: symbols, Ensembl ids or aliases.
OUT is made new: page (network.html), networks (networks.grns), tables, enrichment and summary.md. Nothing is written
under its name before all of it is there, and an existing folder is kept unless you say --overwrite.
"""
_PRETRAIN_HELP = """
Examples
--------
  grnlab pretrain laptop --data cells --out my_model
  grnlab pretrain scprint-small --data cells --out my_model --dry-run
  grnlab pretrain recipe.yaml --data cells --out my_model --max-minutes 120
  grnlab pretrain recipe.yaml --data cells --out my_model --resume
  torchrun --nproc-per-node 4 -m grnlab pretrain recipe.yaml --data cells --out my_model   (devices: 4 in the recipe)

--data is a folder of h5ad files or zarr stores of raw counts. A run can be stopped at any time (Ctrl-C) and goes on
with --resume; OUT.run holds its states and logs, OUT the finished model, which infer --model OUT takes.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status (0 well, 2 bad input)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign must not fail a finished run
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    try:
        options.run(options)
    except (ValueError, OSError, ImportError, KeyError) as error:
        print(f"grnlab: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"grnlab: {str(stopped) or 'interrupted; nothing was written under the final name.'}", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="grnlab",
        description="Gene networks from the attention of single-cell transformers.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"grnlab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="networks of 700 real blood cells, in about a minute",
        description="Infer networks of the 10 cell types of 700 blood cells that come with scanpy.",
        epilog=_DEMO_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--out", type=Path, default=Path("grnlab_demo"), help="folder to write (default: %(default)s)")
    demo.set_defaults(run=_demo)

    infer = commands.add_parser(
        "infer",
        help="networks of your own cells",
        description="Infer one gene network per group of cells from an h5ad file of counts.",
        epilog=_INFER_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    infer.add_argument("data", type=Path, metavar="DATA.h5ad", help="cells × genes, raw counts")
    infer.add_argument("--groupby", help="column of obs with the cell types; without it all cells are one group")
    infer.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    infer.add_argument("--model", default="grnlab-small", help="built-in name or checkpoint folder (%(default)s)")
    infer.add_argument("--layer", help="layer that holds the counts (default: X)")
    infer.add_argument(
        "--genes", type=gene_number, default=2000, help="how many genes to show the model, or 'all' (%(default)s)"
    )
    infer.add_argument(
        "--context",
        choices=("shared", "expressed"),
        default="expressed",
        help="show every cell the genes it expresses, or all of them, zeros included (%(default)s)",
    )
    infer.add_argument("--min-cells", type=at_least_one, default=5, help="smallest group (%(default)s)")
    infer.add_argument("--skip-small", action="store_true", help="leave smaller groups out instead of stopping")
    infer.add_argument("--top-k", type=at_least_one, default=10, help="edges kept per gene (%(default)s)")
    infer.add_argument("--per", choices=("target", "regulator"), default="target", help="whose edges (%(default)s)")
    infer.add_argument(
        "--regulators", default="tf", help="'tf', 'all', or a text file with one gene per line (%(default)s)"
    )
    infer.add_argument("--directed", action="store_true", help="do not average a map with its transpose")
    infer.add_argument("--apc", action="store_true", help="average product correction")
    infer.add_argument("--gmt", type=Path, help="gene sets to test communities against (default: bundled sets)")
    infer.set_defaults(run=_infer)

    models = commands.add_parser(
        "models",
        help="list the built-in models, and the published ones that can be read",
        description="List the built-in models, and the published ones that can be read.",
        epilog=_MODELS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models.add_argument("--card", metavar="NAME", help="print the model card of one")
    models.set_defaults(run=_models)

    pretrain = commands.add_parser(
        "pretrain",
        help="train a model of your own",
        description="Train a backbone on a folder of cells, by a recipe: a built-in name or a YAML file.",
        epilog=_PRETRAIN_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    recipes = ", ".join(sorted(path.stem for path in (Path(__file__).parent / "training/recipes").glob("*.yaml")))
    pretrain.add_argument("recipe", metavar="RECIPE", help=f"YAML file, or one of {recipes}")
    pretrain.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the cells")
    pretrain.add_argument("--out", type=Path, metavar="DIR", help="model folder to write")
    pretrain.add_argument("--max-minutes", type=positive, help="end after so many minutes (default: the recipe's)")
    pretrain.add_argument("--max-steps", type=at_least_one, help="end after so many steps (default: the recipe's)")
    pretrain.add_argument("--seed", type=whole_number, help="of weights, sampling and corruption")
    pretrain.add_argument("--devices", type=at_least_one, help="processes, one per GPU")
    pretrain.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    pretrain.add_argument(
        "--dry-run", action="store_true", help="say what the run would read and need, and train nothing"
    )
    pretrain.set_defaults(run=_pretrain)
    benchmark, compare = add_benchmark(commands), add_compare(commands)
    for command in (demo, infer):
        command.add_argument("--seed", type=whole_number, default=0, help="of communities and layout (%(default)s)")
        command.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    for command in (demo, infer, models, pretrain, benchmark, compare):
        command.add_argument("-v", "--verbose", action="store_true", help="say what happens")
    return parser


def _demo(options: argparse.Namespace) -> None:
    import grnlab as gl
    from grnlab.report import check_out, residue_note, write_report

    check_out(options.out, overwrite=options.overwrite)
    started = time.monotonic()
    adata = gl.datasets.pbmc68k()
    maps = gl.tl.attention(adata, gl.load_model("grnlab-small"), groupby="cell_type")
    networks = gl.tl.infer_networks(maps)
    write_report(
        networks,
        options.out,
        title="700 blood cells (Zheng et al. 2017)",
        seed=options.seed,
        notes=("700 cells × 765 genes, as scanpy bundles them", residue_note(adata)),
        overwrite=options.overwrite,
    )
    _say_done(options.out, started)


def _infer(options: argparse.Namespace) -> None:
    import grnlab as gl
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
    adata = gl.io.read(options.data, layer=options.layer)
    maps = gl.tl.attention(
        adata,
        model,
        groupby=options.groupby,
        genes=options.genes,
        context=options.context,
        min_cells=options.min_cells,
        skip_small=options.skip_small,
    )
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
    _say_done(options.out, started)


def _models(options: argparse.Namespace) -> None:
    import json

    from grnlab.backbones import builtin_models
    from grnlab.backbones.published import LAYOUTS

    models = builtin_models()
    if options.card is not None:
        if options.card not in models:
            msg = f"no built-in model is called {options.card!r}; there are {', '.join(models)}."
            raise ValueError(msg)
        print((models[options.card] / "README.md").read_text(encoding="utf-8"))
        return
    for name, folder in models.items():
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config, made = described["config"], described["provenance"]
        size = (folder / "model.safetensors").stat().st_size / 1e6
        print(
            f"{name}: {described['architecture']}, {config['n_layers']} layers × {config['n_heads']} heads, "
            f"{size:.1f} MB, MIT, human; {made['cells_seen']:,} cells, {made['data']['n_cells_train']:,} different. "
            f"Card: grnlab models --card {name}"
        )
    print("\nPublished models, read from their publishers' files (--model PATH):")
    for layout in LAYOUTS:
        print(f"{layout.name}: {layout.files}; {layout.source}; weights: {layout.licence}")


def _pretrain(options: argparse.Namespace) -> None:
    from grnlab.training import dry_run, read_recipe, run_recipe

    recipe = read_recipe(
        options.recipe,
        max_minutes=options.max_minutes,
        max_steps=options.max_steps,
        seed=options.seed,
        devices=options.devices,
        accumulate=options.devices,
    )
    if options.dry_run:
        cells, needs = dry_run(recipe, options.data)
        print(f"{recipe.name}: {cells}\n{needs}")
        return
    if options.out is None:
        msg = "--out is missing; name the model folder to write, or ask for a --dry-run."
        raise ValueError(msg)
    started = time.monotonic()
    model = run_recipe(recipe, options.data, options.out, resume=options.resume)
    curve = model.provenance["loss_curve"]
    loss = f", validation loss {curve[-1]['val/loss']:.3f}" if curve and "val/loss" in curve[-1] else ""
    print(
        f"{recipe.name}: {model.provenance['steps']:,} steps, {model.provenance['cells_seen']:,} cells{loss}\n\n"
        f"Done in {time.monotonic() - started:.0f} s. "
        f"Use it with: grnlab infer CELLS.h5ad --model {options.out} --out DIR"
    )


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


def _say_done(out: Path, started: float) -> None:
    print((out / "summary.md").read_text(encoding="utf-8").split("## Files")[0].rstrip())
    print(f"\nDone in {time.monotonic() - started:.0f} s. Open {out / 'network.html'} in a browser.")


if __name__ == "__main__":
    sys.exit(main())
