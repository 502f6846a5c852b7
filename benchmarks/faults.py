"""Faults tried on grnlab, and what happened: damaged files, code in pickles, hostile names, full disks, kills.

``python benchmarks/faults.py [--minutes 10] [--json FILE]`` damages a sound file of every reader again and again (see
:mod:`fuzzing`) for some CPU minutes in all, in a process that is watched for hangs and crashes,
and goes through :mod:`fault_cases`. Prints a Markdown table; exit status 1 when something happened that must not.
"""

import argparse
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
START_S, SILENCE_S = 900.0, 120.0  # on a busy machine: to import, and without a new case, after which a reader hangs
MEMORY = 12 << 30  # bytes of addresses, of which the libraries alone take some 5 GB
_READER = """
import json, sys
sys.path.insert(0, sys.argv[1])
import fuzz_readers
for name in sys.argv[5:]:
    print(json.dumps(fuzz_readers.main(name, *sys.argv[2:5])), flush=True)
"""
_CASE = """
import json, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
import fault_cases
started = time.process_time()
said = fault_cases.CASES[sys.argv[2]](pathlib.Path(sys.argv[3]))
print(json.dumps({"said": said.replace(sys.argv[3], "…"), "cpu_s": time.process_time() - started}))
"""
_LIST = """
import json, sys
sys.path.insert(0, sys.argv[1])
import fault_cases, fuzz_readers
print(json.dumps([list(fuzz_readers.READERS), list(fault_cases.CASES)]))
"""


def main() -> int:
    """Try everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes for damaged files (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--only", nargs="+", default=(), metavar="TEXT", help="readers and cases with this in the name")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    options = parser.parse_args()
    readers, cases = json.loads(subprocess.run(_python(_LIST, str(HERE)), check=True, capture_output=True).stdout)
    chosen = [name for name in (*readers, *cases) if not options.only or any(text in name for text in options.only)]
    wanted = [name for name in readers if name in chosen], [name for name in cases if name in chosen]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        seconds = 60 * options.minutes / max(len(wanted[0]), 1)
        for row in fuzz_readers(wanted[0], Path(name) / "readers", seconds=seconds, seed=options.seed):
            rows.append(row)
            print(_line(row), flush=True)
        for number, case in enumerate(wanted[1]):
            rows.append(try_case(case, Path(name) / f"case-{number}"))
            print(_line(rows[-1]), flush=True)
    if options.json is not None:
        command = f"python benchmarks/faults.py --minutes {options.minutes:g} --seed {options.seed}"
        header = {"command": command, "date": f"{dt.date.today()}", "python": sys.version.split()[0]}
        cpu_s = sum(row["cpu_s"] for row in rows)
        header |= {"cpu_s": cpu_s, "cases": sum(row.get("cases", 1) for row in rows)}
        options.json.write_text(json.dumps({**header, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return int(not all(row["well"] for row in rows))


def fuzz_readers(names: list[str], folder: Path, *, seconds: float, seed: int) -> Iterator[dict[str, Any]]:
    """Let readers read damaged files in a process; after a hang or a crash the next ones have a fresh one."""
    left, attempt = list(names), 0
    while left:
        place = folder / str(attempt)
        place.mkdir(parents=True)
        said, attempt = place / "said", attempt + 1
        with said.open("wb") as out, (place / "errors").open("wb") as err:
            arguments = [str(place), str(seconds), str(seed), *left]
            process = subprocess.Popen(
                _python(_READER, str(HERE), *arguments),
                stdout=out,
                stderr=err,
                env=_environment(),
                preexec_fn=_with_little_memory,  # noqa: PLW1509 -- no thread runs here
            )
            ended = _watched(process, place / "journal")
        for line in said.read_text().splitlines():
            yield _row(json.loads(line))
            left.remove(json.loads(line)["name"])
        if left:
            last = ((place / "errors").read_text(errors="replace").strip().splitlines() or [""])[-1]
            case = (place / "journal").read_text().strip() if (place / "journal").exists() else last
            yield {"fault": f"damaged file: {left.pop(0)}", "happened": f"{ended}: {case}", "cpu_s": 0.0, "well": False}


def _with_little_memory() -> None:
    """A reader that takes all memory is a MemoryError here, not the end of other processes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _row(found: dict[str, Any]) -> dict[str, Any]:
    findings = [f"{one['what']} ({one['cases']} times)" for one in found["findings"].values()]
    happened = "; ".join(findings) or f"{found['read']:,} read, {found['refused']:,} refused with a clear error"
    row = {"fault": f"damaged file: {found['name']}", "cpu_s": found["seconds"], "happened": happened}
    return row | {name: found[name] for name in ("cases", "read", "refused")} | {"well": not findings}


def _watched(process: "subprocess.Popen[bytes]", journal: Path) -> str:
    """Wait for a process; end it when it takes up no new case."""
    last, until = 0, time.monotonic() + START_S
    while True:
        try:
            code = process.wait(timeout=1)
            return f"crash with exit status {code}"
        except subprocess.TimeoutExpired:
            stamp = journal.stat().st_mtime_ns if journal.exists() else 0
            if stamp != last:
                last, until = stamp, time.monotonic() + SILENCE_S
            if time.monotonic() > until:
                process.kill()
                process.wait()
                return "hang"


def try_case(name: str, folder: Path) -> dict[str, Any]:
    """Go through one case in a process."""
    folder.mkdir()
    done = subprocess.run(
        _python(_CASE, str(HERE), name, str(folder)), capture_output=True, text=True, env=_environment(), check=False
    )
    if done.returncode == 0:
        found = json.loads(done.stdout.splitlines()[-1])
        return {"fault": name, "cpu_s": found["cpu_s"], "happened": found["said"], "well": True}
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return {"fault": name, "cpu_s": 0.0, "happened": f"failed: {last[:300]}", "well": False}


def _line(row: dict[str, Any]) -> str:
    judged = "well" if row["well"] else "**not well**"
    return f"| {row['fault']} | {row.get('cases', 1):,} | {row['happened']} | {judged} |"


def _python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", code, *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}


if __name__ == "__main__":
    sys.exit(main())
