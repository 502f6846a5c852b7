"""Published single-cell transformers, read from their publishers' own files.

No weights come with the package and no package of theirs is needed. Each adapter says in its module what it was checked
against, and what it could not check.

An adapter is a :class:`PublishedModel` with ``tokenize`` and ``embed``; a function that finds every weight of its
attention by the publisher's name, or raises; and a :class:`Layout` here. Its test compares hidden states and attention
with the publisher's forward, tokens with the publisher's tokeniser, and sends it through ``test_chain.py``.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grnlab._provenance import file_hash
from grnlab.backbones.published.base import PublishedModel
from grnlab.backbones.published.geneformer import Geneformer, GeneformerConfig, is_geneformer, load_geneformer
from grnlab.backbones.published.scfoundation import ScFoundation, ScFoundationConfig
from grnlab.backbones.published.scfoundation_decoder import ScFoundationDecoder, ScFoundationDecoderConfig
from grnlab.backbones.published.scfoundation_files import PARTS, is_scfoundation, load_scfoundation
from grnlab.backbones.published.scgpt import ScGpt, ScGptConfig, is_scgpt, load_scgpt
from grnlab.backbones.published.scprint import (
    PublishedScPrint,
    PublishedScPrintConfig,
    is_scprint,
    load_scprint,
)
from grnlab.backbones.registry import register_architecture

__all__ = ["LAYOUTS", "Layout", "PublishedModel", "find_layout", "load_published", "show_licence"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Files of a publisher.

    Attributes
    ----------
    name
        Of the architecture.
    files
        What the publisher ships, in words.
    recognise
        Whether a path holds these files.
    load
        Gives the model and the file of its weights.
    licence
        Of the weights, in words.
    source
        Where the publisher has them.
    parts
        What of the model can be read on its own, the first by default; none where it is all one.
    """

    name: str
    files: str
    recognise: Callable[[Path], bool]
    load: Callable[..., tuple[PublishedModel, Path]]
    licence: str
    source: str
    parts: tuple[str, ...] = ()


LAYOUTS = (
    Layout(
        "scgpt",
        "folder with args.json, vocab.json, best_model.pt",
        is_scgpt,
        load_scgpt,
        "MIT, by the licence of the repository",
        "https://github.com/bowang-lab/scGPT",
    ),
    Layout(
        "geneformer",
        "folder with config.json, weights, and the dictionaries of tokens and medians",
        is_geneformer,
        load_geneformer,
        "Apache 2.0, by the model card",
        "https://huggingface.co/ctheodoris/Geneformer",
    ),
    Layout(
        "scfoundation",
        "folder with models.ckpt and OS_scRNA_gene_index.19264.tsv (part='decoder' for the decoder)",
        is_scfoundation,
        load_scfoundation,
        "non-commercial use only, revocable, by the model licence of the repository",
        "https://github.com/biomap-research/scFoundation",
        tuple(PARTS),
    ),
    Layout(
        "scprint-published",
        "a .ckpt of v1 or v1.5",
        is_scprint,
        load_scprint,
        "GPL 3 by the licence file of the repository, MIT by its metadata",
        "https://huggingface.co/jkobject/scPRINT",
    ),
)

register_architecture("scgpt", ScGpt, ScGptConfig)
register_architecture("geneformer", Geneformer, GeneformerConfig)
register_architecture("scfoundation", ScFoundation, ScFoundationConfig)
register_architecture("scfoundation-decoder", ScFoundationDecoder, ScFoundationDecoderConfig)
register_architecture("scprint-published", PublishedScPrint, PublishedScPrintConfig)


def find_layout(path: Path) -> Layout | None:
    """Layout of the files at a path, or None when they are nobody's."""
    return next((layout for layout in LAYOUTS if layout.recognise(path)), None)


def load_published(
    path: Path, layout: Layout, *, allow_pickle: bool = False, part: str | None = None
) -> PublishedModel:
    """Read a publisher's files, and say in the log under which licence the weights are.

    Parameters
    ----------
    path
        Folder or file.
    layout
        From :func:`find_layout`.
    allow_pickle, part
        See :func:`grnlab.backbones.load_model`.

    Returns
    -------
    The model in evaluation mode, on the CPU.

    Raises
    ------
    ValueError
        When a file is missing or damaged, a weight is missing or unexpected, or the model has no such part.
    """
    if part is not None and part not in layout.parts:
        known = f"choose one of {layout.parts}" if layout.parts else "it is read as one; leave part out"
        msg = f"part={part!r} is no part of a model of {layout.name}: {known}."
        raise ValueError(msg)
    try:
        model, weights_file = layout.load(path, allow_pickle=allow_pickle, **({} if part is None else {"part": part}))
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        msg = (
            f"{path} is not a whole model of {layout.name} ({type(error).__name__}: {error}): a value in its files is "
            f"missing or of the wrong kind; restore the original files from {layout.source}."
        )
        raise ValueError(msg) from error
    model.weights_hash = file_hash(weights_file)
    model.provenance = {"source": layout.source, "weights_licence": layout.licence, "file": weights_file.name}
    show_licence(model)
    return model.eval()


def show_licence(model: Any) -> None:
    """Say in the log under which licence the weights of a published model are; silent for other models."""
    made = model.provenance
    if "weights_licence" in made:
        logger.warning("weights of %s (%s): %s", model.name, made["source"], made["weights_licence"])
