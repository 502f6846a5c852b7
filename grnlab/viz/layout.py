"""Where genes are drawn: a seeded force layout by igraph, packed so that small components stay near."""

import numpy as np
from scipy.spatial import cKDTree

from grnlab.network.partition import seeded_igraph

SPACING = 90.0  # wished distance between neighbouring genes, in units of the page
_GRID_ABOVE = 1_000  # genes from which igraph's grid approximation replaces all-pairs repulsion
_SAME_COMMUNITY = 6.0  # how much stronger an edge pulls inside a community
_STRETCH = np.array([1.1, 0.95])  # screens are wider than high
_ASPECT = 1.5  # width / height of the drawing


def layout(
    n_genes: int,
    edges: np.ndarray,
    strength: np.ndarray,
    *,
    community: np.ndarray | None = None,
    radius: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Positions of genes, so that a page can draw them without simulating physics.

    Every connected component is laid out by Fruchterman–Reingold, pulled together by community, freed of
    overlaps, and packed beside the others; genes without an edge end in rows at the bottom.

    Parameters
    ----------
    n_genes
        Number of genes to place.
    edges
        Integer gene numbers of source and target, shape ``(n_edges, 2)``.
    strength
        Non-negative strength of every edge, shape ``(n_edges,)``; only its order matters.
    community
        Community number of every gene, shape ``(n_genes,)``.
    radius
        Drawn radius of every gene in page units, shape ``(n_genes,)``; keeps large hubs apart.
    seed
        Seed of the layout.

    Returns
    -------
    np.ndarray
        Coordinates, shape ``(n_genes, 2)``, in page units (`SPACING` between close genes).

    Notes
    -----
    igraph has one random generator per process. It is replaced while the layout runs and set back to igraph's
    default, the `random` module, whose state is not touched.

    Examples
    --------
    >>> import numpy as np
    >>> layout(3, np.array([[0, 1], [1, 2]]), np.ones(2)).shape
    (3, 2)
    """
    import igraph

    if n_genes == 0:
        return np.zeros((0, 2))
    edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    radius = np.full(n_genes, 8.0) if radius is None else np.asarray(radius, dtype=float)
    community = np.zeros(n_genes, dtype=np.int64) if community is None else np.asarray(community, dtype=np.int64)
    graph = igraph.Graph(n=n_genes, edges=edges.tolist())
    graph.es["pull"] = _pull(edges, np.asarray(strength, dtype=float), community).tolist()

    members = [np.asarray(part) for part in graph.connected_components(mode="weak")]
    members.sort(key=lambda part: (-len(part), int(part[0])))
    connected = [part for part in members if len(part) > 1]
    alone = np.sort(np.concatenate([part for part in members if len(part) == 1] or [np.zeros(0, dtype=np.int64)]))

    generator = np.random.default_rng(seed)
    placed = []
    with seeded_igraph(seed):
        for part in connected:
            start = _start(community[part], generator)
            points = _forces(graph.induced_subgraph(part.tolist()), start)
            placed.append((part, _spread(_turn(points), radius[part])))
    return _pack(n_genes, placed, alone)


def _pull(edges: np.ndarray, strength: np.ndarray, community: np.ndarray) -> np.ndarray:
    """Attraction of every edge: its strength as a rank in (0, 1], more inside a community."""
    if not len(edges):
        return np.zeros(0)
    rank = np.empty(len(edges))
    rank[np.argsort(strength, kind="stable")] = np.arange(1, len(edges) + 1) / len(edges)
    same = community[edges[:, 0]] == community[edges[:, 1]]
    return (0.3 + rank) * np.where(same, _SAME_COMMUNITY, 1.0)


def _start(community: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Communities around a circle, so that the forces need not first untangle them."""
    names, index = np.unique(community, return_inverse=True)
    size = np.sqrt(len(community))
    angle = 2 * np.pi * index / len(names)
    centre = np.column_stack([np.cos(angle), np.sin(angle)]) * (size if len(names) > 1 else 0.0)
    return centre + generator.normal(scale=size / 4 + 0.1, size=centre.shape)


def _forces(graph: object, start: np.ndarray) -> np.ndarray:
    n_genes = len(start)
    if n_genes == 2:
        return np.array([[0.0, 0.0], [1.0, 0.0]])
    coords = graph.layout_fruchterman_reingold(  # type: ignore[attr-defined]
        weights="pull",
        seed=start.tolist(),
        niter=500 if n_genes <= _GRID_ABOVE else 200,
        start_temp=float(np.sqrt(n_genes)) / 3,
        grid="nogrid" if n_genes <= _GRID_ABOVE else "grid",
    ).coords
    return np.asarray(coords)


def _turn(points: np.ndarray) -> np.ndarray:
    """Centre the drawing and lay its long side level, since screens are wider than high."""
    points = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(points, full_matrices=False)
    axes *= np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    return points @ axes.T


def _spread(points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Scale to `SPACING` and push overlapping genes apart."""
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    points = points * (0.55 * SPACING / max(float(np.median(nearest)), 1e-9)) * _STRETCH
    points = _gather(points)
    reach = radius + SPACING * 0.25
    for _ in range(60):
        pairs = cKDTree(points).query_pairs(2 * float(reach.max()), output_type="ndarray")
        if not len(pairs):
            break
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        first, second = pairs.T
        gap = points[second] - points[first]
        distance = np.linalg.norm(gap, axis=1)
        overlap = reach[first] + reach[second] - distance
        close = overlap > 1.0
        if not close.any():
            break
        first, second, gap, distance, overlap = (part[close] for part in (first, second, gap, distance, overlap))
        angle = 2.399963 * first  # genes on the very same spot leave it in different directions
        away = np.where(
            distance[:, None] > 1e-6,
            gap / np.maximum(distance, 1e-6)[:, None],
            np.column_stack([np.cos(angle), np.sin(angle)]),
        )
        move = away * (overlap / 2)[:, None]
        np.add.at(points, first, -move * 0.5)
        np.add.at(points, second, move * 0.5)
    return points


def _gather(points: np.ndarray) -> np.ndarray:
    """Draw stragglers in, so that a few loosely tied genes do not make everything else small."""
    distance = np.linalg.norm(points, axis=1)
    usual = float(np.quantile(distance, 0.8))
    wanted = np.where(distance > usual, usual + 0.4 * (distance - usual), distance)
    return points * (wanted / np.maximum(distance, 1e-9))[:, None]


def _pack(n_genes: int, placed: list[tuple[np.ndarray, np.ndarray]], alone: np.ndarray) -> np.ndarray:
    """Put components in rows from large to small, then genes without an edge in a grid below."""
    position = np.zeros((n_genes, 2))
    margin = SPACING
    boxes = [np.ptp(points, axis=0) + margin for _, points in placed]
    area = sum(float(box.prod()) for box in boxes) + len(alone) * SPACING**2
    width = max([np.sqrt(area * _ASPECT), *(float(box[0]) for box in boxes)])
    x = y = height = 0.0
    for (part, points), box in zip(placed, boxes, strict=True):
        if x and x + box[0] > width:
            x, y, height = 0.0, y + height, 0.0
        position[part] = points - points.min(axis=0) + margin / 2 + (x, y)
        x, height = x + box[0], max(height, box[1])
    if len(alone):
        per_row = max(1, int(width // SPACING))
        row, column = np.divmod(np.arange(len(alone)), per_row)
        position[alone] = np.column_stack([column + 0.5, row + 0.5]) * SPACING + (0.0, y + height)
    return position - (position.min(axis=0) + position.max(axis=0)) / 2
