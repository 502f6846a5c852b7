"""Checkpoints: a folder of safetensors, JSON and the gene table. No pickle is ever read.

``model.safetensors`` weights (float16 or float32; loaded as float32) · ``config.json`` architecture, provenance and
head sets · ``genes.tsv.gz`` vocabulary · ``README.md`` model card. The Hugging Face Hub takes such a folder as it is.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from grnlab._files import atomic_directory
from grnlab._provenance import file_hash
from grnlab._reading import check_plain_file, read_json
from grnlab.backbones.card import model_card
from grnlab.backbones.published import find_layout, load_published, show_licence
from grnlab.backbones.published.download import HUB, fetch
from grnlab.backbones.registry import Pretrained, architecture_of, architectures, build_model, register_architecture
from grnlab.backbones.scprint import ScPrint, ScPrintConfig
from grnlab.backbones.sizes import check_sizes
from grnlab.genes import GeneVocab

FORMAT = 1
FILES = ("model.safetensors", "config.json", "genes.tsv.gz", "README.md")
_BUILTIN = "grnlab.backbones"
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")

register_architecture("scprint", ScPrint, ScPrintConfig)


def save_model(
    model: Any,
    path: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    heads: Mapping[str, Sequence[Sequence[float]]] | None = None,
    card: str = "",
    half: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint folder; it takes its name only when it is complete.

    Parameters
    ----------
    model
        A model of a registered architecture, see :func:`grnlab.backbones.registry.register_architecture`.
    path
        Folder to write.
    provenance
        How the model was made; JSON values. By default that of the model.
    heads
        Head sets: name → (layer, head, weight) of each head; by default those the model has in ``heads``.
    card
        Markdown text of the model card; by default made of the provenance.
    half
        Store weights as float16, half the size.
    overwrite
        Replace an existing folder.

    Raises
    ------
    FileExistsError
        When the folder exists and `overwrite` is False.
    TypeError
        When the architecture is not registered.
    ValueError
        When a head set names a head the model does not have.
    """
    from safetensors.torch import save

    dtype = torch.float16 if half else torch.float32
    weights = {name: _to_file(value, dtype) for name, value in model.state_dict().items()}
    config = {
        "format": FORMAT,
        "architecture": architecture_of(model),
        "name": model.name,
        "config": model.config.to_dict(),
        "vocab_hash": model.vocab.hash,
        "provenance": dict(model.provenance if provenance is None else provenance),
    }
    if heads := getattr(model, "heads", {}) if heads is None else heads:
        config["heads"] = {name: _checked_heads(name, chosen, model) for name, chosen in heads.items()}
    with atomic_directory(path, overwrite=overwrite) as folder:
        (folder / "model.safetensors").write_bytes(save(weights))
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        model.vocab.save(folder / "genes.tsv.gz")
        (folder / "README.md").write_text(card or model_card(model, config["provenance"]), encoding="utf-8")
    return Path(path)


