"""Expression of cells at any depth: the model's profile of a cell, weighed against what was counted.

Shape suffixes: B cells, G genes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp

from grnlab.backbones.base import Backbone
from grnlab.data.counts import check_adata
from grnlab.tasks._cells import AlignedCells
from grnlab.tasks._decode import Embeddings, ProfileDecoder, check_decoder, chunks, embed_to_decode, rows_of
from grnlab.tasks._slots import check_slots, sign_slots
from grnlab.tasks._stream import run_cells

_STRENGTHS = 10.0 ** np.arange(2.0, 6.01, 0.25)
_CELLS_TO_WEIGH = 256


def denoise(
    adata: ad.AnnData,
    model: Backbone,
    *,
    target_depth: float | np.ndarray | None = None,
    neighbors: int = 10,
    n_samples: int = 0,
    layer: str | None = None,
    key: str = "denoised",
    seed: int = 0,
    out: str | Path | None = None,
) -> None:
    """Write the expected expression of every gene at a requested depth, and the counts most likely seen there.

    The decoder of the model gives a profile of the whole genome from the embedding of each cell alone. It is the prior
    of a gamma-Poisson (Dirichlet-multinomial) model; what was counted updates it (as in SAVER [2]_):

    - with `neighbors`, counts of the cell and of its nearest cells in the embedding. What the prior weighs, in counts,
      is chosen on these cells: it makes the counts of cells likeliest that were left out of their own neighbourhood;
    - with ``neighbors=0`` the cell stands alone, as in scPRINT [1]_, with dispersion and zero inflation of the decoder.

    Written are

    - ``layers["denoised"]``: expected expression, scaled to a total of `target_depth`. Dense: every gene has some. This
      is what to compare genes and cells by.
    - ``layers["denoised_counts"]``: counts of the same library sequenced deeper, sparse: what was counted, plus the
      expected rest rounded. It keeps zeros that are likely to stay zeros.
    - ``layers["denoised_sample1"]`` …: counts drawn from the posterior at that depth.
    - ``var["denoised"]``: False for genes the model does not know. They keep their share of the counts, scaled.

    The counts that were given are not touched.

    Parameters
    ----------
    adata
        Counts, in memory or opened with ``backed="r"``.
    model
        A backbone with a decoder of cells (objective ``mvc``) and counts, as ``"grnlab-small"``.
    target_depth
        Total to make, one for all cells or one for each; the largest total of the cells by default. Never below what a
        cell has.
    neighbors
        Cells whose counts are pooled, the cell itself among them; 0 for the cell alone.
    n_samples
        Samples to draw.
    layer
        Layer that holds the counts; ``X`` by default.
    key
        First part of the names of the slots; they must be free, or written by this verb.
    seed
        Of the samples.
    out
        Folder for finished blocks: a killed run goes on where it stopped, and the dense layers are then maps of files
        there.

    Raises
    ------
    ValueError
        When `target_depth` is 0, not finite, or below the counts of a cell, the model cannot decode, there are fewer
        cells than `neighbors`, a slot is taken, or as :func:`embed`.

    References
    ----------
    .. [1] Kalfon et al. 2025, scPRINT, doi:10.1038/s41467-025-58699-1 (a cell alone, at a depth that is asked for).
    .. [2] Huang et al. 2018, SAVER, doi:10.1038/s41592-018-0033-z (posterior of counts under a predicted prior).

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:20].copy()
    >>> gl.tl.denoise(adata, gl.load_model("grnlab-small"), target_depth=10_000, neighbors=5)
    >>> adata.layers["denoised"].sum(1).round()[:2], bool((adata.layers["denoised_counts"] < adata.X).nnz)
    (array([10000., 10000.], dtype=float32), False)
    """
    check_adata(adata)
    _check_settings(adata, neighbors=neighbors, n_samples=n_samples, depth=target_depth)
    check_decoder(model)
    slots = [key, f"{key}_counts", *(f"{key}_sample{number}" for number in range(1, n_samples + 1))]
    check_slots(adata, key, task="denoise", layers=slots, counts=layer)
    folders = (None, None) if out is None else (Path(out) / "embed", Path(out) / "denoise")
    cells, embeddings = embed_to_decode(adata, model, layer=layer, out=folders[0])
    depth_B = _depths(adata, cells, target_depth)
    decoder = ProfileDecoder(model, cells.tokens)
    nearest = _nearest(embeddings, neighbors) if neighbors else None
    strength = _strength(cells, embeddings, decoder, nearest) if nearest is not None else None

    def of_block(counts: sp.csr_matrix, rows: slice) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        whole = cells.read_all_genes(rows)
        for numbers in chunks(rows):
            within = numbers - rows.start
            prior_BG, theta_BG, zero_BG = _prior(decoder, rows_of(embeddings, numbers))
            if nearest is None:
                shape_BG, rate_B1 = _alone(counts[within].toarray(), prior_BG, theta_BG, zero_BG)
            else:
                assert strength is not None
                pooled_BG, pooled_B = _pool(cells, nearest[numbers])
                shape_BG = strength * prior_BG + pooled_BG
                rate_B1 = np.full((len(numbers), 1), strength) + pooled_B[:, None]
            yield within, _slots(
                key, whole[within], shape_BG, rate_B1,
                columns=cells.columns, totals=cells.totals[numbers], depths=depth_B[numbers],
                generators=[np.random.default_rng([seed, number]) for number in numbers] if n_samples else [],
                n_samples=n_samples,
            )  # fmt: skip

    settings: dict[str, Any] = {"neighbors": neighbors, "n_samples": n_samples, "seed": seed, "key": key}
    run = settings | {"depths": depth_B.tolist() if np.ptp(depth_B) else depth_B[0], "layout": cells.layout}
    dense = run_cells(cells, of_block, desc="denoise", settings=run, out=folders[1])
    counts_layer = _deeper_counts(cells, dense[key], depth_B)
    adata.layers.update(dense)
    adata.layers[f"{key}_counts"] = counts_layer
    adata.var[key] = np.isin(np.arange(adata.n_vars), cells.columns)
    settings |= {"depths": sorted({float(depth_B.min()), float(depth_B.max())}), "weight_of_the_prior": strength}
    sign_slots(adata, key, cells.provenance | {"task": "denoise"} | settings, layers=slots)


def _check_settings(adata: ad.AnnData, *, neighbors: int, n_samples: int, depth: Any) -> None:
    for name, value in (("neighbors", neighbors), ("n_samples", n_samples)):
        if not isinstance(value, int | np.integer):
            msg = f"{name}={value!r} must be a whole number."
            raise ValueError(msg)
    if not 0 <= neighbors <= adata.n_obs or neighbors == 1:
        msg = f"neighbors={neighbors} must be 0 (a cell alone) or from 2 to the number of cells, {adata.n_obs}."
        raise ValueError(msg)
    if n_samples < 0:
        msg = f"n_samples={n_samples} must be 0 or above."
        raise ValueError(msg)
    if depth is not None:
        depths = np.asarray(depth, dtype=np.float64)
        if depths.shape not in ((), (adata.n_obs,)):
            msg = f"target_depth has shape {depths.shape}; give one number, or one for each of {adata.n_obs} cells."
            raise ValueError(msg)
        if not (np.isfinite(depths).all() and (depths > 0).all()):
            msg = f"target_depth={depth!r:.60} must be finite and above 0."
            raise ValueError(msg)


def _depths(adata: ad.AnnData, cells: AlignedCells, target: float | np.ndarray | None) -> np.ndarray:
    if target is None:
        return np.full(len(cells), cells.totals.max(), dtype=np.float64)
    depth_B = np.broadcast_to(np.asarray(target, dtype=np.float64), len(cells)).copy()
    below = np.flatnonzero(depth_B < cells.totals)
    if len(below):
        worst = below[np.argmax(cells.totals[below])]
        msg = (
            f"target_depth is below the counts of {len(below)} cells ({adata.obs_names[worst]!r} has "
            f"{cells.totals[worst]:,.0f}); ask for {cells.totals.max():,.0f} or more, or take counts away with "
            "scanpy.pp.downsample_counts."
        )
        raise ValueError(msg)
    return depth_B


def _nearest(embeddings: Embeddings, neighbors: int) -> np.ndarray:
    """Numbers of the nearest cells, the cell itself first."""
    from sklearn.neighbors import NearestNeighbors

    joined = np.concatenate([np.asarray(x_BM) for x_BM in embeddings.values()], axis=1)
    found = NearestNeighbors(n_neighbors=neighbors - 1).fit(joined).kneighbors(return_distance=False)
    return np.concatenate([np.arange(len(joined))[:, None], found], axis=1)


def _prior(decoder: ProfileDecoder, embeddings: Embeddings) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Shares of the counts, inverse dispersions and chances of a lost gene, each (B, G) or broadcast to it."""
    said = decoder(embeddings)
    assert said.log_theta_BT is not None
    zero = None if said.zero_logit_BT is None else said.zero_logit_BT.sigmoid().cpu().numpy()
    return said.mean_BT.cpu().numpy(), said.log_theta_BT.exp().cpu().numpy(), zero


