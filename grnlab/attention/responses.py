"""Read-outs from predictions: how the predicted expression of a hidden gene follows the count of another.

Shape suffixes: B versions of a cell, T tokens, R regulators, C hidden targets.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from grnlab._optional import require
from grnlab.attention.cell import Block, Cell, MaskedCell
from grnlab.attention.config import ReadOutConfig
from grnlab.backbones.base import Backbone

Levels = Callable[[int], np.ndarray]
"""Counts a gene (a row of the table of genes) is set to."""


def jacobian(model: Backbone, cell: Cell, config: ReadOutConfig) -> Iterator[Block]:
    """Derivative of the prediction of each hidden target by ``log2(1 + count)`` of each visible regulator; signed.

    Per cell and mask it costs 2 forwards per visible regulator. What is predicted,
    :meth:`grnlab.attention.cell.MaskedCell.predict` says.
    """
    directional = _exact if config.derivative == "jvp" else _difference
    for masked in cell.masks(config.mask_rate, config.n_masks):
        directions_RT = torch.zeros(len(masked.regulators), len(cell.genes_T)).to(cell.log_values_T)
        directions_RT[torch.arange(len(masked.regulators)), torch.from_numpy(masked.regulators)] = 1
        yield masked.regulators, masked.targets, directional(model, masked, directions_RT, config).cpu().numpy()


def _difference(model: Backbone, masked: MaskedCell, directions_RT: Tensor, config: ReadOutConfig) -> Tensor:
    at_T, changes = masked.cell.log_values_T, []
    with torch.inference_mode():
        for part_RT in directions_RT.split(max(1, config.batch // 2)):
            both_BT = torch.cat([at_T + config.step * part_RT, at_T - config.step * part_RT])
            above_RC, below_RC = masked.predict(model, both_BT).chunk(2)
            changes.append((above_RC - below_RC) / (2 * config.step))
    return torch.cat(changes)


def _exact(model: Backbone, masked: MaskedCell, directions_RT: Tensor, config: ReadOutConfig) -> Tensor:
    def predicted(at_T: Tensor) -> Tensor:
        return masked.predict(model, at_T[None])[0]

    def along(direction_T: Tensor) -> Tensor:
        return torch.func.jvp(predicted, (masked.cell.log_values_T,), (direction_T,))[1]

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward-mode derivative
        return torch.func.vmap(along, chunk_size=config.batch)(directions_RT)


def perturbation(model: Backbone, cell: Cell, config: ReadOutConfig, *, levels: Levels) -> Iterator[Block]:
    """Slope of the response curve of each hidden target as a regulator is set to several counts; signed.

    Least squares of the prediction on ``log2(1 + count)`` over the levels of the regulator: 0, quantiles of its
    positive counts in the group, the largest. One forward per level.
    """
    for masked in cell.masks(config.mask_rate, config.n_masks):
        at_T, versions, starts = cell.log_values_T, [], [0]
        for place in masked.regulators:
            counts = torch.from_numpy(levels(int(cell.genes_T[place]))).to(at_T)
            changed_BT = at_T.repeat(len(counts), 1)
            changed_BT[:, place] = torch.log2(1 + counts)
            versions.append(changed_BT)
            starts.append(starts[-1] + len(counts))
        with torch.inference_mode():
            every_BT = torch.cat(versions)
            curve_BC = torch.cat([masked.predict(model, part_BT) for part_BT in every_BT.split(config.batch)])
        slopes = []
        for number, place in enumerate(masked.regulators):
            part = slice(starts[number], starts[number + 1])
            x_B = every_BT[part, place] - every_BT[part, place].mean()
            slopes.append(x_B @ curve_BC[part] / (x_B @ x_B))
        yield masked.regulators, masked.targets, torch.stack(slopes).cpu().numpy()


def integrated_gradients(model: Backbone, cell: Cell, config: ReadOutConfig) -> Iterator[Block]:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) of the prediction of each hidden target.

    The path leads from a cell without any count to the cell, straight in ``log2(1 + count)``; the attributions of all
    visible genes to a target add up to the difference of its predictions at both ends. Signed. By captum; `n_steps`
    forwards and backwards per hidden target make it the dearest of all read-outs.
    """
    attr = require("captum.attr", install="grnlab[attribution]", purpose='for method="integrated_gradients"')
    for masked in cell.masks(config.mask_rate, config.n_masks):

        def predicted(log_values_BT: Tensor, masked: MaskedCell = masked) -> Tensor:
            return masked.predict(model, log_values_BT)

        whole = attr.IntegratedGradients(predicted, multiply_by_inputs=True)
        parts = []
        for targets in torch.arange(len(masked.targets)).split(config.batch):
            at_BT = cell.log_values_T.expand(len(targets), -1).clone()
            parts.append(
                whole.attribute(
                    at_BT,
                    baselines=torch.zeros_like(at_BT),
                    target=targets.to(at_BT.device),
                    n_steps=config.n_steps,
                    internal_batch_size=config.batch,
                ).detach()
            )
        attribution_CT = torch.cat(parts)
        yield masked.regulators, masked.targets, attribution_CT[:, torch.from_numpy(masked.regulators)].T.cpu().numpy()
