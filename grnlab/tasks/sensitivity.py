"""Which single cells are sensitive to a drug: labels from the responses of their lines, and tests that are fair.

All cells of a line share one label. A split of cells at random therefore asks which line a cell is of, which is easy;
what a drug does to a line that was never seen is asked by holding out lines, a sensitive and a resistant one each time.
"""

from itertools import product
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from grnlab.tasks._targets import few_shot
from grnlab.tasks.scores import classification_scores

LABELS = ("resistant", "sensitive")


def label_sensitivity(
    adata: ad.AnnData, responses: pd.DataFrame, *, drug: str, line: str, key: str = "sensitivity"
) -> None:
    """Write whether the line of each cell is sensitive to a drug into ``adata.obs``.

    Parameters
    ----------
    adata
        Cells.
    responses
        One row per cell line, one column per drug, the smaller the more sensitive (ln IC50); best of many more lines
        than `adata` has.
    drug
        Column of `responses`.
    line
        Column of ``adata.obs`` with names of rows of `responses`.
    key
        Column to write: ``"sensitive"`` where the response lies below the median of all lines, else ``"resistant"``;
        missing where it was not measured.

    Raises
    ------
    ValueError
        When the drug, the column or all lines are unknown, `responses` names a line twice, or `key` is `line`.

    Examples
    --------
    >>> adata = ad.AnnData(np.ones((3, 1)), obs=pd.DataFrame({"line": list("ABC")}, index=list("xyz")))
    >>> label_sensitivity(adata, pd.DataFrame({"drug": [1.0, 2, 3]}, index=list("ABD")), drug="drug", line="line")
    >>> adata.obs["sensitivity"].tolist()
    ['sensitive', 'resistant', nan]
    """
    if drug not in responses:
        msg = f"drug={drug!r} is no column of responses; there are {responses.shape[1]}, as {list(responses)[:5]}."
        raise ValueError(msg)
    if line not in adata.obs:
        msg = f"line={line!r} is not a column of adata.obs; there are {list(map(str, adata.obs.columns))}."
        raise ValueError(msg)
    if key == line:
        msg = f"key={key!r} would overwrite the names of the lines; choose another."
        raise ValueError(msg)
    known = responses[drug].dropna()
    if known.index.has_duplicates:
        msg = f"responses names lines more than once: {list(known.index[known.index.duplicated()][:5])}; average them."
        raise ValueError(msg)
    names = adata.obs[line].astype(str)
    if not names.isin(known.index).any():
        msg = f"responses to {drug!r} has none of the lines {sorted(set(names))[:5]} of adata.obs[{line!r}]."
        raise ValueError(msg)
    is_sensitive = known < known.median()
    label = is_sensitive.map({True: LABELS[1], False: LABELS[0]})
    adata.obs[key] = pd.Categorical(names.map(label), categories=list(LABELS))


def sensitivity_scores(
    features: np.ndarray,
    sensitive: np.ndarray,
    lines: np.ndarray,
    *,
    hold_out: str = "cell_lines",
    share: float = 1.0,
    seed: int = 0,
) -> dict[str, float]:
    """How well a logistic regression on features of cells tells sensitive from resistant ones.

    Parameters
    ----------
    features
        Of each cell: an embedding, components of the expression; shape (n_cells, n_features).
    sensitive
        Whether the line of each cell is sensitive, bool.
    lines
        Line of each cell.
    hold_out
        ``"cells"``: a fifth of the cells of every line, the easy question. ``"cell_lines"``: every pair of a sensitive
        and a resistant line in turn; the scores are means over pairs.
    share
        Share of the training cells to learn from.
    seed
        Of the draws.

    Returns
    -------
    ``auroc, f1, accuracy, macro_f1`` and ``n_tests``, the number of pairs of lines (1 for cells).

    Raises
    ------
    ValueError
        When `hold_out` is unknown, or too few lines are sensitive or resistant: one of each, and to hold out lines two;
        when `sensitive` is no bool for each cell, or a line has cells of both kinds.
    """
    if hold_out not in ("cells", "cell_lines"):
        msg = f"hold_out={hold_out!r} is unknown; choose 'cells' or 'cell_lines'."
        raise ValueError(msg)
    features, sensitive, lines = np.asarray(features), np.asarray(sensitive), np.asarray(lines)
    if sensitive.dtype != bool or not len(features) == len(sensitive) == len(lines):
        msg = (
            f"sensitive has dtype {sensitive.dtype}, and there are {len(features)}, {len(sensitive)} and {len(lines)} "
            "rows of features, labels and lines; give True or False and a line for each cell."
        )
        raise ValueError(msg)
    by_line = pd.Series(sensitive).groupby(lines)
    of_line = by_line.first()
    if len(mixed := of_line.index[by_line.min() != by_line.max()]):
        msg = f"sensitive differs among the cells of the lines {list(mixed[:5])}; the cells of a line share one label."
        raise ValueError(msg)
    groups = {label: list(of_line.index[of_line == (label == LABELS[1])]) for label in LABELS}
    needed = 1 if hold_out == "cells" else 2
    if short := {label: names for label, names in groups.items() if len(names) < needed}:
        msg = f"hold_out={hold_out!r} needs {needed} lines that are sensitive and as many resistant; there are {short}."
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    if hold_out == "cells":
        tests = [np.isin(np.arange(len(lines)), few_shot(lines, 0.2, seed=seed))]
    else:
        tests = [np.isin(lines, pair) for pair in product(*groups.values())]
    found = []
    for test in tests:
        train = np.flatnonzero(~test)
        train = train[few_shot(lines[train], share, seed=int(rng.integers(1 << 31)))]
        probability = _logistic(features[train], sensitive[train]).predict_proba(features[test])
        found.append(classification_scores(sensitive[test].astype(int), probability, LABELS))
    table = pd.DataFrame(found)
    means: dict[str, Any] = table[["auroc", "f1", "accuracy", "macro_f1"]].mean().to_dict()
    return means | {"n_tests": float(len(tests))}


def _logistic(features: np.ndarray, sensitive: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=300)
    return make_pipeline(StandardScaler(), model).fit(features, sensitive)
