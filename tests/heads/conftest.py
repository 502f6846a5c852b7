from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from grnlab.attention import AttentionMaps
from grnlab.attention.maps import GroupMaps
from grnlab.backbones.base import AttentionSpec
from grnlab.evaluate import GoldStandard


@pytest.fixture
def maps_of_heads():
    """Maps of six heads of which one points from targets to regulators, and a second one too for half of the targets.

    ``make(gold, groups, seed)`` gives the maps, ``gold(seed)`` a random gold standard of 20 regulators.
    """
    n_genes, d_head, good = 60, 16, (1, 2)
    names = [f"G{number:02d}" for number in range(n_genes)]
    spec = AttentionSpec(n_layers=2, n_heads=3, d_head=d_head, scale=0.25, n_prefix=1)

    def gold(seed=0, n_regulators=20, n_edges=160, name="planted"):
        rng = np.random.default_rng(seed)
        pairs = [(r, t) for r in range(n_regulators) for t in range(n_genes) if r != t]
        chosen = [pairs[place] for place in rng.choice(len(pairs), n_edges, replace=False)]
        table = pd.DataFrame([(names[r], names[t]) for r, t in chosen], columns=["source", "target"])
        return GoldStandard.from_frame(table, name=name)

    def group(name, truth, *, seed, strength):
        rng = torch.Generator().manual_seed(seed)
        q, k = torch.randn(2, 2, 3, n_genes, d_head, generator=rng)
        place = {gene: number for number, gene in enumerate(names)}
        code = torch.randn(n_genes, d_head, generator=rng)
        k[good] = code
        for source, target in zip(truth.edges["source"], truth.edges["target"], strict=True):
            q[good][place[target]] += strength * code[place[source]]
        q[:, :, :, 0] *= 3  # other heads are strong and know nothing
        return GroupMaps(name, 10 * q, 10 * k, torch.full((n_genes,), 10), 10)

    def make(truth, *groups, seed=0, strength=2.0):
        genes = pd.DataFrame({"is_tf": np.arange(n_genes) < 20}, index=pd.Index(names, name="gene"))
        found = {name: group(name, truth, seed=seed + i, strength=strength) for i, name in enumerate(groups)}
        level = np.random.default_rng(seed).random(n_genes)
        table = pd.DataFrame({"mean_counts": level, "fraction_expressed": level}, index=genes.index)
        provenance = {"model": "planted", "weights_sha256": "w"}
        return AttentionMaps(genes, found, spec, dict.fromkeys(found, table), provenance)

    return SimpleNamespace(gold=gold, make=make, names=names, good=good)
