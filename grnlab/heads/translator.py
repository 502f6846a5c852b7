"""A small supervised model from what is known of a pair of genes to whether one regulates the other.

Penalised logistic regression on :class:`grnlab.heads.features.PairFeatures`: the idea of a translator on top of a
frozen model, kept so small that it can be read. :func:`grnlab.heads.fit_translator` makes one.

Shape suffixes: F features, R regulators, T targets.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grnlab._files import atomic_file
from grnlab._reading import read_json
from grnlab.attention import AttentionMaps, PairScores
from grnlab.heads.features import PairFeatures

logger = logging.getLogger(__name__)

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Translator:
    """Fitted translator.

    Attributes
    ----------
    names
        Features, in order.
    coef_F, intercept
        Of the logistic regression, float64.
    held_out
        A row per way of splitting, fold and group: pairs, true ones, and AUPRC ratio of the translator fitted without
        them (``translator``), of the unsupervised mean of the heads on the same pairs (``mean_of_heads``; NaN without
        attention among the features), and of the translator fitted with them (``in_sample``);
        ``translator_per_regulator`` and ``mean_per_regulator`` are mean AUROCs within regulators, which popular
        regulators cannot raise. Splits: ``"regulator"`` (unseen regulators), ``"regulator and target"`` (both genes
        of a pair unseen), ``"dataset"`` (an unseen data set, whose genes may have been seen elsewhere), ``"dataset and
        regulator"``.
    provenance
        Settings, data sets, gold standards, models.
    """

    names: tuple[str, ...]
    coef_F: np.ndarray
    intercept: float
    held_out: pd.DataFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        found = "; ".join(
            f"unseen {split}: {row['translator']:.3g} (mean of heads {row['mean_of_heads']:.3g})"
            for split, row in self.summary().iterrows()
        )
        return f"Translator({len(self.names)} features; AUPRC ratio on {found})"

    def summary(self) -> pd.DataFrame:
        """Mean of the held-out scores by split; every fold and group counts alike."""
        columns = ["translator", "mean_of_heads", "in_sample", "translator_per_regulator", "mean_per_regulator"]
        return self.held_out.groupby("split", sort=False)[columns].mean()

    def coefficients(self) -> pd.Series:
        """Coefficient of each feature, the largest in size first; a feature has the spread of a standard normal."""
        return pd.Series(self.coef_F, index=list(self.names)).sort_values(key=np.abs, ascending=False)

    def predict(self, features: PairFeatures) -> PairScores:
        """Score pairs of any data set.

        Parameters
        ----------
        features
            The features the translator was fitted on, see :func:`grnlab.heads.pair_features`.

        Returns
        -------
        Log odds, up to a constant, of every pair; the base rate of the training data is not that of others.

        Raises
        ------
        ValueError
            When the features are others.
        """
        if features.names != self.names:
            lacks = [name for name in self.names if name not in features.names]
            strange = [name for name in features.names if name not in self.names]
            msg = (
                f"features are not those the translator was fitted on: {len(lacks)} missing {lacks[:3]}, "
                f"{len(strange)} unknown {strange[:3]}" + ("." if lacks or strange else ", in another order.")
            )
            raise ValueError(msg)
        hashes = set(weights_of(features)) - set(self.provenance.get("weights_sha256", ()))
        if hashes and features.heads:
            logger.warning("the translator was fitted on heads of other weights than those of these features")
        groups, cells = {}, {}
        for name in features.groups:
            score_RT = np.tensordot(self.coef_F, features.block(name), axes=1) + self.intercept
            seen = features.seen(name)
            score_RT[~seen[features.regulators]] = np.nan
            score_RT[:, ~seen[features.targets]] = np.nan
            groups[name] = score_RT
            cells[name] = _n_cells(features, name)
        made = {"translator": dict(self.provenance), "weights_sha256": weights_of(features)}
        return PairScores(
            features.genes, features.regulators, features.targets, groups, cells, "translator", False, made
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write it as JSON.

        Parameters
        ----------
        path
            File to write.
        overwrite
            Replace an existing file.

        Raises
        ------
        FileExistsError
            When the file exists and `overwrite` is False.
        """
        content = {
            "format": _FORMAT,
            "kind": "grnlab translator",
            "intercept": self.intercept,
            "coefficients": dict(zip(self.names, self.coef_F.tolist(), strict=True)),
            "held_out": json.loads(self.held_out.to_json(orient="records", double_precision=6)),
            "provenance": dict(self.provenance),
        }
        with atomic_file(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Translator":
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError
            When the file is something else.
        """
        try:
            content = read_json(path)
            if (content["kind"], content["format"]) != ("grnlab translator", _FORMAT):
                msg = f"kind {content['kind']!r}, format {content['format']!r}"
                raise ValueError(msg)
            coefficients = {str(name): float(value) for name, value in content["coefficients"].items()}
            held_out = pd.DataFrame(content["held_out"], columns=COLUMNS)
            return cls(
                tuple(coefficients),
                np.array(list(coefficients.values())),
                float(content["intercept"]),
                held_out.astype({name: float for name in COLUMNS if name in _NUMBERS}),
                content["provenance"],
            )
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            msg = f"{path} is no translator of format {_FORMAT}: {error}. Give a file that Translator.save wrote."
            raise ValueError(msg) from error


_NUMBERS = (
    "base_rate", "translator", "mean_of_heads", "in_sample", "translator_per_regulator", "mean_per_regulator",
)  # fmt: skip
COLUMNS = ["split", "fold", "dataset", "group", "n_pairs", "n_true", *_NUMBERS]


def weights_of(features: PairFeatures) -> list[str]:
    """Hashes of the weights whose heads are features."""
    found = {
        str(source.provenance.get("weights_sha256", ""))
        for source in features.sources
        if isinstance(source, AttentionMaps)
    }
    return sorted(found)


def _n_cells(features: PairFeatures, group: str) -> int:
    first = features.sources[0]
    return first.group(group).n_cells if isinstance(first, AttentionMaps) else first.n_cells[group]
