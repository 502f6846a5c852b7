"""The command line: ``grnlab demo``, ``infer``, ``models``, ``pretrain``, ``benchmark``, ``compare-models``."""

import argparse
import io
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from grnlab._arguments import at_least_one, positive, whole_number
from grnlab._cli_benchmark import add_benchmark
from grnlab._cli_compare import add_compare
from grnlab._cli_infer import add_infer, say_done
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
    parser = _parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(arguments)
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

    infer = add_infer(commands)
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
    say_done(options.out, started)


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


if __name__ == "__main__":
    sys.exit(main())
