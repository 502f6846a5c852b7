"""What is known of a pair of genes, as numbers that mean the same in every data set.

Every feature is ranked among all pairs of its group (or all genes, for features of one gene) and the ranks are spread
as a standard normal distribution, so what is learned of them on one data set can be used on another. Which gene it is
is never a feature; what gold standards tell of single genes is one where it is asked for (:class:`Popularity`).

Shape suffixes: F features, R regulators, T targets, G genes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scipy.special import ndtri

from grnlab.attention import AttentionMaps, PairScores
from grnlab.data.counts import counts_of
from grnlab.data.groups import cell_groups
from grnlab.evaluate import BASELINES
from grnlab.heads.popularity import Popularity

ATTENTION = "attention"  # mean of all heads, symmetrised: what stands beside anything learned
_OF_ONE_GENE = ("mean_counts", "fraction_expressed")
Source = AttentionMaps | PairScores


@dataclass(frozen=True, eq=False)
class PairFeatures:
    """Features of (regulator, target) pairs per group, made a group at a time; see :func:`pair_features`.

    Attributes
    ----------
    sources
        Attention maps and scores; the first one's table of genes counts.
    regulators, targets
        Rows of the table.
    heads, expression
        Whether the heads one by one, and the expression of both genes, are features.
    known
        Name → what gold standards tell of single genes.
    """

    sources: tuple[Source, ...]
    regulators: np.ndarray
    targets: np.ndarray
    heads: bool = True
    expression: bool = True
    known: Mapping[str, Popularity] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = f"{len(self.regulators):,} regulators × {len(self.targets):,} targets"
        return f"PairFeatures({len(self.names)} features of {sizes}; {', '.join(self.groups)})"

    @property
    def genes(self) -> pd.DataFrame:
        """Table of the genes, indexed by name."""
        return self.sources[0].genes

    @property
    def groups(self) -> list[str]:
        """Groups that every source has."""
        return [name for name in self.sources[0].groups if all(name in other.groups for other in self.sources)]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        found = []
        for source in self.sources:
            if isinstance(source, PairScores):
                found += [source.method, *([f"{source.method}, signed"] if source.signed else [])]
                continue
            found.append(ATTENTION)
            for layer, head in _heads(source) if self.heads else ():
                found += [f"target to regulator, layer {layer} head {head}"]
                found += [f"regulator to target, layer {layer} head {head}"]
        if self.expression:
            found += [f"{column} of the {role}" for role in ("regulator", "target") for column in _OF_ONE_GENE]
        return (*found, *self._known_names)

    @property
    def _known_names(self) -> list[str]:
        return [f"known regulators of the {role}, {name}" for name in self.known for role in ("target", "regulator")]

    def seen(self, group: str) -> np.ndarray:
        """Whether each gene was observed in a group by the first source: in at least five cells, bool of shape (G,)."""
        first = self.sources[0]
        if isinstance(first, AttentionMaps):
            return first.group(group).seen_G
        finite = np.isfinite(first.group(group))
        seen = np.zeros(len(self.genes), dtype=bool)
        seen[first.regulators[finite.any(axis=1)]] = True
        seen[first.targets[finite.any(axis=0)]] = True
        return seen

    def block(self, group: str) -> np.ndarray:
        """Features of all pairs of a group, float32, shape (F, R, T); 0, the middle, where not observed."""
        ranks = [normal_ranks(values) for values in self._raw(group)]
        return np.concatenate([np.stack(ranks), self.popularity(group)]) if self.known else np.stack(ranks)

    def popularity(self, group: str) -> np.ndarray:
        """The last of these features, from gold standards, (2 × known, R, T).

        They are standardised, not ranked: twice the known regulators should mean the same anywhere.
        """
        names = self.genes.index.to_numpy(dtype=object)
        seen = self.seen(group)
        found = []
        for popularity in self.known.values():
            for values in popularity.of(names[self.regulators], names[self.targets]):
                values[~seen[self.regulators]] = np.nan
                values[:, ~seen[self.targets]] = np.nan
                found.append(_standardised(values))
        return np.stack(found)

    def _raw(self, group: str) -> Iterator[np.ndarray]:
        for source in self.sources:
            if isinstance(source, PairScores):
                yield self._placed(source, source.strength(group))
                if source.signed:
                    yield self._placed(source, source.group(group))
            else:
                yield from self._attention(source, group)
        if self.expression:
            shape = (len(self.regulators), len(self.targets))
            table = self._expression(group)
            for axis, rows in enumerate((self.regulators, self.targets)):
                for column in _OF_ONE_GENE:
                    values = normal_ranks(table[column].to_numpy()[rows])
                    yield np.broadcast_to(values[:, None] if axis == 0 else values, shape)

    def _placed(self, source: PairScores, values: np.ndarray) -> np.ndarray:
        """Scores over the pairs of these features, NaN for genes the source does not have."""
        names, found = self.genes.index, []
        for mine, theirs in ((self.regulators, source.regulators), (self.targets, source.targets)):
            found.append(pd.Index(source.genes.index[theirs]).get_indexer(names[mine]))
        placed = values[np.ix_(*found)].copy()
        placed[found[0] < 0] = np.nan
        placed[:, found[1] < 0] = np.nan
        return placed

    def _attention(self, maps: AttentionMaps, group: str) -> Iterator[np.ndarray]:
        """Attention of the mean of heads, then of each in both directions; NaN for genes in too few cells."""
        rows = np.flatnonzero(maps.group(group).seen_G)
        own = pd.Index(maps.genes.index[rows])
        regulator, target = (own.get_indexer(self.genes.index[x]) for x in (self.regulators, self.targets))

        def pairs(dense_GG: np.ndarray) -> np.ndarray:
            """Rows of the map are targets."""
            values = dense_GG[np.ix_(target, regulator)].T.copy()
            values[regulator < 0] = np.nan
            values[:, target < 0] = np.nan
            return values

        yield pairs(maps.dense(group, rows=rows, symmetrize=True))
        for place in _heads(maps) if self.heads else ():
            weights_LH = torch.zeros(maps.spec.n_layers, maps.spec.n_heads)
            weights_LH[place] = 1.0
            dense_GG = maps.dense(group, weights_LH, rows=rows)
            yield pairs(dense_GG)
            yield pairs(dense_GG.T)

    def _expression(self, group: str) -> pd.DataFrame:
        for source in self.sources:
            if group in source.expression:
                return source.expression[group].reindex(self.genes.index)
        msg = f"no source has the expression of group {group!r}; set expression=False, or give AttentionMaps."
        raise ValueError(msg)


def pair_features(
    sources: Source | Sequence[Source],
    *,
    regulators: str | Collection[str] = "tf",
    heads: bool = True,
    expression: bool = True,
    known: Mapping[str, Popularity] | None = None,
) -> PairFeatures:
    """Gather what is known of pairs of genes, for :func:`grnlab.tl.fit_translator`.

    Parameters
    ----------
    sources
        Attention maps (:func:`grnlab.tl.attention`) and scores (:func:`grnlab.tl.read_out`, :func:`baseline_scores`),
        of the same groups. Genes are matched by name; those of the first source count.
    regulators
        ``"tf"``, the transcription factors of the table of genes; ``"all"``; or names, of which unknown ones are left
        out.
    heads
        Each head of the attention maps in both directions is a feature, besides their mean: what is learned then fits
        models with these very weights only. Fitted on few cells it did not carry over to other cells, where
        ``heads=False`` did better.
    expression
        The mean expression and the share of cells, of both genes, are features.
    known
        Name → :class:`Popularity`: how many regulators the target, and the regulator, have in gold standards is a
        feature. It knows no cells; beside a translator with it stands one of it alone.

    Raises
    ------
    ValueError
        When there is no source, no group is common, two features have one name, or no regulator is left.

    Examples
    --------
    >>> import grnlab as gl
    >>> maps = gl.tl.attention(gl.datasets.pbmc68k()[:40], gl.load_model("grnlab-small"), genes=50)
    >>> pair_features(maps)
    PairFeatures(37 features of 25 regulators × 50 targets; all)
    """
    sources = (sources,) if isinstance(sources, AttentionMaps | PairScores) else tuple(sources)
    if not sources:
        msg = "sources is empty; give AttentionMaps or PairScores."
        raise ValueError(msg)
    genes = sources[0].genes
    if isinstance(regulators, str):
        if regulators not in ("tf", "all"):
            msg = f"regulators={regulators!r} is unknown; choose 'tf', 'all' or give names."
            raise ValueError(msg)
        chosen = np.ones(len(genes), dtype=bool) if regulators == "all" else genes["is_tf"].to_numpy(dtype=bool)
    else:
        chosen = genes.index.isin(list(regulators))
    first = sources[0]
    targets = first.targets if isinstance(first, PairScores) else np.arange(len(genes))
    if isinstance(first, PairScores):
        chosen = chosen & np.isin(np.arange(len(genes)), first.regulators)
    found = PairFeatures(sources, np.flatnonzero(chosen), targets, heads, expression, dict(known or {}))
    if not chosen.any() or not found.groups:
        msg = f"{int(chosen.sum())} regulators and {len(found.groups)} common groups are left; both need at least one."
        raise ValueError(msg)
    if len(set(found.names)) < len(found.names):
        twice = sorted({name for name in found.names if found.names.count(name) > 1})
        msg = f"sources give the features {twice[:3]} twice; rename one (dataclasses.replace(scores, method=...))."
        raise ValueError(msg)
    return found


def baseline_scores(
    adata: ad.AnnData,
    maps: AttentionMaps | PairScores,
    *,
    method: str = "pearson",
    groupby: str | None = None,
    layer: str | None = None,
) -> PairScores:
    """Scores of a baseline (correlation, ...) over the genes and groups of attention maps.

    Parameters
    ----------
    adata
        The counts the maps were made from; scaled to 10,000 per cell and log1p here.
    maps
        Attention maps, or scores of a read-out: they say which genes and groups.
    method
        One of :data:`grnlab.evaluate.BASELINES`.
    groupby
        The column of ``adata.obs`` the maps were grouped by.
    layer
        Layer that holds the counts; ``X`` by default.

    Raises
    ------
    ValueError
        When `maps` are none, the method is unknown, or a group or gene of the maps is not in `adata`.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> maps = gl.tl.attention(adata, gl.load_model("grnlab-small"), genes=50)
    >>> baseline_scores(adata, maps)
    PairScores('pearson': 50 regulators × 50 targets; all (40 cells))
    """
    if not isinstance(maps, AttentionMaps | PairScores):
        msg = (
            f"maps is {maps!r:.80}; expected attention maps (grnlab.tl.attention) or scores, whose genes and groups "
            "the baseline is computed for. The baseline is named by method."
        )
        raise ValueError(msg)
    if method not in BASELINES:
        msg = f"method={method!r} is unknown; choose among {', '.join(BASELINES)}."
        raise ValueError(msg)
    columns = adata.var_names.get_indexer(maps.genes["name_in_data"])
    if (columns < 0).any():
        msg = f"adata lacks {int((columns < 0).sum())} genes of the maps; give the cells the maps were made from."
        raise ValueError(msg)
    counts = counts_of(adata, layer=layer)
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    scaled = sp.csr_matrix(sp.diags(1e4 / totals) @ counts)[:, columns].log1p()
    cells = cell_groups(adata, groupby, min_cells=1, skip_small=True)
    if missing := [name for name in maps.groups if name not in cells]:
        msg = (
            f"adata has no cells of the groups {missing} (groupby={groupby!r}); it has {list(cells)}. Give the cells "
            f"and the groupby of the maps ({maps.provenance.get('groupby') or None!r})."
        )
        raise ValueError(msg)
    every = np.arange(len(columns))
    groups = {name: BASELINES[method](scaled[cells[name]].toarray(), every, every) for name in maps.groups}
    n_cells = {name: len(cells[name]) for name in maps.groups}
    made = {"method": method, "groupby": groupby or ""}
    return PairScores(maps.genes, every, every, groups, n_cells, method, False, made, maps.expression)


def normal_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks spread as a standard normal distribution, ties averaged, float32; NaN becomes 0, the middle.

    Examples
    --------
    >>> normal_ranks(np.array([5.0, 1.0, np.nan, 3.0])).round(2).tolist()
    [0.9700000286102295, -0.9700000286102295, 0.0, 0.0]
    """
    found = np.zeros(np.shape(values), dtype=np.float32)
    seen = ~np.isnan(values)
    if seen.any():
        found[seen] = ndtri((_average_ranks(values[seen]) - 0.5) / seen.sum())
    return found


def _standardised(values: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1, float32; NaN becomes 0."""
    if not np.isfinite(values).any() or not (spread := np.nanstd(values)) > 0:
        return np.zeros(values.shape, dtype=np.float32)
    found: np.ndarray = np.nan_to_num((values - np.nanmean(values)) / spread).astype(np.float32)
    return found


def _average_ranks(values: np.ndarray) -> np.ndarray:
    """What scipy.stats.rankdata gives, in a third of its time: a data set has tens of features of millions of pairs."""
    order = np.argsort(values)
    in_order = values[order]
    edges = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1], [True]]))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((edges[:-1] + edges[1:] + 1) / 2, np.diff(edges))
    return ranks


def _heads(maps: AttentionMaps) -> list[tuple[int, int]]:
    return [(layer, head) for layer in range(maps.spec.n_layers) for head in range(maps.spec.n_heads)]
