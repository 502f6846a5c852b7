"""Checkpoints: a folder of safetensors, JSON and the gene table. No pickle is ever read.

``model.safetensors`` weights (float16 or float32; loaded as float32) · ``config.json`` architecture, provenance and
head sets · ``genes.tsv.gz`` vocabulary · ``README.md`` model card.
"""

import json
import zlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from grnlab._files import atomic_directory
from grnlab._provenance import file_hash
from grnlab.backbones.scprint import ScPrint, ScPrintConfig
from grnlab.genes import GeneVocab

FORMAT = 1
_BUILTIN = "grnlab.backbones"


def save_model(
    model: ScPrint,
    path: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    card: str = "",
    half: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint folder; it takes its name only when it is complete.

    Parameters
    ----------
    model
        The model.
    path
        Folder to write.
    provenance
        How the model was made; JSON values.
    card
        Markdown text of the model card.
    half
        Store weights as float16, half the size.
    overwrite
        Replace an existing folder.

    Raises
    ------
    FileExistsError
        When the folder exists and `overwrite` is False.
    """
    from safetensors.torch import save

    dtype = torch.float16 if half else torch.float32
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    config = {
        "format": FORMAT,
        "architecture": "scprint",
        "name": model.name,
        "config": model.config.to_dict(),
        "vocab_hash": model.vocab.hash,
        "provenance": dict(provenance or {}),
    }
    with atomic_directory(path, overwrite=overwrite) as folder:
        (folder / "model.safetensors").write_bytes(save(weights))
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        model.vocab.save(folder / "genes.tsv.gz")
        (folder / "README.md").write_text(card or f"# {model.name}\n", encoding="utf-8")
    return Path(path)


def load_model(name: str | Path = "grnlab-small", *, device: str = "cpu") -> ScPrint:
    """Load a backbone by the name of a built-in model or the path of a checkpoint folder.

    Parameters
    ----------
    name
        ``"grnlab-small"``, or a folder written by :func:`save_model`.
    device
        Where to put the weights.

    Returns
    -------
    The model in evaluation mode, with ``weights_hash`` and ``provenance`` set.

    Raises
    ------
    FileNotFoundError
        When there is no such model.
    ValueError
        When the folder is incomplete, of another format, or its weights do not fit its configuration.

    Examples
    --------
    >>> model = load_model("grnlab-small")
    >>> model.attention.n_heads * model.attention.n_layers
    16
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = _locate(name)
    try:
        config = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        weights = load_file(folder / "model.safetensors")
        vocab = GeneVocab.load(folder / "genes.tsv.gz")
    except (OSError, EOFError, SafetensorError, KeyError, TypeError, ValueError, zlib.error) as error:
        msg = f"{folder} is not a complete grnlab checkpoint: {error}"
        raise ValueError(msg) from error
    if config.get("format") != FORMAT or config.get("architecture") != "scprint":
        msg = (
            f"{folder} has format {config.get('format')!r} and architecture {config.get('architecture')!r}; this "
            f"version reads format {FORMAT} of 'scprint'."
        )
        raise ValueError(msg)
    if missing := [key for key in ("name", "config", "vocab_hash", "provenance") if key not in config]:
        msg = f"{folder / 'config.json'} lacks {missing}; restore the original file."
        raise ValueError(msg)
    if config["vocab_hash"] != vocab.hash:
        msg = f"{folder / 'genes.tsv.gz'} is not the vocabulary this model was trained with; restore the original file."
        raise ValueError(msg)
    try:
        model = ScPrint(vocab, ScPrintConfig.from_dict(config["config"]), name=config["name"])
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        msg = f"the weights in {folder} do not fit its config.json: {error}"
        raise ValueError(msg) from error
    model.weights_hash = file_hash(folder / "model.safetensors")
    model.provenance = config["provenance"]
    return model.eval().to(device)


def builtin_models() -> dict[str, Path]:
    """Name → folder of the models that come with the package."""
    root = Path(str(files(_BUILTIN) / "weights"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def _locate(name: str | Path) -> Path:
    builtin = builtin_models()
    if str(name) in builtin:
        return builtin[str(name)]
    folder = Path(name)
    if not folder.is_dir():
        msg = f"{name} is neither a built-in model ({', '.join(builtin) or 'none'}) nor a checkpoint folder."
        raise FileNotFoundError(msg)
    return folder
