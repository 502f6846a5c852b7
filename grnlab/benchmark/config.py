"""What a run of the benchmark covers."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grnlab.benchmark.datasets import DATASETS, Dataset
from grnlab.benchmark.golds import GOLDS, Gold
from grnlab.benchmark.methods import FAST, METHODS, Method
from grnlab.benchmark.translate import TRANSLATORS

_QUICK_METHODS = tuple(name for name in FAST if name not in ("grnboost2", *TRANSLATORS))


@dataclass(frozen=True)
class BenchmarkConfig:
    """Cells, gold standards and methods of a run, and its settings.

    Attributes
    ----------
    datasets
        What is judged, and by which gold standards.
    golds
        Name → gold standard, of all that `datasets` name.
    methods
        What is compared.
    n_genes
        Genes chosen per data set, as :func:`grnlab.tl.attention` does; regulators of the gold standards that 5 % of the
        cells express are added.
    min_cells
        Smallest group.
    adapt_steps
        Training steps of a model adapted to cells whose genes no model knows.
    seed
        Of what is random.
    """

    datasets: tuple[Dataset, ...] = tuple(DATASETS.values())
    golds: Mapping[str, Gold] = field(default_factory=lambda: GOLDS)
    methods: tuple[Method, ...] = tuple(METHODS[name] for name in FAST)
    n_genes: int = 2_000
    min_cells: int = 100
    adapt_steps: int = 1_000
    seed: int = 0


def choose(
    datasets: Iterable[str] = (),
    methods: Iterable[str] = (),
    *,
    golds: Iterable[str] = (),
    quick: bool = False,
    **settings: Any,
) -> BenchmarkConfig:
    """Configuration from names.

    Parameters
    ----------
    datasets
        Names of data sets; all of them by default.
    methods
        Names of methods; the fast ones by default, ``"all"`` for every one.
    golds
        Names of gold standards; all of each data set by default. Data sets they do not judge are left out.
    quick
        Two cell types of one data set, two gold standards and the fast methods, where nothing else is named.
    **settings
        Other fields of :class:`BenchmarkConfig`.

    Raises
    ------
    ValueError
        When a name is unknown; the message lists the known ones.

    Examples
    --------
    >>> config = choose(["pbmc3k"], ["pearson", "attention"])
    >>> [method.name for method in config.methods]
    ['pearson', 'attention']
    """
    names = list(methods) or list(_QUICK_METHODS if quick else FAST)
    if "all" in names:
        names = list(METHODS)
    chosen = tuple(METHODS[name] for name in dict.fromkeys(_known(names, METHODS, "--methods")))
    of_cells = tuple(DATASETS[name] for name in dict.fromkeys(_known(list(datasets), DATASETS, "--datasets")))
    judges = _known(list(golds), GOLDS, "--golds")
    if judges:
        kept = [replace(one, golds=tuple(g for g in one.golds if g in judges)) for one in of_cells or DATASETS.values()]
        of_cells = tuple(one for one in kept if one.golds)
        if not of_cells:
            msg = f"--golds {' '.join(judges)} judge none of the data sets {', '.join(datasets)}."
            raise ValueError(msg)
    if quick:
        preferred = judges or ["trrust", "dorothea_abc"]
        small = of_cells or (replace(DATASETS["pbmc3k"], groups=("B", "CD14+ Mono")),)
        of_cells = tuple(
            replace(one, golds=tuple(g for g in one.golds if g in preferred) or one.golds[:2],
                    pooled=False)
            for one in small
        )  # fmt: skip
        settings = {"n_genes": 1_000, "adapt_steps": 200} | settings
    return BenchmarkConfig(of_cells or tuple(DATASETS.values()), methods=chosen, **settings)


def outside(cells: Path, gold_files: Iterable[Path], *, groupby: str | None = None) -> tuple[Dataset, dict[str, Gold]]:
    """Case of one's own: an h5ad file of counts and tables of edges.

    Parameters
    ----------
    cells
        The h5ad file; its stem names the data set.
    gold_files
        Edge tables, see :func:`grnlab.io.read_gold`; the name of the file names the gold standard.
    groupby
        Column of ``obs``; all cells are one group by default.

    Raises
    ------
    ValueError
        When no edge table is given, two have one name, or one holds no edges.
    FileNotFoundError
        When a file is missing.
    """
    from grnlab._provenance import file_hash
    from grnlab.benchmark.datasets import read_counts
    from grnlab.evaluate import read_gold

    paths = [Path(path) for path in gold_files]
    if not paths:
        msg = "--h5ad needs --gold: an edge table (csv, tsv, parquet, gmt or json) to judge by."
        raise ValueError(msg)
    names = [path.name.split(".")[0] for path in paths]
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        msg = f"two --gold files are called {twice[0]!r}; rename one."
        raise ValueError(msg)
    if not cells.is_file():
        msg = f"there is no file {cells} (--h5ad)."
        raise FileNotFoundError(msg)
    golds = {}
    for name, path in zip(names, paths, strict=True):
        gold = read_gold(path, name=name)  # now: a malformed table is told before anything is written
        golds[name] = Gold(name, lambda _, gold=gold: gold)  # type: ignore[misc]
    read = read_counts(str(cells.absolute()))  # an absolute path wins over the data folder it is joined to
    digest = " ".join(file_hash(path)[:16] for path in (cells, *paths))
    return Dataset(cells.name.split(".")[0], read, tuple(golds), groupby, digest=digest), golds


def _known(names: list[str], known: Mapping[str, object], option: str) -> list[str]:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            msg = f"{option}: {name!r} is unknown.{hint} There are {', '.join(known)}."
            raise ValueError(msg)
    return names
