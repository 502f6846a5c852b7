"""Every problem by name, and the small sizes at which an operation must be right before it is timed."""

from collections.abc import Callable

from problem import Problem
from problems_cells import own_genes, shared_genes
from problems_maps import mean_map, symmetric_map, topk
from problems_pairs import average_precision, gram, head_selection
from problems_training import sampler, zinb

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "mean_map": mean_map,
    "symmetric_map": symmetric_map,
    "topk": topk,
    "gram": gram,
    "head_selection": head_selection,
    "average_precision": average_precision,
    "shared_genes": shared_genes,
    "own_genes": own_genes,
    "zinb": zinb,
    "sampler": sampler,
}

_SMALL = {"genes": 97, "heads": 5, "edges": 7, "batch": 3, "cells": 6, "genome": 150, "tokens": 40, "expressed": 30}


def small(sizes: dict[str, int]) -> dict[str, int]:
    """Odd and small sizes in place of these; the head dimension, which a kernel is compiled for, stays."""
    return {name: min(value, _SMALL.get(name, value)) for name, value in sizes.items()}
