"""Fine-tune a backbone of signatures to predict the response to a drug from its features.

Shape suffixes: N signatures, F features of a drug, G genes of the panel.
"""

import copy
import logging
from dataclasses import asdict, dataclass
from typing import Any, cast

import anndata as ad
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from grnlab._provenance import versions
from grnlab.backbones.drugbert import DrugBert, at_one_scale
from grnlab.data.signature_collection import SignatureCollection, collect_signatures
from grnlab.evaluate.perturbation import mean_pearson
from grnlab.objectives.respond import Respond
from grnlab.tasks.predict_drug import signatures_from
from grnlab.training.averaging import WeightAverage
from grnlab.training.batches import CellStream, seed_dropout

logger = logging.getLogger(__name__)
_PENALTIES = (1.0, 2.0, 5.0, 10.0, 20.0)  # of the linear path, in mean squares of a drug's features


@dataclass(frozen=True)
class ResponseConfig:
    """Settings of :func:`fit_responses`.

    Attributes
    ----------
    max_steps, batch_size, n_tokens
        Steps at most, signatures of a step, and genes shown of each.
    lr, weight_decay, warmup
        AdamW; the rate rises over `warmup` steps, then falls to zero at `max_steps`.
    average
        Decay of the moving average of the weights, which is what is validated and kept.
    val_fraction
        Share of the drugs (of the signatures, where there are no drugs) that are held out to choose the step.
    val_every, patience
        Steps between validations, and after how many in a row that were not better the run ends.
    seed
        Of the split, the batches and dropout.
    """

    max_steps: int = 600
    batch_size: int = 32
    n_tokens: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.3
    warmup: int = 50
    average: float = 0.98
    val_fraction: float = 0.1
    val_every: int = 50
    patience: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "n_tokens", "val_every", "patience"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                msg = f"{name}={value!r} must be a whole number of at least 1."
                raise ValueError(msg)
        if self.warmup < 0 or self.weight_decay < 0 or not 0 <= self.average < 1:
            msg = f"warmup={self.warmup}, weight_decay={self.weight_decay} must be 0 or more, average={self.average} "
            msg += "from 0 to below 1."
            raise ValueError(msg)
        if not 0 < self.val_fraction < 1 or not self.lr > 0:
            msg = f"val_fraction={self.val_fraction} must lie between 0 and 1, lr={self.lr} above 0."
            raise ValueError(msg)


