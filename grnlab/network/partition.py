"""The searches behind communities: Leiden and Louvain of igraph, directed and multiplex Leiden of leidenalg."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

METHODS = ("leiden", "louvain", "cpm")
_ROUNDS = 10  # Leiden passes of leidenalg; stops as soon as one improves nothing


@contextmanager
def seeded_igraph(seed: int) -> Iterator[None]:
    """Let igraph draw from a generator of its own, so that the global one of Python stays as it is."""
    import igraph as ig

    ig.set_random_number_generator(random.Random(seed))
    try:
        yield
    finally:
        ig.set_random_number_generator(random)


class Partitioner:
    """A weighted graph, built once, to be searched with several resolutions and seeds.

    Parameters
    ----------
    edges
        Shape (n_edges, 2).
    weight
        Shape (n_edges,).
    n_genes
        Number of vertices.
    directed
        Whether edges have a direction; the search is then leidenalg's.
    """

    def __init__(self, edges: np.ndarray, weight: np.ndarray, n_genes: int, *, directed: bool) -> None:
        import igraph as ig

        self._graph = ig.Graph(n=n_genes, edges=edges, directed=directed)
        self._weights = weight.tolist()
        self._directed = directed

    def search(self, *, method: str, resolution: float, seed: int) -> tuple[np.ndarray, float]:
        """Search once; membership of shape (n_genes,) and the weighted modularity at resolution 1."""
        graph, weights = self._graph, self._weights
        if self._directed:
            member = _leidenalg(graph, weights, resolution, seed)
        else:
            with seeded_igraph(seed):
                if method == "louvain":
                    found = graph.community_multilevel(weights=weights, resolution=resolution)
                else:
                    objective = "modularity" if method == "leiden" else "CPM"
                    found = graph.community_leiden(objective, weights=weights, resolution=resolution, n_iterations=-1)
            member = found.membership
        # the modularity of leidenalg's partitions ignores the weights; igraph's takes them
        return np.array(member), float(graph.modularity(member, weights=weights, directed=self._directed))


def multiplex(layers: list[tuple[np.ndarray, np.ndarray]], n_genes: int, *, resolution: float, seed: int) -> np.ndarray:
    """One membership for several weighted graphs on the same genes: the sum of their modularities is searched."""
    import igraph as ig
    import leidenalg

    parts = [
        leidenalg.RBConfigurationVertexPartition(
            ig.Graph(n=n_genes, edges=edges), weights=weight.tolist(), resolution_parameter=resolution
        )
        for edges, weight in layers
    ]
    optimiser = leidenalg.Optimiser()
    optimiser.set_rng_seed(seed)
    # modularity of a layer is over twice its weight; layers then count alike
    layer_weights = [1 / max(2 * weight.sum(), 1e-300) for _, weight in layers]
    for _ in range(_ROUNDS):
        if optimiser.optimise_partition_multiplex(parts, layer_weights=layer_weights, n_iterations=1) <= 0:
            break
    return np.array(parts[0].membership)


def _leidenalg(graph: "object", weights: list[float], resolution: float, seed: int) -> list[int]:
    import leidenalg

    found = leidenalg.RBConfigurationVertexPartition(graph, weights=weights, resolution_parameter=resolution)
    optimiser = leidenalg.Optimiser()
    optimiser.set_rng_seed(seed)
    for _ in range(_ROUNDS):
        if optimiser.optimise_partition(found, n_iterations=1) <= 0:
            break
    return list(found.membership)
