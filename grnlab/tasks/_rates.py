"""Groups of weights by how fast they learn: the head, and each depth of the backbone."""

from typing import Any

from torch import nn


def parameter_groups(
    head: nn.Module,
    backbone: nn.Module | None,
    *,
    lr: float,
    backbone_lr: float,
    layer_decay: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Groups of weights for AdamW: the head at its rate, each depth of the backbone at its own.

    Parameters
    ----------
    head, backbone
        What is trained; backbone None: the head alone.
    lr, backbone_lr, layer_decay, weight_decay
        As in :class:`grnlab.tasks.FineTuneConfig`.
    """
    groups: list[dict[str, Any]] = [{"params": list(head.parameters()), "lr": lr}]
    if backbone is not None:
        linear = {id(module.weight) for module in backbone.modules() if isinstance(module, nn.Linear)}
        by_rate: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, weight in backbone.named_parameters():
            if weight.requires_grad:
                decay = weight_decay if id(weight) in linear else 0.0
                rate = backbone_lr * layer_decay ** blocks_above(backbone, name)
                by_rate.setdefault((rate, decay), []).append(weight)
        groups += [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in by_rate.items()]
    groups[0]["weight_decay"] = weight_decay
    return groups


def blocks_above(backbone: nn.Module, name: str) -> int:
    """How many blocks of its stack lie above a weight: all of them, where it is an embedding; none after the stack.

    Parameters
    ----------
    backbone
        Its blocks are in lists of modules.
    name
        Name of the weight.
    """
    stacks = {path: len(module) for path, module in backbone.named_modules() if isinstance(module, nn.ModuleList)}
    for path, n_blocks in stacks.items():
        if name.startswith(f"{path}."):
            return n_blocks - 1 - int(name[len(path) + 1 :].partition(".")[0])
    module = backbone.get_submodule(name.rpartition(".")[0])
    return max(stacks.values(), default=0) if isinstance(module, nn.Embedding) else 0