def fit_responses(
    adata: ad.AnnData,
    model: DrugBert,
    *,
    features: pd.DataFrame | None = None,
    config: ResponseConfig | None = None,
) -> DrugBert:
    """Fine-tune a model to predict a signature from its conditions alone.

    The weights kept are those that predict the held-out drugs best (mean Pearson correlation over the panel).

    Parameters
    ----------
    adata
        Signatures with the conditions in ``obs``, see :func:`grnlab.data.read_signatures`. Best scaled, see
        :func:`grnlab.data.scale_signatures`.
    model
        A pretrained or new model with conditions; left as it is.
    features
        Drugs × features, those the model was made for; every drug of `adata` must be among them.
    config
        Settings.

    Returns
    -------
    A new model in evaluation mode; ``provenance["responses"]`` says with which settings, on how many signatures, and
    how well the held-out drugs were predicted.

    Raises
    ------
    ValueError
        When `adata` does not fit the model (see :func:`grnlab.data.collect_signatures`), carries none of the conditions
        the model reads, or has too few drugs to hold some out.
    RuntimeError
        When a loss is not finite.

    Examples
    --------
    A panel of six genes, twelve drugs with three features each, then draws around the prediction for a drug:

    >>> import grnlab as gl
    >>> from grnlab.backbones import DrugBertConfig
    >>> from grnlab.genes import GeneVocab
    >>> rng, panel = np.random.default_rng(0), GeneVocab(gl.load_model().vocab.table[:6])
    >>> features = pd.DataFrame(rng.normal(size=(12, 3)), [f"drug{n}" for n in range(12)], ["logP", "mass", "rings"])
    >>> obs, var = pd.DataFrame({"drug": features.index}, features.index), pd.DataFrame(index=panel.symbols)
    >>> measured = ad.AnnData(features.to_numpy() @ rng.normal(size=(3, 6)), obs, var)
    >>> model = DrugBert(panel, DrugBertConfig(n_layers=1, d_model=8, n_heads=1, features=tuple(features)))
    >>> fitted = gl.tl.fit_responses(measured, model, features=features, config=ResponseConfig(max_steps=2))
    >>> predicted = gl.tl.predict_responses(fitted, features[:3])
    >>> predicted.shape, gl.tl.draw_responses(predicted, measured, features, n_draws=4)["drug0"].shape
    ((3, 6), (4, 6))
    """
    config = config or ResponseConfig()
    cells = _collect(model, adata, features)
    train_rows, val_rows = _split_drugs(cells, config)
    tuned = copy.deepcopy(model)
    tuned.condition = {}
    _start_at_the_mean(tuned, cells, train_rows)
    if tuned.additive is not None:
        _start_linear(tuned, cells, train_rows, val_rows)
    optimizer = torch.optim.AdamW(_groups(tuned, config.weight_decay), lr=config.lr, betas=(0.9, 0.98))
    n_tokens = min(config.n_tokens, len(cells.available[0]))
    sizes = {"batch_size": config.batch_size, "n_tokens": n_tokens, "seed": config.seed}
    stream = CellStream(cells, train_rows, np.ones(len(train_rows)), objectives=[Respond()], **sizes)
    average = WeightAverage(dict(tuned.named_parameters()), config.average)
    best, best_weights, worse, curve = -np.inf, tuned.state_dict(), 0, []
    for step in range(1, config.max_steps + 1):
        rate = config.lr * min(1.0, step / max(config.warmup, 1)) * (1 - (step - 1) / config.max_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = _step(tuned, stream, step, config.seed)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        optimizer.step()
        average.update(step)
        if step % config.val_every and step < config.max_steps:
            continue
        with average.in_place():
            score = _agreement(tuned, cells, val_rows)
            weights = {name: value.clone() for name, value in tuned.state_dict().items()}
        curve.append([step, round(loss.item(), 4), round(score, 4)])
        logger.info("step %d: loss %.4f, held-out drugs %.4f", *curve[-1])
        if score > best:
            best, worse, best_weights = score, 0, weights
        else:
            worse += 1
        if worse == config.patience:
            break
    tuned.load_state_dict(best_weights)
    tuned.eval()
    tuned.weights_hash = ""
    tuned.provenance = copy.deepcopy(model.provenance) | {
        "responses": {
            "n_signatures": len(train_rows),
            "n_held_out": len(val_rows),
            "held_out_drugs": _drugs_of(cells, val_rows),
            "pearson_held_out": round(best, 4),
            "curve": curve,
            "settings": asdict(config),
            "versions": versions(),
        }
    }
    return tuned


def _collect(model: DrugBert, adata: ad.AnnData, features: pd.DataFrame | None) -> SignatureCollection:
    if not isinstance(model, DrugBert):
        msg = f"model must be a DrugBert, which reads signatures; got {type(model).__name__}."
        raise ValueError(msg)
    config = model.config
    if (features is None) != (not config.features):
        msg = f"{model.name} reads {len(config.features)} features of drugs; features must be given with them only."
        raise ValueError(msg)
    if features is not None:
        model.drug_features(features.iloc[:0])  # refuses a table that lacks some
        features = features[list(config.features)]
    cells = collect_signatures(adata, model.vocab, features=features, cells=config.cells or None)
    carried = {"drug": cells.features.shape[1] > 0, "cell": "cell" in cells.labels, "dose": cells.log_dose is not None}
    read = {"drug": bool(config.features), "cell": bool(config.cells), "dose": config.dose}
    if not any(carried[name] and read[name] for name in read):
        msg = f"adata carries {[x for x in carried if carried[x]]}, {model.name} reads {[x for x in read if read[x]]}; "
        msg += "nothing to predict from."
        raise ValueError(msg)
    return cells


def _split_drugs(cells: SignatureCollection, config: ResponseConfig) -> tuple[np.ndarray, np.ndarray]:
    units = cells.labels.get("drug", np.arange(len(cells)))
    names = np.random.default_rng(config.seed).permutation(np.unique(units))
    n_held_out = max(2, round(config.val_fraction * len(names)))
    if n_held_out >= len(names):
        msg = f"adata has {len(names)} drugs; at least four are needed, two of them to choose the step."
        raise ValueError(msg)
    held_out = np.isin(units, names[:n_held_out])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _start_at_the_mean(model: DrugBert, cells: SignatureCollection, rows: np.ndarray) -> None:
    """Make the model predict the mean signature, whatever the condition: all it has to learn is what differs."""
    with torch.no_grad():
        model.gene_level.weight[:, 0] = torch.from_numpy(np.asarray(cells.counts[rows].mean(axis=0)).ravel())
        last = cast("nn.Linear", model.decoder.mlp[-1])
        last.weight.zero_()
        last.bias.zero_()


def _start_linear(model: DrugBert, cells: SignatureCollection, rows: np.ndarray, val_rows: np.ndarray) -> None:
    """Fit the linear path by ridge regression, with the penalty that predicts the held-out drugs best.

    Its weights are ``Xᵀ (X Xᵀ + penalty)⁻¹ (Y − mean)``, cut to the rank of the path.
    """
    assert model.additive is not None
    assert model.gene_response is not None
    level_G = model.gene_level.weight[:, 0].detach().double()
    x_NF, x_val = (at_one_scale(cells.conditions(some)["drug_BF"]).double() for some in (rows, val_rows))
    y_NG, y_val = (torch.from_numpy(cells.counts[some].toarray()).double() for some in (rows, val_rows))
    kernel_NN, identity_NN = x_NF @ x_NF.T / x_NF.shape[1], torch.eye(len(rows), dtype=torch.float64)
    best, chosen = -np.inf, y_NG
    for penalty in _PENALTIES:
        dual_NG = torch.linalg.solve(kernel_NN + penalty * identity_NN, y_NG - level_G) / x_NF.shape[1]
        predicted = level_G + x_val @ (x_NF.T @ dual_NG)
        score = mean_pearson(y_val.numpy(), predicted.numpy())
        if score > best:
            best, chosen = score, dual_NG
    # Xᵀ D by the small factor of X = Q R alone: the rank of D is far below the number of features
    q_FN, r_NN = torch.linalg.qr(x_NF.T)
    u, s, v = torch.linalg.svd(r_NN @ chosen, full_matrices=False)
    rank = min(model.config.additive_rank, len(s))
    with torch.no_grad():
        model.additive.weight.zero_()
        model.additive.weight[:rank] = ((q_FN @ u[:, :rank]) * s[:rank].sqrt()).T.float()
        model.gene_response.weight[:, :rank] = (v[:rank].T * s[:rank].sqrt()).float()


def _drugs_of(cells: SignatureCollection, rows: np.ndarray) -> list[str]:
    if "drug" not in cells.labels:
        return []
    return [cells.label_values["drug"][code] for code in np.unique(cells.labels["drug"][rows]) if code >= 0]


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on what multiplies, not on biases, norms and embeddings."""
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    weights = list(model.parameters())
    return [
        {"params": [p for p in weights if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in weights if id(p) not in decayed], "weight_decay": 0.0},
    ]


def _step(model: DrugBert, stream: CellStream, number: int, seed: int) -> Tensor:
    model.train()
    (batch,) = stream.draw(number)
    batch = batch.to(model.device)
    seed_dropout(seed, number, model.device)
    loss = Respond().loss(model, model.encode(batch.seen), seen=batch.seen, target=batch.target)
    if not torch.isfinite(loss):
        msg = f"the loss of step {number} is {loss.item()}; scale the signatures (scale_signatures) or lower lr."
        raise RuntimeError(msg)
    return loss


def _agreement(model: DrugBert, cells: SignatureCollection, rows: np.ndarray) -> float:
    """Mean Pearson correlation of predicted and measured signatures."""
    tokens_G = cells.available[0]
    labels = {"cell": torch.from_numpy(cells.labels["cell"][rows])} if "cell" in cells.labels else {}
    predicted = signatures_from(model, tokens_G, cells.conditions(rows), labels, len(rows))
    return mean_pearson(cells.counts[rows][:, tokens_G].toarray(), predicted)
