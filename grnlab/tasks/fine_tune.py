"""Fine-tune any backbone to predict a column of ``obs``: a class, or a value.

A head reads the cell embedding. Frozen, the cells run through the backbone once and the head is trained on what came
out; otherwise the backbone learns too, at a lower rate.
"""

import copy
import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import anndata as ad
import numpy as np
import torch
from torch import nn

from grnlab import _progress
from grnlab._optional import require
from grnlab._provenance import versions
from grnlab.attention.prepare import PreparedCells, prepare_cells
from grnlab.backbones.base import Backbone
from grnlab.data.counts import check_adata
from grnlab.tasks._head import Head, HeadedModel, apply_to_cells, check_not_blank, tokens_of
from grnlab.tasks._rates import parameter_groups
from grnlab.tasks._targets import Target, few_shot, split_cells, target_of
from grnlab.tasks.fine_tuned import FineTuned

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of :func:`fine_tune`.

    Attributes
    ----------
    hidden
        Width of the hidden layer of the head; 0 is a linear head.
    lr, backbone_lr
        Peak learning rate of the head and of the backbone.
    layer_decay
        The rate of a block is this much lower than that of the block above it; 1: all the same.
    batch_size, max_epochs, max_minutes
        Sizes of the run; it ends at whichever comes first.
    patience
        Epochs without a lower validation loss after which it ends; the best weights are kept.
    val_fraction
        Share of the cells to validate on, of every class; 0: none, and the last weights are kept.
    balanced
        Every class weighs the same in the loss, however many cells it has.
    share
        Use this share of the labelled cells only (few-shot), see :func:`grnlab.tasks.few_shot`.
    dropout, weight_decay
        Of the head; `weight_decay` also of the backbone's linear layers.
    seed
        Of the draw of cells, their order, and dropout.

    Raises
    ------
    ValueError
        When a value is out of range.
    """

    hidden: int = 0
    lr: float = 1e-2
    backbone_lr: float = 3e-4
    layer_decay: float = 1.0
    batch_size: int = 32
    max_epochs: int = 20
    max_minutes: float | None = None
    patience: int = 4
    val_fraction: float = 0.1
    balanced: bool = True
    share: float = 1.0
    dropout: float = 0.1
    weight_decay: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)} must be at least 1."
                raise ValueError(msg)
        for name in ("lr", "layer_decay", "share"):
            if not 0 < getattr(self, name) <= 1:
                msg = f"{name}={getattr(self, name)} must lie above 0 and be at most 1."
                raise ValueError(msg)
        for name in ("val_fraction", "dropout", "backbone_lr", "weight_decay"):
            if not 0 <= getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)} must lie in [0, 1)."
                raise ValueError(msg)
        if self.hidden < 0:
            msg = f"hidden={self.hidden} must be 0 (a linear head) or the width of the hidden layer."
            raise ValueError(msg)
        if self.max_minutes is not None and not self.max_minutes > 0:
            msg = f"max_minutes={self.max_minutes} must be above 0, or None."
            raise ValueError(msg)


def fine_tune(
    adata: ad.AnnData,
    model: Backbone,
    *,
    target: str,
    kind: str = "auto",
    freeze: bool = False,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    config: FineTuneConfig | None = None,
    progress: bool = True,
) -> FineTuned:
    """Train a head on the cell embedding of a model, and the model with it, to predict a column of ``adata.obs``.

    Parameters
    ----------
    adata
        Counts of labelled cells. Every cell given may be learned from: keep those to judge the result by apart.
    model
        A backbone, which is left as it is.
    target
        Column of ``adata.obs``: classes, or values (which are standardised).
    kind
        ``"classification"``, ``"regression"``, or ``"auto"``: numbers are regression, unless all are whole, which is
        refused as ambiguous; everything else is classification.
    freeze
        Train the head alone: the cells run through the backbone once, which is many times cheaper.
    genes
        Genes to show the model, as in :func:`grnlab.tl.attention`.
    layer
        Layer that holds the counts; ``X`` by default.
    config
        Everything else.
    progress
        Show a progress bar.

    Returns
    -------
    The trained model with its head, on the CPU: ``predict``, ``evaluate``, ``save``, ``history``.

    Raises
    ------
    ValueError
        When the column does not exist, has missing values, one class only or a class of one member, or an argument
        does not fit; and as :func:`grnlab.tl.attention` when `adata` does not.
    RuntimeError
        When a loss is not finite.
    grnlab.training.Interrupted
        After Ctrl-C; nothing is written.
    ImportError
        When Lightning is not installed.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:80].copy()
    >>> adata.obs["monocyte"] = (adata.obs["cell_type"] == "CD14+ Monocyte").map({True: "yes", False: "no"})
    >>> tuned = gl.tl.fine_tune(adata, gl.load_model("grnlab-small"), target="monocyte", freeze=True, progress=False)
    >>> tuned.predict(adata).shape, list(tuned.predict(adata).columns)
    ((80, 2), ['no', 'yes'])
    """
    require("lightning", install="grnlab[train]", purpose="to fine-tune a model")
    config = config or FineTuneConfig()
    check_adata(adata)
    found = target_of(adata, target, kind)
    cells = prepare_cells(adata, model, groupby=None, genes=genes, layer=layer, min_cells=1, skip_small=False)
    check_not_blank(cells, adata.obs_names)
    if not isinstance(model, nn.Module):
        msg = f"model must be a torch module, see grnlab.load_model; got {type(model).__name__}."
        raise ValueError(msg)
    values = found.read(adata)
    train, val = _rows(found, values, config)
    if found.kind == "regression":
        found = replace(found, mean=float(values[train].mean()), sd=float(values[train].std()) or 1.0)
    backbone: Any = copy.deepcopy(model).eval()
    backbone.name = model.name if freeze else f"{model.name}, fine-tuned"
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        head, history = _train(
            backbone, cells, found, values=values, split=(train, val), config=config, freeze=freeze, show=progress
        )
    if not freeze:
        backbone.heads = {}  # head sets are of other weights
        backbone.weights_hash = ""
    backbone.cpu()
    provenance = cells.provenance | {
        "fine_tuned": {
            "from": f"{model.name} {getattr(model, 'weights_hash', '')}".strip(),
            "target": target,
            "kind": found.kind,
            "freeze": freeze,
            "n_cells_given": adata.n_obs,
            "n_cells_trained": len(train),
            "n_cells_validated": len(val),
            "settings": asdict(config),
            "versions": versions(),
        }
    }
    return FineTuned(backbone, head, found, tokens=cells.tokens[cells.chosen], history=history, provenance=provenance)


def _rows(target: Target, values: np.ndarray, config: FineTuneConfig) -> tuple[np.ndarray, np.ndarray]:
    strata = values if target.classes else np.zeros(len(values), dtype=np.int64)
    used = few_shot(strata, config.share, seed=config.seed)
    train, val = split_cells(strata[used], config.val_fraction, seed=config.seed)
    if len(train) < 2:
        msg = f"{len(train)} cells are left to train on; give more cells, a larger share, or a smaller val_fraction."
        raise ValueError(msg)
    return used[train], used[val]


def _train(
    backbone: Any,
    cells: PreparedCells,
    target: Target,
    *,
    values: np.ndarray,
    split: tuple[np.ndarray, np.ndarray],
    config: FineTuneConfig,
    freeze: bool,
    show: bool,
) -> tuple[Head, list[dict[str, float]]]:
    """Train the head, and the backbone in place."""
    from grnlab.tasks._fit_head import Epochs, fit_head

    train, val = split
    # frozen: what the cells look like to the backbone, once; else: of enough cells to standardise by
    looked_at = np.concatenate(split) if freeze else train[: min(len(train), 256)]
    cell_BM = apply_to_cells(lambda tokens: backbone.encode(tokens).cell_BM, backbone, cells, looked_at)
    head = Head(cell_BM.shape[1], target.n_outputs, hidden=config.hidden, dropout=config.dropout)
    head.standardise(cell_BM[: len(train)])
    rates = {name: getattr(config, name) for name in ("lr", "backbone_lr", "layer_decay", "weight_decay")}
    network: nn.Module
    if freeze:
        place = np.full(cells.counts.shape[0], -1)
        place[looked_at] = np.arange(len(looked_at))
        network, lengths = head, np.zeros(len(place))
        groups = parameter_groups(head, None, **rates)

        def draw(rows: np.ndarray) -> Any:
            return cell_BM[torch.from_numpy(place[rows])]
    else:
        network, lengths = HeadedModel(backbone, head).train(), np.diff(cells.counts.indptr)
        groups = parameter_groups(head, backbone, **rates)

        def draw(rows: np.ndarray) -> Any:
            return tokens_of(backbone, cells, rows)

    if target.classes:
        goals, weights = torch.from_numpy(values), None
        if config.balanced:
            counted = np.bincount(values[train], minlength=len(target.classes))
            weights = torch.from_numpy(len(train) / (len(counted) * counted.clip(min=1))).float()
    else:
        goals, weights = torch.from_numpy((values - target.mean) / target.sd).float(), None
    options: dict[str, Any] = {"batch_size": config.batch_size, "lengths": lengths}
    with _progress.progress(total=config.max_epochs, desc="fine-tuning", unit="epoch", show=show) as bar:
        history = fit_head(
            network,
            groups,
            Epochs(draw, goals, train, seed=config.seed, **options),
            Epochs(draw, goals, val, seed=None, **options),
            class_weights=weights,
            max_epochs=config.max_epochs,
            max_minutes=config.max_minutes,
            patience=config.patience,
            bar=bar,
        )
    network.eval().cpu()
    return head, history
