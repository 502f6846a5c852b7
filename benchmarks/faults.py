"""Faults tried on grnlab, and what happened: damaged files, code in pickles, hostile names, full disks, kills.

``python benchmarks/faults.py [--minutes 10] [--json FILE]`` damages a sound file of every reader again and again (see
:mod:`fuzzing`) for some CPU minutes in all, each reader in a process of its own that is watched for hangs and crashes,
and goes through :mod:`fault_cases`. Prints a Markdown table; exit status 1 when something happened that must not.
"""

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SILENCE_S = 60.0  # without a new case a reader hangs
_READER = """
import json, sys
sys.path.insert(0, sys.argv[1])
import fuzz_readers
print(json.dumps(fuzz_readers.main(sys.argv[2:])))
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
        for number, reader in enumerate(wanted[0]):
            seconds = 60 * options.minutes / len(wanted[0])
            rows.append(fuzz_reader(reader, Path(name) / f"reader-{number}", seconds=seconds, seed=options.seed))
            print(_line(rows[-1]), flush=True)
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


def fuzz_reader(name: str, folder: Path, *, seconds: float, seed: int) -> dict[str, Any]:
    """Let one reader read damaged files in a process; after a hang or a crash in a fresh one, with another seed."""
    row: dict[str, Any] = {"fault": f"damaged file: {name}", "cases": 0, "read": 0, "refused": 0, "cpu_s": 0.0}
    findings: list[str] = []
    for attempt in range(3):
        place = folder / str(attempt)
        place.mkdir(parents=True)
        arguments = [name, str(place), str(seconds - row["cpu_s"]), str(seed + 100 * attempt)]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                _python(_READER, str(HERE), *arguments), stdout=out, stderr=err, env=_environment()
            )
            ended = _watched(process, place / "journal")
            out.seek(0)
            err.seek(0)
            said, errors = out.read().decode(), err.read().decode(errors="replace")
        if process.returncode == 0:
            found = json.loads(said.splitlines()[-1])
            for key in ("cases", "read", "refused"):
                row[key] += found[key]
            row["cpu_s"] += found["seconds"]
            findings += [f"{one['what']} ({one['cases']} times)" for one in found["findings"].values()]
            break
        last = (errors.strip().splitlines() or ["no message"])[-1]
        findings.append(f"{ended}: {(place / 'journal').read_text().strip() if (place / 'journal').exists() else last}")
    row["happened"] = "; ".join(findings) or f"{row['read']:,} read, {row['refused']:,} refused with a clear error"
    return row | {"well": not findings and row["cases"] > 0}


def _watched(process: "subprocess.Popen[bytes]", journal: Path) -> str:
    """Wait for a process; end it when it takes up no new case."""
    last, since = 0, time.monotonic() + 120  # it imports first
    while True:
        try:
            code = process.wait(timeout=1)
            return f"crash with exit status {code}" if code else "done"
        except subprocess.TimeoutExpired:
            stamp = journal.stat().st_mtime_ns if journal.exists() else 0
            if stamp != last:
                last, since = stamp, time.monotonic() + SILENCE_S
            if time.monotonic() > since:
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
