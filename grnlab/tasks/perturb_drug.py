"""Predict the response to drugs, known or not, from their features: fine-tune a backbone of signatures, then generate.

Shape suffixes: B signatures of a batch, T gene tokens, G genes of the panel.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from grnlab._provenance import versions
from grnlab.backbones.drugbert import DrugBert
from grnlab.data.signatures import SignatureCollection, SignatureTokens, collect_signatures
from grnlab.evaluate.perturbation import pearson
from grnlab.objectives.respond import Respond
from grnlab.training.batches import CellStream, seed_dropout

logger = logging.getLogger(__name__)
_SIGNATURES_PER_BATCH = 16


@dataclass(frozen=True)
class ResponseConfig:
    """Settings of :func:`fit_responses`.

    Attributes
    ----------
    max_steps, batch_size, n_tokens
        Steps at most, signatures of a step, and genes shown of each.
    lr, weight_decay, warmup
        AdamW; the rate rises over `warmup` steps, then falls to zero at `max_steps`.
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
        if not 0 < self.val_fraction < 1 or not self.lr > 0:
            msg = f"val_fraction={self.val_fraction} must lie between 0 and 1, lr={self.lr} above 0."
            raise ValueError(msg)


def fit_responses(
    model: DrugBert,
    adata: ad.AnnData,
    *,
    features: pd.DataFrame | None = None,
    config: ResponseConfig | None = None,
) -> DrugBert:
    """Fine-tune a model to predict a signature from its conditions alone.

    The weights kept are those that predict the held-out drugs best (mean Pearson correlation over the panel).

    Parameters
    ----------
    model
        A pretrained or new model with conditions; left as it is.
    adata
        Signatures with the conditions in ``obs``, see :func:`grnlab.data.read_signatures`. Best scaled, see
        :func:`grnlab.data.scale_signatures`.
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
    """
    config = config or ResponseConfig()
    cells = _collect(model, adata, features)
    train_rows, val_rows = _split_drugs(cells, config)
    tuned = copy.deepcopy(model)
    tuned.condition = {}
    optimizer = torch.optim.AdamW(_groups(tuned, config.weight_decay), lr=config.lr, betas=(0.9, 0.98))
    n_tokens = min(config.n_tokens, len(cells.available[0]))
    sizes = {"batch_size": config.batch_size, "n_tokens": n_tokens, "seed": config.seed}
    stream = CellStream(cells, train_rows, np.ones(len(train_rows)), objectives=[Respond()], **sizes)
    best, best_weights, worse, curve = -np.inf, tuned.state_dict(), 0, []
    for step in range(1, config.max_steps + 1):
        rate = config.lr * min(1.0, step / config.warmup) * (1 - (step - 1) / config.max_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = _step(tuned, stream, step, config.seed)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        optimizer.step()
        if step % config.val_every and step < config.max_steps:
            continue
        score = _agreement(tuned, cells, val_rows)
        curve.append([step, round(loss.item(), 4), round(score, 4)])
        logger.info("step %d: loss %.4f, held-out drugs %.4f", *curve[-1])
        if score > best:
            best, worse = score, 0
            best_weights = {name: value.clone() for name, value in tuned.state_dict().items()}
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
            "pearson_held_out": round(best, 4),
            "curve": curve,
            "settings": asdict(config),
            "versions": versions(),
        }
    }
    return tuned


def predict_responses(
    model: DrugBert,
    features: pd.DataFrame | None = None,
    *,
    cell: str | Sequence[str] | None = None,
    dose: float | Sequence[float] | None = None,
    genes: Sequence[str] | None = None,
) -> ad.AnnData:
    """Predict the signature of each drug, known or not.

    Parameters
    ----------
    model
        From :func:`fit_responses`.
    features
        Drugs × features, a row per prediction; without drugs as a condition, None.
    cell, dose
        For all rows one, or one for each; None where the model has none.
    genes
        Genes to predict, by name; the whole panel by default.

    Returns
    -------
    Predictions × genes, with the conditions in ``obs``.

    Raises
    ------
    ValueError
        When a feature, cell, or gene is unknown to the model, a dose is not above 0, or the lengths differ.
    """
    cells = [cell] if isinstance(cell, str) else list(cell or [])
    doses = [dose] if isinstance(dose, int | float) else list(dose or [])
    lengths = {len(x) for x in (features if features is not None else [], cells, doses)} - {0, 1}
    n_rows = len(features) if features is not None else max(len(cells), len(doses), 1)
    if lengths - {n_rows} or n_rows == 0:
        msg = f"cell and dose name {len(cells)} and {len(doses)} conditions for {n_rows} drugs; give one, or one each."
        raise ValueError(msg)
    tokens_G = _tokens(model, genes)
    conditions: dict[str, Any] = {}
    obs = pd.DataFrame(index=[f"prediction{number}" for number in range(n_rows)])
    if features is not None:
        conditions["drug_BF"] = model.drug_features(features)
        obs["drug"] = features.index.astype(str).to_numpy()
    labels = {}
    if cells:
        labels["cell"] = torch.tensor([model.cell_code(one) for one in cells]).expand(n_rows)
        obs["cell"] = cells * (n_rows if len(cells) == 1 else 1)
    if doses:
        log_doses = [model.conditioned(dose=one).condition["log_dose"] for one in doses]
        conditions["log_dose_B"] = torch.tensor(log_doses, dtype=torch.float32).expand(n_rows)
        obs["dose"] = doses * (n_rows if len(doses) == 1 else 1)
    if not conditions and not labels:
        msg = "name a condition: features of drugs, cell or dose."
        raise ValueError(msg)
    values = _generate(model, tokens_G, conditions, labels, n_rows)
    return ad.AnnData(values, obs=obs, var=pd.DataFrame(index=model.vocab.symbols[tokens_G].astype(str)))


