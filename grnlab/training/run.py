"""Carry out a recipe on a folder of cells."""

from pathlib import Path
from typing import Any

from grnlab.backbones.registry import build_model
from grnlab.training.estimate import Estimate, estimate
from grnlab.training.pretrain import check_folders, pretrain
from grnlab.training.recipe import Recipe


def run_recipe(
    recipe: Recipe, data: str | Path, out: str | Path, *, resume: bool = False, progress: bool = True
) -> Any:
    """Train the model of a recipe.

    Parameters
    ----------
    recipe
        See :func:`grnlab.training.read_recipe`.
    data
        Folder of the cells.
    out
        Checkpoint folder to write; ``<out>.run/`` beside it holds states, logs, and the scans of the files.
    resume, progress
        As in :func:`grnlab.training.pretrain`.

    Returns
    -------
    The trained model.

    Raises
    ------
    ValueError, FileExistsError, FileNotFoundError
        When the recipe does not fit the data, or the folders are not as they should be.
    """
    out, data = Path(out), Path(data)
    run = out.with_name(f"{out.name}.run")
    check_folders(out, run, resume=resume)  # before minutes of scanning, which makes the folder of the run
    vocab = recipe.vocab()
    cells = recipe.cells(data, vocab, cache=run / "scans")
    return pretrain(
        vocab,
        cells,
        model=recipe.model_config(cells, data),
        config=recipe.training,
        name=recipe.name,
        out=out,
        resume=resume,
        split=cells.split(recipe.training.val_fraction, seed=recipe.training.seed, held_out=recipe.data.held_out),
        progress=progress,
    )


def dry_run(recipe: Recipe, data: str | Path) -> tuple[str, Estimate]:
    """Say what a run would read and need, and train nothing.

    Returns
    -------
    Description of the cells, and the estimate.
    """
    data = Path(data)
    vocab = recipe.vocab()
    cells = recipe.cells(data, vocab)
    config = recipe.model_config(cells, data)
    classes = [f"{name} ({len(values)} labels)" for name, values in cells.label_values.items() if len(values) > 1]
    text = (
        f"{len(cells):,} cells of {len(cells.names)} files, {len(vocab):,} genes in the vocabulary; labels: "
        f"{', '.join(classes) or 'none'}"
    )
    return text, estimate(build_model(vocab, config, name=recipe.name), recipe.training)
