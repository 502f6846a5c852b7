"""Rank ensembles: several read-outs and baselines of the same pairs as one score, without any fitting."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from grnlab.attention.pair_scores import PairScores

HOW = ("mean_rank", "reciprocal_rank", "mean_score")
Member = PairScores | np.ndarray | Mapping[str, np.ndarray]


def combine_scores(members: Sequence[Member], *, how: str = "mean_rank", k: float = 60.0) -> PairScores:
    """Combine scores of the same pairs by their ranks, so that no unit and no outlier of one decides.

    Pairs are ranked within each group over the regulators and targets that every member has, found by name. A pair that
    a member has not observed (NaN) is last there; one that none has observed stays NaN.

    Parameters
    ----------
    members
        At least two: :class:`grnlab.attention.PairScores`, or plain arrays of shape (R, T) over the regulators and
        targets of the first `PairScores` (a baseline such as those of :data:`grnlab.evaluate.BASELINES`), or mappings
        from its groups to such arrays. The sign of a plain array is no sign of an edge: larger is stronger.
    how
        ``"mean_rank"``: mean over the members of the rank, 0 the weakest, 1 the strongest pair; what most agree on.
        ``"reciprocal_rank"``: sum of 1 / (k + place), place 1 the strongest (Cormack et al. 2009,
        doi:10.1145/1571941.1572114); what is near the top of any.
        ``"mean_score"``: mean of the scores, each with mean 0 and variance 1; for members whose size means something,
        such as :func:`known_scores`, most of which are 0.
    k
        Places that ``"reciprocal_rank"`` hardly tells apart at the top.

    Returns
    -------
    Scores over the common pairs and the groups of the first `PairScores` that all have. When members are signed, the
    sign is that of the sum of their signed ranks.

    Raises
    ------
    ValueError
        When there are fewer than two members or no `PairScores`, shapes do not fit, or no pair or group is common.

    Examples
    --------
    >>> import pandas as pd
    >>> genes = pd.DataFrame({"is_tf": True}, index=["A", "B", "C"])
    >>> scores = PairScores(genes, np.array([0]), np.array([1, 2]), {"all": np.array([[1.0, 2.0]])}, {"all": 9},
    ...     method="jacobian")
    >>> combine_scores([scores, np.array([[0.3, 0.1]]), np.array([[0.0, 5.0]])]).group("all").round(2)
    array([[0.33, 0.67]], dtype=float32)
    """
    if how not in HOW:
        msg = f"how={how!r} is unknown; choose among {', '.join(map(repr, HOW))}."
        raise ValueError(msg)
    if not k >= 0:
        msg = f"k={k} must be 0 or above."
        raise ValueError(msg)
    named = [member for member in members if isinstance(member, PairScores)]
    if len(members) < 2 or not named:
        msg = (
            f"members holds {len(members)} scores, {len(named)} of them PairScores; give two or more, and one "
            "PairScores that names the genes."
        )
        raise ValueError(msg)
    first = named[0]
    wrapped = [m if isinstance(m, PairScores) else _like(first, m, number) for number, m in enumerate(members)]
    groups = [name for name in first.groups if all(name in member.groups for member in wrapped)]
    if not groups:
        msg = f"no group is common to all members; they have {[list(member.groups) for member in wrapped]}."
        raise ValueError(msg)
    parts = _common(first, wrapped)
    combined = {name: _combine([part[name] for part in parts["groups"]], how, k) for name in groups}
    return replace(
        first,
        regulators=parts["regulators"],
        targets=parts["targets"],
        groups={name: score for name, (score, _) in combined.items()},
        n_cells={name: min(member.n_cells[name] for member in wrapped) for name in groups},
        method=f"{how} of {', '.join(member.method for member in wrapped)}",
        signed=any(signed for _, signed in combined.values()),
        provenance={
            "how": how,
            "members": [{"method": member.method, **dict(member.provenance)} for member in wrapped],
        },
    )


def _like(first: PairScores, member: np.ndarray | Mapping[str, np.ndarray], number: int) -> PairScores:
    """Plain arrays as scores over the pairs of the first."""
    groups = dict(member) if isinstance(member, Mapping) else dict.fromkeys(first.groups, member)
    shape = (len(first.regulators), len(first.targets))
    for name, values in groups.items():
        if np.shape(values) != shape:
            msg = (
                f"members[{number}] has shape {np.shape(values)} for group {name!r}; expected {shape}, the regulators "
                "× targets of the first PairScores."
            )
            raise ValueError(msg)
    n_cells = {name: first.n_cells.get(name, 0) for name in groups}
    return replace(
        first, groups=groups, n_cells=n_cells, method=f"array {number}", signed=False, provenance={}, expression={}
    )


def _common(first: PairScores, members: Sequence[PairScores]) -> dict[str, Any]:
    """Regulators and targets of the first that all members have, and the scores of each member over them."""
    names = first.genes.index
    rows = {}
    for role in ("regulators", "targets"):
        have = [set(member.genes.index[getattr(member, role)]) for member in members]
        own = getattr(first, role)
        rows[role] = own[[all(gene in names_of for names_of in have) for gene in names[own]]]
    regulators, targets = rows["regulators"], rows["targets"]
    if not len(regulators) or not len(targets):
        msg = (
            f"the members have {len(regulators)} regulators and {len(targets)} targets in common, by name; both "
            "need at least one."
        )
        raise ValueError(msg)
    places = [
        np.ix_(_places(member, "regulators", names[regulators]), _places(member, "targets", names[targets]))
        for member in members
    ]
    groups = [
        {name: (scores[place], member.signed) for name, scores in member.groups.items()}
        for member, place in zip(members, places, strict=True)
    ]
    return {"regulators": regulators, "targets": targets, "groups": groups}


def _places(member: PairScores, role: str, names: pd.Index) -> np.ndarray:
    return pd.Index(member.genes.index[getattr(member, role)]).get_indexer(names)


def _combine(parts: Sequence[tuple[np.ndarray, bool]], how: str, k: float) -> tuple[np.ndarray, bool]:
    """Combined strength, with a sign when any member has one."""
    seen = np.any([~np.isnan(scores) for scores, _ in parts], axis=0)
    total, sign, any_sign = np.zeros(seen.shape), np.zeros(seen.shape), False
    for scores, signed in parts:
        strength = np.where(np.isnan(scores), -np.inf, np.abs(scores) if signed else scores)[seen]
        if how == "mean_score":
            total[seen] += _standardised(strength) / len(parts)
            continue
        place = rankdata(-strength)  # 1 the strongest, ties averaged
        mean_rank = how == "mean_rank"
        value = (len(place) - place) / max(len(place) - 1, 1) / len(parts) if mean_rank else 1 / (k + place)
        total[seen] += value
        if signed:
            any_sign = True
            sign[seen] += value * np.sign(np.nan_to_num(scores[seen]))
    total[~seen] = np.nan
    if how == "mean_score":  # below 0 is weak, not negative
        return total, False
    return (np.where(sign < 0, -total, total) if any_sign else total), any_sign


def _standardised(strength: np.ndarray) -> np.ndarray:
    """Mean 0, variance 1; what is not observed gets the lowest."""
    finite = np.isfinite(strength)
    if not finite.any() or not (spread := strength[finite].std()) > 0:
        return np.zeros(len(strength))
    filled = np.where(finite, strength, strength[finite].min())
    found: np.ndarray = (filled - strength[finite].mean()) / spread
    return found