def load_model(
    name: str | Path = "grnlab-small", *, device: str = "cpu", allow_pickle: bool = False, part: str | None = None
) -> Pretrained:
    """Load a backbone: a built-in model, a checkpoint of grnlab, or the files of a published model.

    Parameters
    ----------
    name
        ``"grnlab-small"``; a folder written by :func:`save_model`; files of a publisher, see
        :mod:`grnlab.backbones.published` (scGPT: the folder with args.json; Geneformer: that with config.json; scPRINT:
        the .ckpt; scFoundation: the folder with models.ckpt); or ``"hf://owner/repository/path"``, which is downloaded
        from the Hugging Face Hub.
    device
        Where to put the weights.
    allow_pickle
        Read a publisher's file that holds other objects than tensors and plain values. They become empty stand-ins;
        keep the result with :func:`save_model`, and the pickle is not needed again.
    part
        Of scFoundation and xTrimoGene, read in parts: ``"encoder"`` (the default) or ``"decoder"``. The
        decoder has kernel attention, see :class:`grnlab.backbones.AttentionSpec`. Kept with :func:`save_model`, it is a
        model of its own, which the command line takes too.

    Returns
    -------
    The model in evaluation mode, with ``weights_hash``, ``provenance`` and ``heads`` (name → list of layer, head and
    weight) set.

    Raises
    ------
    FileNotFoundError
        When there is no such model.
    ValueError
        When `device` cannot be used, the folder is incomplete, of another format, or its weights do not fit its
        configuration; when a pickle holds more than tensors and plain values.
    ImportError
        When a download is asked for and huggingface_hub is not installed.

    Examples
    --------
    >>> model = load_model("grnlab-small")
    >>> model.attention.n_heads * model.attention.n_layers
    16
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not isinstance(name, str | Path):
        msg = f"name is a {type(name).__name__}; give the name of a built-in model, or the path of a checkpoint."
        raise ValueError(msg)
    _check_device(device)
    folder = _locate(name)
    if not (folder / "genes.tsv.gz").exists() and (layout := find_layout(folder)) is not None:
        return load_published(folder, layout, allow_pickle=allow_pickle, part=part).to(device)
    _refuse_what_is_no_folder(name, folder)
    try:
        config = dict(read_json(folder / "config.json"))
        check_plain_file(folder / "model.safetensors")
        weights = load_file(folder / "model.safetensors")
        vocab = GeneVocab.load(folder / "genes.tsv.gz")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        msg = f"{folder} is not a complete grnlab checkpoint: {error}"
        raise ValueError(msg) from error
    known = architectures()
    if config.get("format") != FORMAT or config.get("architecture") not in list(known):
        msg = (
            f"{folder} has format {config.get('format')!r} and architecture {config.get('architecture')!r}; this "
            f"version reads format {FORMAT} of {', '.join(map(repr, known))}."
        )
        raise ValueError(msg)
    if missing := [key for key in ("name", "config", "vocab_hash", "provenance") if key not in config]:
        msg = f"{folder / 'config.json'} lacks {missing}; restore the original file."
        raise ValueError(msg)
    if not isinstance(config["provenance"], dict) or not isinstance(config.get("heads", {}), dict):
        msg = f"{folder / 'config.json'} has provenance or heads that are no objects; restore the original file."
        raise ValueError(msg)
    if config["vocab_hash"] != vocab.hash:
        msg = f"{folder / 'genes.tsv.gz'} is not the vocabulary this model was trained with; restore the original file."
        raise ValueError(msg)
    try:
        check_sizes(config["config"], weights)
        sizes = known[config["architecture"]].config.from_dict(config["config"])
        model = build_model(vocab, sizes, name=config["name"])
        model.load_state_dict({key: x.float() if x.is_floating_point() else x for key, x in weights.items()})
    except (RuntimeError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        msg = f"the weights in {folder} do not fit its config.json: {error}"
        raise ValueError(msg) from error
    model.weights_hash = file_hash(folder / "model.safetensors")
    model.provenance = config["provenance"]
    model.heads = config.get("heads", {})
    show_licence(model)
    model.eval().to(device)
    if part is None:
        return model
    if not hasattr(model, "part"):
        msg = f"part={part!r}: {name} is a checkpoint of grnlab, which is one model; leave part out."
        raise ValueError(msg)
    return model.part(part)


def builtin_models() -> dict[str, Path]:
    """Name → folder of the models that come with the package."""
    root = Path(str(files(_BUILTIN) / "weights"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def _check_device(device: Any) -> None:
    """Refuse a device that torch does not know or that is not there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        msg = f"device={device!r} cannot be used ({str(error).splitlines()[0]}); 'cpu' can, and 'cuda' with a GPU."
        raise ValueError(msg) from error


def _locate(name: str | Path) -> Path:
    builtin = builtin_models()
    if str(name) in builtin:
        return builtin[str(name)]
    return fetch(str(name)) if str(name).startswith(HUB) else Path(name)


def _refuse_what_is_no_folder(name: str | Path, folder: Path) -> None:
    if folder.suffix in _PICKLES and not folder.is_dir():
        msg = (
            f"{name} is a pickle: reading one can run any code it holds, so grnlab never does, and its name is that of "
            "no published model that is one file. Pass the folder it belongs to; or take its weights out with "
            "torch.load(path, weights_only=True), put them into a model with load_state_dict, and write that with "
            "grnlab.backbones.save_model."
        )
        raise ValueError(msg)
    if not folder.is_dir():
        builtin = ", ".join(builtin_models()) or "none"
        msg = (
            f"{name} is neither a built-in model ({builtin}) nor a checkpoint folder. A model on the Hugging Face Hub "
            f"is written {HUB}owner/repository/path."
        )
        raise FileNotFoundError(msg)


def _to_file(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Copy of a weight (tied ones may not share memory in a file); what is not floating keeps its type."""
    return value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()


def _checked_heads(name: str, chosen: Sequence[Sequence[float]], model: Any) -> list[list[float]]:
    sizes = model.attention
    for one in chosen:
        if len(one) != 3 or not (one[0] in range(sizes.n_layers) and one[1] in range(sizes.n_heads)):
            msg = (
                f"head set {name!r} holds {one}; expected (layer, head, weight) of a model of {sizes.n_layers} layers "
                f"of {sizes.n_heads} heads."
            )
            raise ValueError(msg)
    return [[int(layer), int(head), float(weight)] for layer, head, weight in chosen]
