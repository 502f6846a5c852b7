"""Read-outs from the attention of single cells: the maps themselves, value-weighted norms, attention × gradient.

Shape suffixes: B one cell, T tokens, P prefix tokens, H heads, D head dimension, M model dimension, L layers.
"""

from collections.abc import Callable, Iterator

import torch
from grnlab_kernels import MapOptions, cell_mean_map, combine_map
from torch import Tensor

from grnlab.attention.cell import Block, Cell
from grnlab.attention.config import ReadOutConfig
from grnlab.backbones.base import AttentionSpec, Backbone
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import count_loss

Layer = tuple[Tensor, Tensor, Tensor, Tensor]


def attention_cells(model: Backbone, cell: Cell, config: ReadOutConfig) -> Iterator[Block]:
    """Attention of the cell itself, mean over layers and heads, symmetrised; one forward.

    The mean over cells of this is the true mean attention, while ``"attention"`` is the attention of mean queries and
    keys. Special tokens leave before rows are normalised.
    """
    spec, seen = model.attention, _Seen()
    with torch.inference_mode():
        model.record_qk(cell.tokens, record=seen.queries_keys)
        q_BHTD, k_BHTD = (
            torch.cat([layer[part][:, spec.n_prefix :].transpose(1, 2) for layer in seen.layers], dim=1).contiguous()
            for part in (0, 1)
        )
        n_tokens, device = q_BHTD.shape[2], q_BHTD.device
        weights_H = torch.ones(q_BHTD.shape[1], device=device)
        if spec.arithmetic == "kernel":
            map_TT, _ = combine_map(q_BHTD[0], k_BHTD[0], weights_H, MapOptions(spec.scale, kind=spec.arithmetic))
        else:
            map_TT = torch.zeros(n_tokens, n_tokens, device=device)
            cell_mean_map(q_BHTD, k_BHTD, weights_H, map_TT, scale=spec.scale)
        map_TT = (map_TT + map_TT.T) / 2
    yield _block(cell, map_TT)


def value_norm(model: Backbone, cell: Cell, config: ReadOutConfig) -> Iterator[Block]:
    """``α · ‖W_O v‖``: how long a vector attention really moves from the regulator to the target; one forward.

    Per layer and head, `W_O` is the block of the columns of the output projection that read this head, v the value of
    the regulator with its bias (the bias of the output projection belongs to no regulator); the mean over heads and
    layers. α is the attention the model used, special tokens included in the sums of its rows (Kobayashi et al. 2020,
    doi:10.18653/v1/2020.emnlp-main.574).
    """
    with torch.inference_mode():
        seen = _run(model, cell.tokens)
        total_TT = torch.zeros(())
        for (q_THD, k_THD, v_THD, _), out_HMD in zip(seen, model.output_projections(), strict=True):  # type: ignore[attr-defined]
            norm_HT = torch.einsum("thd,hmd->htm", v_THD, out_HMD).norm(dim=-1)
            total_TT = total_TT + (_used(q_THD, k_THD, model.attention) * norm_HT[:, None]).mean(0)
    yield _block(cell, _genes(total_TT, model) / model.attention.n_layers)


def attention_gradient(model: Backbone, cell: Cell, config: ReadOutConfig) -> Iterator[Block]:
    """Positive part of attention × gradient of the log-likelihood of hidden counts (Chefer et al. 2021).

    ``mean over heads of (A ⊙ ∂ℓ/∂A)⁺``, doi:10.1109/ICCV48922.2021.00045, then the mean over layers, which is the
    paper's product ``Π (1 + Ā)`` to first order. ℓ sums over all hidden targets, so that one backward serves them all
    and row t of the map is read as that of target t; for a decoder without likelihood ℓ is minus the squared error.
    """
    spec = model.attention
    for masked in cell.masks(config.mask_rate, config.n_masks):
        values = masked.tokens.values_BT.detach().requires_grad_()  # frozen weights leave the graph a leaf
        tokens = CellTokens(masked.tokens.genes_BT, values, masked.tokens.totals_B, None, masked.tokens.hidden_BT)
        with torch.enable_grad():
            seen = _Seen()
            encoded = model.encode(tokens, record=seen)
            distribution = model.decode(encoded, masked.tokens.values_BT.sum(-1))  # type: ignore[attr-defined]
            where_BT = torch.zeros_like(tokens.genes_BT, dtype=torch.bool)
            where_BT[:, torch.from_numpy(masked.targets)] = True
            loss = count_loss(distribution, masked.tokens, where_BT) * len(masked.targets)
            grads = torch.autograd.grad(-loss, [layer[3] for layer in seen.layers], allow_unused=True)
        total_TT = torch.zeros(())
        with torch.no_grad():
            for (q_BTHD, k_BTHD, v_BTHD, _), grad_BTHD in zip(seen.layers, grads, strict=True):
                if grad_BTHD is None:
                    continue
                map_HTT = _used(q_BTHD[0], k_BTHD[0], spec)
                slope_HTT = torch.einsum("ihd,jhd->hij", grad_BTHD[0], v_BTHD[0])  # ∂ℓ/∂A, as out = A v
                total_TT = total_TT + (map_HTT * slope_HTT).clamp(min=0).mean(0)
        map_TT = _genes(total_TT, model) / spec.n_layers
        scores = map_TT[masked.targets][:, masked.regulators].T
        yield masked.regulators, masked.targets, scores.cpu().numpy()


class _Seen:
    """Keeps what a model records."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def __call__(
        self, layer: int, q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor | None, out_BTHD: Tensor | None
    ) -> None:
        if v_BTHD is None or out_BTHD is None:
            msg = f"layer {layer} recorded no values; encode must record them for every layer."
            raise ValueError(msg)
        self.layers.append((q_BTHD, k_BTHD, v_BTHD, out_BTHD))

    @property
    def queries_keys(self) -> Callable[..., None]:
        """Recorder that keeps queries and keys alone."""

        def keep(_: int, q_BTHD: Tensor, k_BTHD: Tensor, *__: Tensor | None) -> None:
            self.layers.append((q_BTHD, k_BTHD, q_BTHD, q_BTHD))

        return keep


def _run(model: Backbone, tokens: CellTokens) -> list[Layer]:
    seen = _Seen()
    model.encode(tokens, record=seen)
    return [(q[0], k[0], v[0], out[0]) for q, k, v, out in seen.layers]


def _used(q_THD: Tensor, k_THD: Tensor, spec: AttentionSpec) -> Tensor:
    """The attention the model used, special tokens included: shape (H, P + T, P + T)."""
    products_HTT = torch.einsum("ihd,jhd->hij", q_THD, k_THD)
    return products_HTT if spec.arithmetic == "kernel" else torch.softmax(spec.scale * products_HTT, dim=-1)


def _genes(map_TT: Tensor, model: Backbone) -> Tensor:
    n_prefix = model.attention.n_prefix
    return map_TT[n_prefix:, n_prefix:]


def _block(cell: Cell, map_TT: Tensor) -> Block:
    """Rows of the map are targets, columns regulators."""
    targets, regulators = (torch.from_numpy(x).to(map_TT.device) for x in (cell.targets, cell.regulators))
    return cell.regulators, cell.targets, map_TT[targets][:, regulators].T.cpu().numpy()