def draw_responses(
    predicted: ad.AnnData, measured: ad.AnnData, features: pd.DataFrame, *, n_draws: int = 5, spread: float = 0.5
) -> dict[str, np.ndarray]:
    """Make a distribution of each prediction: the prediction, moved as the signatures of the most similar drugs differ.

    A model fitted by squared error predicts a mean. How single signatures scatter around it is borrowed from measured
    ones: draw j is ``prediction + spread · (signature of neighbour j − mean of the neighbours)``; the mean over the
    draws is the prediction.

    Parameters
    ----------
    predicted
        From :func:`predict_responses`.
    measured
        Signatures of known drugs, with ``obs["drug"]`` and the genes of `predicted`.
    features
        Drugs × features of both; similarity is the cosine.
    n_draws
        Neighbours, and draws per prediction.
    spread
        0 repeats the prediction, 1 scatters as much as the neighbours. To be chosen on drugs that are not tested.

    Returns
    -------
    Drug → draws, shape (n_draws, n_genes).

    Raises
    ------
    ValueError
        When drugs have no features, genes are not measured, `n_draws` is more than the known drugs, or `spread` is
        below 0.
    """
    if missing := [gene for gene in predicted.var_names if gene not in measured.var_names]:
        msg = f"measured lacks {len(missing)} genes of predicted: {missing[:5]}; predict fewer (genes=...)."
        raise ValueError(msg)
    if not 1 <= n_draws <= measured.n_obs or not spread >= 0:
        msg = f"n_draws={n_draws} must be from 1 to the {measured.n_obs} signatures, spread={spread} 0 or above."
        raise ValueError(msg)
    near = nearest_drugs(features, predicted.obs["drug"], measured.obs["drug"], k=n_draws)
    known = np.asarray(measured[:, predicted.var_names].X)
    draws = {}
    for row, drug in enumerate(predicted.obs["drug"]):
        neighbours = known[near[row]]
        draws[str(drug)] = np.asarray(predicted.X[row] + spread * (neighbours - neighbours.mean(axis=0)))
    return draws


def nearest_drugs(features: pd.DataFrame, drugs: Sequence[str], known: Sequence[str], *, k: int = 5) -> np.ndarray:
    """The `k` most similar of some known drugs for each drug, by the cosine of their features.

    Parameters
    ----------
    features
        Drugs × features.
    drugs, known
        Names; every one has a row of `features`.
    k
        How many.

    Returns
    -------
    Positions in `known`, the nearest first, shape (n_drugs, k); a drug is never its own neighbour.

    Raises
    ------
    ValueError
        When a drug has no features, or fewer than `k` others are known.

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, 0], [0.9, 0.1], [0, 1]], index=["a", "b", "c"])
    >>> nearest_drugs(table, ["a"], ["c", "b"], k=1).tolist()
    [[1]]
    """
    from grnlab.data.drug_features import check_features

    table = check_features(features, drugs=list(dict.fromkeys([*drugs, *known])))
    unit = table / np.linalg.norm(table, axis=1, keepdims=True).clip(min=1e-12)
    alike = unit.loc[list(drugs)].to_numpy() @ unit.loc[list(known)].to_numpy().T
    same = np.asarray(list(drugs), dtype=object)[:, None] == np.asarray(list(known), dtype=object)
    alike[same] = -np.inf
    if (np.isfinite(alike).sum(axis=1) < k).any():
        msg = f"k={k} neighbours are asked for, but only {len(known)} known drugs are given (a drug is not its own)."
        raise ValueError(msg)
    return np.argsort(-alike, axis=1, kind="stable")[:, :k]


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
    predicted = _generate(model, tokens_G, cells.conditions(rows), labels, len(rows))
    true = cells.counts[rows][:, tokens_G].toarray()
    return float(np.mean([pearson(a, b)[0, 0] for a, b in zip(true, predicted, strict=True)]))


def _generate(
    model: DrugBert, tokens_G: np.ndarray, conditions: dict[str, Any], labels: dict[str, Tensor], n_rows: int
) -> np.ndarray:
    was_training = model.training
    model.eval()
    genes_G = torch.from_numpy(np.asarray(tokens_G, dtype=np.int64))
    made = []
    with torch.inference_mode():
        for start in range(0, n_rows, _SIGNATURES_PER_BATCH):
            rows = slice(start, min(start + _SIGNATURES_PER_BATCH, n_rows))
            genes_BT = genes_G.expand(rows.stop - start, -1)
            tokens = SignatureTokens(
                genes_BT=genes_BT,
                values_BT=torch.zeros(genes_BT.shape),
                totals_B=torch.zeros(len(genes_BT)),
                hidden_BT=torch.ones(genes_BT.shape, dtype=torch.bool),
                labels={name: codes[rows] for name, codes in labels.items()},
                **{name: values[rows] for name, values in conditions.items()},
                given=True,
            ).to(model.device)
            made.append(model.decode_values(model.encode(tokens), tokens).cpu().numpy())
    model.train(was_training)
    return np.concatenate(made)


def _tokens(model: DrugBert, genes: Sequence[str] | None) -> np.ndarray:
    if genes is None:
        return np.arange(len(model.vocab))
    tokens = [model.vocab.token(gene) for gene in genes]
    if unknown := [gene for gene, token in zip(genes, tokens, strict=True) if token is None]:
        msg = f"genes holds {unknown[:5]}, which the panel of {model.name} lacks ({len(unknown)} of {len(tokens)})."
        raise ValueError(msg)
    if len(set(tokens)) < len(tokens):
        msg = "genes names a gene twice; give each once."
        raise ValueError(msg)
    return np.array(tokens, dtype=np.int64)
