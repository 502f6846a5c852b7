"""A backbone with the head it was fine-tuned with: predict, evaluate, save, load."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

from grnlab import _progress
from grnlab._files import atomic_directory
from grnlab._reading import check_plain_file, read_json
from grnlab.attention.prepare import PreparedCells, prepare_cells
from grnlab.backbones import load_model, save_model
from grnlab.backbones.sizes import check_sizes
from grnlab.data.names import align_genes
from grnlab.tasks._head import Head, HeadedModel, apply_to_cells, check_not_blank
from grnlab.tasks._targets import Target
from grnlab.tasks.scores import classification_scores, regression_scores

logger = logging.getLogger(__name__)

FORMAT = 1
_FEW = 0.8  # share of the genes below which the log warns


class FineTuned:
    """A fine-tuned model, see :func:`grnlab.tl.fine_tune`.

    Parameters
    ----------
    backbone
        The model; a copy, with its own weights where it was not frozen.
    head
        Reads its cell embedding.
    target
        What is predicted.
    tokens
        Genes it was shown, as tokens of the vocabulary.
    history
        Losses of each epoch.
    provenance
        Where it came from.

    Attributes
    ----------
    history
        Table ``epoch, train_loss, val_loss``; losses of classification weigh classes as training did.
    """

    def __init__(
        self,
        backbone: Any,
        head: Head,
        target: Target,
        *,
        tokens: np.ndarray,
        history: list[dict[str, float]],
        provenance: dict[str, Any],
    ) -> None:
        self.backbone, self.head, self.target, self.tokens = backbone.eval(), head.eval(), target, tokens
        self.history, self.provenance = pd.DataFrame(history), provenance

    def __repr__(self) -> str:
        of = f"{len(self.target.classes)} classes" if self.target.classes else "values"
        return f"FineTuned({self.backbone.name}: {self.target.column!r}, {of}, {len(self.tokens):,} genes)"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of the columns of a prediction; empty for a regression."""
        return self.target.classes

    def to(self, device: torch.device | str) -> "FineTuned":
        """Move backbone and head to a device."""
        self.backbone.to(device)
        self.head.to(device)
        return self

    def predict(self, adata: ad.AnnData, *, layer: str | None = None, progress: bool = False) -> pd.DataFrame:
        """Predict the column for other cells; no label of theirs is read.

        Parameters
        ----------
        adata
            Counts; genes are matched by name, those trained on that are absent count as not expressed.
        layer
            Layer that holds the counts; ``X`` by default.
        progress
            Show a progress bar.

        Returns
        -------
        One row per cell: the probability of each class, which sum to 1; or one column with the value, on the scale of
        the training data.

        Raises
        ------
        ValueError
            When `adata` holds no counts or too few of the genes, or a cell expresses none of them.
        """
        cells = self._prepare(adata, layer)
        network = HeadedModel(self.backbone, self.head)
        with _progress.progress(total=adata.n_obs, desc="predicting", unit="cell", show=progress) as bar:
            output_BC = apply_to_cells(network, self.backbone, cells, on_batch=bar.update)
        if self.target.classes:
            values, columns = output_BC.double().softmax(1).numpy(), list(self.target.classes)
        else:
            values, columns = self.target.mean + self.target.sd * output_BC.double().numpy(), [self.target.column]
        return pd.DataFrame(values, index=adata.obs_names, columns=columns)

    def evaluate(self, adata: ad.AnnData, *, layer: str | None = None) -> dict[str, float]:
        """Score the predictions for cells whose labels are known.

        Parameters
        ----------
        adata
            Cells with the column that was trained on.
        layer
            Layer that holds the counts; ``X`` by default.

        Returns
        -------
        As :func:`grnlab.tasks.classification_scores` or :func:`grnlab.tasks.regression_scores`.

        Raises
        ------
        ValueError
            When the column is missing or incomplete, or has classes that were not trained on; and as :meth:`predict`.
        """
        truth = self.target.read(adata)
        predicted = self.predict(adata, layer=layer).to_numpy()
        if self.target.classes:
            return classification_scores(truth, predicted, self.target.classes)
        return regression_scores(truth, predicted[:, 0])

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a folder: the backbone as a checkpoint of its own, the head as safetensors, the rest as JSON.

        Parameters
        ----------
        path
            Folder to write; it takes its name only when it is complete.
        overwrite
            Replace an existing folder.

        Raises
        ------
        FileExistsError
            When the folder exists and `overwrite` is False.
        """
        from safetensors.torch import save

        about = {
            "format": FORMAT,
            "target": asdict(self.target),
            "hidden": self.head.hidden,
            "d_cell": len(self.head.mean_M),
            "tokens": self.tokens.tolist(),
            "history": self.history.to_dict("records"),
            "provenance": self.provenance,
        }
        with atomic_directory(path, overwrite=overwrite) as folder:
            save_model(self.backbone, folder / "backbone")
            weights = {name: value.cpu().contiguous() for name, value in self.head.state_dict().items()}
            (folder / "head.safetensors").write_bytes(save(weights))
            (folder / "fine_tuned.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> "FineTuned":
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path
            The folder.
        device
            Where to put the weights.

        Raises
        ------
        FileNotFoundError
            When there is no such folder.
        ValueError
            When it is incomplete, damaged or of another format.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(path)
        if not folder.is_dir():
            msg = f"{folder} is not a folder; give one that FineTuned.save wrote."
            raise FileNotFoundError(msg)
        try:
            about = read_json(folder / "fine_tuned.json")
            if about["format"] != FORMAT:
                msg = f"format {about['format']!r}; this version reads format {FORMAT}"
                raise ValueError(msg)
            target = Target(**about["target"] | {"classes": tuple(about["target"]["classes"])})
            check_plain_file(folder / "head.safetensors")
            weights = load_file(folder / "head.safetensors")
            check_sizes({"d_cell": about["d_cell"], "hidden": about["hidden"]}, weights)
            head = Head(about["d_cell"], target.n_outputs, hidden=about["hidden"])
            head.load_state_dict(weights)
            tokens = np.array(about["tokens"], dtype=np.int64)
            history = pd.DataFrame(about["history"]).to_dict("records")
            provenance = dict(about["provenance"])
        except (OSError, LookupError, TypeError, ValueError, RuntimeError, ArithmeticError, SafetensorError) as error:
            msg = f"{folder} is no complete fine-tuned model: {error}. Save it again."
            raise ValueError(msg) from error
        backbone = load_model(folder / "backbone")
        return cls(backbone, head, target, tokens=tokens, history=history, provenance=provenance).to(device)

    def _prepare(self, adata: ad.AnnData, layer: str | None) -> PreparedCells:
        found = align_genes(adata, self.backbone.vocab)
        here = np.intersect1d(self.tokens, found.tokens)
        if len(here) < 2:
            msg = f"adata has {len(here)} of the {len(self.tokens)} genes the model was fine-tuned on; it needs them."
            raise ValueError(msg)
        if len(here) < _FEW * len(self.tokens):
            logger.warning("adata has %d of the %d genes the model was fine-tuned on", len(here), len(self.tokens))
        names = [str(symbol) for symbol in self.backbone.vocab.symbols[here]]
        options: dict[str, Any] = {"groupby": None, "layer": layer, "min_cells": 1, "skip_small": False}
        cells = prepare_cells(adata, self.backbone, genes=names, **options)
        check_not_blank(cells, adata.obs_names)
        return cells
