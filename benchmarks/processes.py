"""What benchmarks of cost share: cases in processes of their own, what these cost and said, and one way to report it.

A script names its cases (functions that return what JSON can hold) and ends with ``run_script(CASES, main)``; its main
starts them by :func:`run_case`. Nothing heavy is imported here: a child's peak memory counts that of its parent at the
fork.
"""

import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Cases = Mapping[str, Callable[..., dict[str, Any]]]
HERE = Path(__file__).parent


@dataclass
class Row:
    """One line of the table."""

    case: str
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_gb: float | None = None
    result: str = ""
    target: str = ""
    met: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """What a process cost and said."""

    status: int
    wall_s: float
    cpu_s: float
    peak_gb: float
    output: str
    errors: str

    def row(self, case: str, **values: Any) -> Row:
        """Row with the cost of this process; one of a process that failed says so."""
        if self.status != 0:
            result, target = f"failed: {self.last_words}", values.get("target", "")
            return Row(case, self.wall_s, self.cpu_s, self.peak_gb, result, target, False)
        return Row(case, self.wall_s, self.cpu_s, self.peak_gb, **values)

    @property
    def said(self) -> dict[str, Any]:
        """The line of JSON a case prints last; empty when it failed."""
        return json.loads(self.output.strip().splitlines()[-1]) if self.status == 0 else {}

    @property
    def last_words(self) -> str:
        """Last line of the errors."""
        return (self.errors.strip().splitlines() or ["no message"])[-1]


def measure(command: Sequence[str], *, threads: int) -> Run:
    """Run a command and read its resources."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment["NUMBA_NUM_THREADS"] = str(threads)  # scanpy starts numba's threads, which also resizes torch's
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)  # the usage of this child alone, unlike RUSAGE_CHILDREN
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        unit = 1 if sys.platform == "darwin" else 1024
        return Run(
            status=process.returncode,
            wall_s=wall,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_gb=usage.ru_maxrss * unit / 1e9,
            output=out.read().decode(errors="replace"),
            errors=err.read().decode(errors="replace"),
        )


def run_case(script: str | Path, name: str, *, threads: int = 1, **parameters: Any) -> Run:
    """Run a case of a script in a process of its own."""
    return measure([sys.executable, str(script), "--case", name, json.dumps(parameters)], threads=threads)


def run_script(cases: Cases, main: Callable[[], int] | None = None) -> None:
    """Be a case (``--case NAME '{"parameter": value}'``), which prints what it found, or the whole script."""
    if sys.argv[1:2] == ["--case"]:
        sys.path = [entry for entry in sys.path if entry != str(HERE)]  # only what is installed counts
        print(json.dumps(cases[sys.argv[2]](**json.loads(sys.argv[3]))))
    elif main is not None:
        sys.exit(main())
    else:
        sys.exit(f"give --case and one of {', '.join(cases)}.")


def conditions() -> dict[str, Any]:
    """Case: versions and processor."""
    import torch

    import grnlab

    return {
        "python": sys.version.split()[0],
        "grnlab": grnlab.__version__,
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def machine() -> dict[str, Any]:
    """Date, cores and what else the machine is doing."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def table(rows: Sequence[Row]) -> str:
    """Markdown table."""
    lines = ["| case | wall s | CPU-s | peak GB | result | target | met |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        numbers = ["" if value is None else f"{value:.2f}" for value in (row.wall_s, row.cpu_s, row.peak_gb)]
        met = {True: "yes", False: "no", None: ""}[row.met]
        lines.append("| " + " | ".join([row.case, *numbers, row.result.replace("|", "/"), row.target, met]) + " |")
    return "\n".join(lines)


def report(about: Mapping[str, Any], rows: Sequence[Any], shown: str, path: Path | None) -> int:
    """Print conditions, a table and the rows as JSON, and write both; exit status 1 when a target is missed.

    Parameters
    ----------
    about
        Conditions.
    rows
        Dataclasses with ``met``.
    shown
        Their table.
    path
        JSON file to write, if any.
    """
    print("Conditions: " + ", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
    print(shown + "\n")
    for row in rows:
        print(json.dumps(asdict(row), ensure_ascii=False))
    if path is not None:
        text = json.dumps({"conditions": about, "rows": [asdict(row) for row in rows]}, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    return int(any(row.met is False for row in rows))


def made_up_vocab(n_genes: int) -> Any:
    """Genes without meaning, on as many places of a genome."""
    import numpy as np
    import pandas as pd

    from grnlab.genes import GeneVocab

    names = [f"ENSG{number:011d}" for number in range(n_genes)]
    table = {"symbol": names, "ensembl_id": names, "aliases": "", "position": np.arange(n_genes)}
    return GeneVocab(pd.DataFrame(table).assign(species="Homo sapiens", is_tf=False))