def _alone(
    counts_BG: np.ndarray, prior_BG: np.ndarray, theta_BG: np.ndarray, zero_BG: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Shape and rate of the gamma posterior of a cell alone; a gene that was lost says nothing and keeps its mean."""
    total_B1 = counts_BG.sum(1, keepdims=True)
    mean_BG = prior_BG * total_B1
    expected_BG = mean_BG * (theta_BG + counts_BG) / (theta_BG + mean_BG)
    if zero_BG is not None:
        silent_BG = (1 - zero_BG) * (theta_BG / (theta_BG + mean_BG)) ** theta_BG
        lost_BG = np.where(counts_BG == 0, zero_BG / (zero_BG + silent_BG + 1e-30), 0.0)
        expected_BG = lost_BG * mean_BG + (1 - lost_BG) * expected_BG
    rate_BG = (theta_BG + mean_BG) / mean_BG.clip(1e-30) * total_B1
    return expected_BG / total_B1 * rate_BG, rate_BG


def _pool(cells: AlignedCells, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Summed counts of neighbourhoods (B, G), and their totals."""
    wanted, place = np.unique(nearest, return_inverse=True)
    place = place.reshape(nearest.shape)
    rows = np.repeat(np.arange(len(nearest)), nearest.shape[1])
    sums = sp.csr_matrix((np.ones(rows.size, dtype=np.float32), (rows, place.ravel())), (len(nearest), len(wanted)))
    pooled_BG = (sums @ cells.read(wanted)).toarray()
    return pooled_BG, pooled_BG.sum(1)


def _strength(cells: AlignedCells, embeddings: Embeddings, decoder: ProfileDecoder, nearest: np.ndarray) -> float:
    """Weight of the prior, in counts, that makes cells likeliest which are left out of their neighbourhood."""
    chosen = np.unique(np.linspace(0, len(cells) - 1, _CELLS_TO_WEIGH).astype(int))
    gains = np.zeros(len(_STRENGTHS))
    for start in range(0, len(chosen), 64):
        numbers = chosen[start : start + 64]
        prior_BG = _prior(decoder, rows_of(embeddings, numbers))[0]
        pooled_BG, pooled_B = _pool(cells, nearest[numbers, 1:])
        own = cells.read(numbers).tocoo()
        prior_E, pooled_E, total_E = prior_BG[own.row, own.col], pooled_BG[own.row, own.col], pooled_B[own.row]
        for place, strength in enumerate(_STRENGTHS):
            gains[place] += own.data @ np.log((strength * prior_E + pooled_E) / (strength + total_E))
    return float(_STRENGTHS[gains.argmax()])


def _slots(
    key: str,
    whole: sp.csr_matrix,
    shape_BG: np.ndarray,
    rate_BG: np.ndarray,
    *,
    columns: np.ndarray,
    totals: np.ndarray,
    depths: np.ndarray,
    generators: list[np.random.Generator],
    n_samples: int,
) -> dict[str, np.ndarray]:
    """Rows of the dense layers, all genes of the data."""
    observed_BG = whole.toarray() / totals[:, None]
    known_B1 = observed_BG[:, columns].sum(1, keepdims=True)  # share of the counts that genes of the model have

    def filled(rates_BG: np.ndarray) -> np.ndarray:
        rates_BG = rates_BG / rates_BG.sum(1, keepdims=True) * known_B1
        full = observed_BG * depths[:, None]
        full[:, columns] = rates_BG * depths[:, None]
        return full

    found = {key: filled(shape_BG / rate_BG).astype(np.float32)}
    for number in range(1, n_samples + 1):
        drawn_BG = np.stack([rng.standard_gamma(row) for rng, row in zip(generators, shape_BG, strict=True)])
        rates_BG = filled(drawn_BG / rate_BG)
        counts = [rng.poisson(row) for rng, row in zip(generators, rates_BG, strict=True)]
        found[f"{key}_sample{number}"] = np.stack(counts).astype(np.float32)
    return found


def _deeper_counts(cells: AlignedCells, expected_BG: np.ndarray, depths: np.ndarray) -> sp.csr_matrix:
    """What was counted, plus the expected counts of the reads not yet made, rounded."""
    parts = []
    for rows in cells.blocks():
        for numbers in chunks(rows):
            rest_B1 = ((depths[numbers] - cells.totals[numbers]) / depths[numbers])[:, None]
            more = sp.csr_matrix(np.rint(np.asarray(expected_BG[numbers]) * rest_B1).astype(np.float32))
            parts.append(cells.read_all_genes(slice(numbers[0], numbers[-1] + 1)) + more)
    return sp.csr_matrix(sp.vstack(parts, format="csr"))
