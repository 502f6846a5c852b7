"""Readers of models and of what tasks keep, with a small sound file for each; see :mod:`fuzzing`."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fuzzing import Reader

import grnlab as gl
from grnlab.heads.translator import COLUMNS, Translator
from grnlab.tasks._head import Head
from grnlab.tasks._stream import Results
from grnlab.tasks._targets import Target
from grnlab.tasks.fine_tuned import FineTuned
from grnlab.tasks.known import KnownCells

FIXTURES = Path(__file__).parents[1] / "tests/backbones/published/fixtures"  # of the publishers' own code


def _geneformer(folder: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "geneformer_v2", folder / "geneformer"))


def _geneformer_pickles(folder: Path) -> Path:
    place = _geneformer(folder)
    for name in ("token_dictionary", "gene_median_dictionary"):
        content = json.loads((place / f"{name}.json").read_text())
        (place / f"{name}.json").unlink()
        (place / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol=4))
    return place


def _scgpt(folder: Path) -> Path:
    from safetensors.torch import load_file

    place = Path(shutil.copytree(FIXTURES / "scgpt", folder / "scgpt"))
    torch.save(load_file(place / "best_model.safetensors"), place / "best_model.pt")
    return place


def _scprint(folder: Path) -> Path:
    from safetensors.torch import load_file

    content = json.loads((FIXTURES / "scprint_v1/rest.json").read_text())
    content["state_dict"] = load_file(FIXTURES / "scprint_v1/state_dict.safetensors")
    torch.save(content, folder / "scprint.ckpt")
    return folder / "scprint.ckpt"


def fine_tuned() -> FineTuned:
    """Model with a head, as fine-tuning makes it."""
    from fuzz_readers import model

    torch.manual_seed(0)
    history = pd.DataFrame({"epoch": [1], "train_loss": [0.5], "val_loss": [0.5]})
    target = Target("kind", ("high", "low"))
    return FineTuned(
        model(), Head(8, 2, hidden=4), target, tokens=np.arange(5), history=history, provenance={"seed": 0}
    )


def known() -> KnownCells:
    """Calibration of two labels."""
    rng, labels = np.random.default_rng(0), np.repeat(["B", "T"], 30)
    return gl.tasks.fit_known(rng.normal(size=(60, 3)) + 5 * (labels == "B")[:, None], labels, class_name="cell_type")


def translator() -> Translator:
    """Weights of two heads."""
    held_out = pd.DataFrame([["group", 0, "a", "B", 10, 2, *[0.5] * (len(COLUMNS) - 6)]], columns=COLUMNS)
    return Translator(("one", "two"), np.array([0.5, -1.0]), 0.25, held_out, {"seed": 0})


def _saved(make: Callable[[], Any], name: str) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        make().save(folder / name)
        return folder / name

    return save


def _results(folder: Path) -> Path:
    place = folder / "results"
    _go_on(place)
    return place


def _go_on(path: Path) -> Any:
    results = Results(4, out=path, identity={"cells": "x"})
    if 0 not in results:
        results.write("embedding", np.arange(4), np.ones((4, 2), dtype=np.float32))
        results.finish(0)
    return results.finished()


READERS: dict[str, Reader] = {
    "published: Geneformer": Reader(_geneformer, gl.load_model, ("config.json", "token_dictionary.json")),
    "published: Geneformer, pickles": Reader(
        _geneformer_pickles, gl.load_model, ("token_dictionary.pkl", "gene_median_dictionary.pkl", "model.safetensors")
    ),
    "published: scGPT": Reader(_scgpt, gl.load_model, ("args.json", "vocab.json", "best_model.pt")),
    "published: scPRINT": Reader(_scprint, gl.load_model),
    "published: scPRINT, pickles allowed": Reader(_scprint, lambda path: gl.load_model(path, allow_pickle=True)),
    "fine-tuned model": Reader(_saved(fine_tuned, "tuned"), FineTuned.load, ("fine_tuned.json", "head.safetensors")),
    "known cells": Reader(_saved(known, "known.npz"), KnownCells.load),
    "translator": Reader(_saved(translator, "translator.json"), Translator.load),
    "streamed embeddings": Reader(_results, _go_on, ("run.json", "embedding.npy")),
}
