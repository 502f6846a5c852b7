"""Gold standards of the benchmark, by name: where they lie in the data folder and how they are read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from grnlab.evaluate import GoldStandard, read_gold


@dataclass(frozen=True)
class Gold:
    """One gold standard.

    Attributes
    ----------
    name
        On the command line and in tables.
    read
        Data folder → true edges.
    scope
        ``"tf"``: its regulators are transcription factors; ``"all"``: any genes. Methods run once per scope, so that
        those which learn from candidate regulators are given transcription factors where only these are judged.
    train
        Gold standard that supervised methods learn from when this one judges them; "" where there is none.
    candidates
        Regulators and targets of its universe, see :func:`grnlab.evaluate.candidate_universe`: all genes where the
        whole network is known.
    path
        Of the file, below the data folder.
    """

    name: str
    read: Callable[[Path], GoldStandard]
    scope: str = "tf"
    train: str = ""
    candidates: tuple[str, str] = ("gold", "gold")
    path: str = ""

    def found(self, folder: Path) -> bool:
        """Whether the file is in the data folder."""
        return (folder / self.path).is_file()


def _file(
    name: str, path: str, *, train: str = "trrust", scope: str = "tf", upper: bool = False, **options: object
) -> Gold:
    """Edge table; `upper` writes mouse symbols as BEELINE does, which takes orthologs to share their names."""

    def read(folder: Path) -> GoldStandard:
        gold = read_gold(folder / path, name=name, **options)  # type: ignore[arg-type]
        if not upper:
            return gold
        names = gold.edges.assign(**{role: gold.edges[role].str.upper() for role in ("source", "target")})
        return GoldStandard.from_frame(names, name=name)

    return Gold(name, read, scope, train, path=path)


def _dream4(number: int) -> Gold:
    name = f"dream4_{number}"

    def read(folder: Path) -> GoldStandard:
        path = folder / f"dream4/size100_multifactorial_{number}_goldstandard.tsv"
        table = pd.read_csv(path, sep="\t", header=None, names=["source", "target", "edge"])
        return GoldStandard.from_frame(table[["source", "target", "edge"]], name=name, keep={"edge": 1})

    return Gold(name, read, candidates=("all", "all"))


def _sergio(name: str) -> Gold:
    def read(folder: Path) -> GoldStandard:
        table = pd.read_csv(folder / f"sergio/{name}/gt_GRN.csv", header=None, names=["source", "target"])
        return GoldStandard.from_frame("g" + table.astype(str), name=f"sergio_{name.lower()}")

    return Gold(f"sergio_{name.lower()}", read, candidates=("gold", "all"))


_OMNIPATH = "networks/omnipath.parquet"
_MDC = "beeline/genelink/{}/mDC/TFs+500/BL--network.csv"
_GOLDS = (
    _file("omnipath", _OMNIPATH, keep={"type": "transcriptional"}, train="encode"),
    _file("omnipath_all", _OMNIPATH, scope="all", train="encode"),
    _file("trrust", "networks/trrust_v2_human.csv.gz", train="dorothea_abc"),
    _file("dorothea_abc", "networks/dorothea_human.csv.gz", keep={"confidence": ["A", "B", "C"]}),
    _file("encode", "networks/encode_tfchip.json"),
    *(
        _file(f"hesc_{name}", f"mccalla/gold_hESC_{file}.tsv.gz")
        for name, file in {
            "kd": "KDUnion",
            "chip": "escapechip",
            "chip_kd": "chipunion_KDUnion_intersect",
            "lof_gof": "logof",
            "nishiyama": "nishiyama",
            "lit": "lit",
        }.items()
    ),
    *(
        _file(f"mdc_{name}", f"mccalla/gold_mDC_{file}.tsv.gz", upper=True)
        for name, file in {"kd": "KDUnion", "chip": "chipunion", "chip_kd": "chipunion_KDUnion_intersect"}.items()
    ),
    _file("mdc_string", _MDC.format("STRING")),
    _file("mdc_nonspecific", _MDC.format("Non-Specific")),
    _file("mdc_specific", _MDC.format("Specific")),
    *(
        _file(f"small_{name.lower()}", f"beeline/small_real/{name}/refNetwork.csv")
        for name in ("hESC", "mEF", "mES-PE")
    ),
    *(_dream4(number) for number in range(1, 5)),
    *(_sergio(name) for name in ("DS4", "DS5")),
)
GOLDS: dict[str, Gold] = {gold.name: gold for gold in _GOLDS}

_NICHENET = {
    "chea": "chea",
    "remap": "remap",
    "htridb": "htridb_trrust_evex",
    "motif": "motif",
    "ontogenet": "ontogenet",
    "perturbation": "gene_kinase_perturbation",
}
TEACHERS: dict[str, Gold] = {
    **{name: GOLDS[name] for name in ("omnipath", "trrust", "dorothea_abc", "encode")},
    **{name: _file(name, f"networks/nichenet_{file}.csv.gz") for name, file in _NICHENET.items()},
    "regnetwork": _file(
        "regnetwork", "networks/nichenet_regnetwork.csv.gz", source="regulator", keep={"source": "RegNetwork_source"}
    ),
    "overexpression": _file(
        "overexpression",
        "perturbation/lincs_overexpression_dysreg.csv.gz",
        source="perturbagen_symbol",
        target="symbol",
    ),
}
"""Gold standards that may be learned from where others judge."""
