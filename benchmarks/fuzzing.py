"""Damaged files for every reader of grnlab, and a judge of what a reader makes of them.

A reader may read a damaged file, or refuse it with a plain ValueError or OSError that grnlab itself raises. Anything
else is a finding: another exception, one from inside a library, code that runs, a file opened for writing, a process
started, a crash or a hang. Hypothesis draws the damage; cases depend on the seed and their number alone.
"""

import copy
import gzip
import io
import json
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

PLAIN = (
    ValueError,
    OSError,
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
)
TEXTS = [
    *("", " ", "\x00", "NaN", "-inf", "1e999", "-1", "0", "99999999999999999999", "true", "null", "../../escaped"),
    *(
        "/etc/passwd",
        "a" * 5_000,
        "\ufeff",
        "\u202e",
        "é細胞🧬",
        "\ud7ff",
        "'",
        '"',
        "\t",
        "\n",
        "\r",
        ",",
        ";",
        "#",
        "%s%n",
    ),
    *("<script>", "__class__", "!!python/object/apply:os.system ['true']", "&a [*a, *a]", "{{7*7}}", "=1+1", "\\u0000"),
]
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        10**6,
        2**31,
        10**10,
        2**63,
        10**30,
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "a" * 2_000,
    ),
    *([], {}, [[]], [None], {"": None}, [1, 2, 3], "../../escaped", {"a": {"b": [1, {"c": None}]}}),
]


@dataclass
class Reader:
    """A reader and how to make a sound file for it.

    Attributes
    ----------
    make
        Folder → sound file (or folder) in it.
    read
        Reads it.
    damage
        Names of the files inside a folder that are damaged; empty where `make` gives a file.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    damage: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What became of the cases of a reader."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)


# --- damage


@st.composite
def bytes_of(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file of which bytes are cut, changed, doubled or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        size = len(data)
        at = draw(st.integers(0, size))
        length = draw(st.sampled_from([1, 2, 4, 8, 16, 64, 512]))
        match draw(st.sampled_from(["cut", "flip", "drop", "double", "put", "text", "zero", "number"])):
            case "cut":
                del data[at:]
            case "flip" if at < size:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "put":
                data[at:at] = draw(st.binary(max_size=16))
            case "text":
                data[at : at + draw(st.sampled_from([0, 1, 8]))] = draw(st.sampled_from(TEXTS)).encode(
                    "utf-8", "replace"
                )
            case "zero":
                data[at : at + length] = bytes(min(length, size - at))
            case "number":
                digits = [place for place in range(min(size, 5_000)) if 48 <= data[place] <= 57]
                if digits:
                    place = digits[draw(st.integers(0, len(digits) - 1))]
                    data[place : place + 1] = draw(
                        st.sampled_from([b"-1", b"1e400", b"nan", b"", b"9" * 25, b"0x1", b"1_0"])
                    )
    return bytes(data)


@st.composite
def json_of(draw: st.DrawFn, whole: bytes) -> bytes:
    """JSON of which a value, or a key, is another."""
    content = json.loads(whole)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(content))
        if not places:
            return json.dumps(draw(st.sampled_from(VALUES))).encode()
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        change = draw(st.sampled_from(["value", "remove", "rename"]))
        if change == "value":
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))  # which the next change may change
        elif change == "remove" or isinstance(holder, list):
            del holder[key]
        else:
            holder[draw(st.sampled_from(TEXTS))] = holder.pop(key)
    return json.dumps(content).encode()


def yaml_of(whole: bytes) -> st.SearchStrategy[bytes]:
    """YAML of which a value, or a key, is another; JSON is YAML too."""
    import yaml

    return json_of(json.dumps(yaml.safe_load(whole)).encode())


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield content, key
        yield from _places(content[key])


@st.composite
def zip_of(draw: st.DrawFn, whole: bytes) -> bytes:
    """An archive of which a member is damaged, gone, doubled, or has a name that leads elsewhere."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    number = draw(st.integers(0, len(members) - 1))
    name, content = members[number]
    match draw(st.sampled_from(["inside", "inside", "inside", "gone", "name", "double"])):
        case "inside":
            members[number] = (name, draw(damaged(content, name)))
        case "gone":
            del members[number]
        case "name":
            members[number] = (
                draw(st.sampled_from(["../../escaped", "/tmp/escaped", "x\x00y", name.upper()])),
                content,
            )
        case "double":
            members.append((name, b"{}"))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), content)
    return written.getvalue()


@st.composite
def hdf5_of(draw: st.DrawFn, whole: bytes) -> bytes:
    """An HDF5 file of which a data set, group or attribute is gone, is another or has other numbers."""
    import h5py

    stored = io.BytesIO(whole)
    with h5py.File(stored, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = names[draw(st.integers(0, len(names) - 1))]
        thing = file[name]
        match draw(st.sampled_from(["gone", "attribute", "values", "other", "scalar", "announced", "elsewhere"])):
            case "gone":
                del file[name]
            case "attribute" if len(thing.attrs):
                key = draw(st.sampled_from(sorted(thing.attrs)))
                value = draw(
                    st.sampled_from(
                        ["csr_matrix", "csc_matrix", "array", "dataframe", "x", -1, [0, 0], [10**12, 3], []]
                    )
                )
                del thing.attrs[key]
                if draw(st.booleans()):
                    thing.attrs[key] = value
            case "values" if isinstance(thing, h5py.Dataset) and thing.size and thing.dtype.kind in "iuf":
                values = thing[...]
                flat = values.reshape(-1)
                wanted = draw(st.sampled_from([-1.0, 0.0, 0.5, 1e9, float("nan"), float("inf"), 2.0**31]))
                with np.errstate(all="ignore"):
                    flat[draw(st.integers(0, flat.size - 1))] = np.asarray(wanted).astype(values.dtype)
                thing[...] = values
            case "other":
                del file[name]
                file[name] = draw(
                    st.sampled_from([np.arange(3), np.array([1.5]), "text", np.zeros((2, 2)), b"\xff\xfe"])
                )
            case "announced":  # what is not there reads as the fill value
                del file[name]
                n_rows = draw(st.sampled_from([10**8, 10**9, 10**12]))
                file.create_dataset(name, shape=draw(st.sampled_from([(n_rows,), (12, n_rows)])), chunks=True)
            case "elsewhere":
                del file[name]
                file[name] = h5py.ExternalLink("/dev/zero", "/x")
            case "scalar" if isinstance(thing, h5py.Dataset):
                del file[name]
                file.create_group(name)
    return stored.getvalue()


def damaged(whole: bytes, name: str) -> st.SearchStrategy[bytes]:
    """Damage of a file, by its format: of its bytes, and of what they mean."""
    ways = [bytes_of(whole)]
    if whole[:2] == b"\x1f\x8b":
        inside = gzip.decompress(whole)
        ways += 2 * [damaged(inside, name.removesuffix(".gz")).map(lambda data: gzip.compress(data, mtime=0))]
    if whole[:4] == b"PK\x03\x04":
        ways += 2 * [zip_of(whole)]
    if whole[:8] == b"\x89HDF\r\n\x1a\n":
        ways += 3 * [hdf5_of(whole)]
    if name.endswith((".json", ".cx2", ".zarray", ".zattrs", ".zgroup", ".zmetadata")):
        ways += 2 * [json_of(whole)]
    if name.endswith(".yaml"):
        ways += 2 * [yaml_of(whole)]
    if name.endswith(".safetensors"):
        ways.append(_header_of(whole))
    return st.one_of(ways)


@st.composite
def _header_of(draw: st.DrawFn, whole: bytes) -> bytes:
    """Safetensors of which the header says other things; its length fits."""
    length = int.from_bytes(whole[:8], "little")
    header = draw(json_of(whole[8 : 8 + length]))
    return len(header).to_bytes(8, "little") + header + whole[8 + length :]


# --- the judge


class Watch:
    """Notes what no reader may do: start a process, run code of a file, write outside, go to the network."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.armed = str(folder.resolve()), False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)  # which cannot be taken away again, but disarmed

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect"):
            if "probe.py" not in str(arguments):  # which looks into HDF5 files
                self.seen.append(f"{event} {str(arguments)[:200]}")
        elif event == "open" and isinstance(arguments[0], str) and isinstance(arguments[1], str):
            path, mode = arguments[:2]
            written = any(sign in mode for sign in "wax+") and not path.startswith(("/dev/", "/proc/"))
            if written and not str(Path(path).resolve()).startswith(self.folder) and "__pycache__" not in path:
                self.seen.append(f"opens {path} for writing")


def judge(read: Callable[[Path], Any], path: Path, watch: Watch) -> tuple[str, str]:
    """Read a file: ``"read"``, ``"refused"``, or ``"finding"`` and what it is."""
    import warnings

    watch.seen.clear()
    watch.armed = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
        verdict = ("read", "")
    except PLAIN as error:
        verdict = _judged(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- whatever comes is the finding
        verdict = ("finding", _place(error))
    finally:
        watch.armed = False
    return ("finding", watch.seen[0]) if watch.seen else verdict


def _judged(error: Exception) -> tuple[str, str]:
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = "/grnlab/" in last.filename.replace("\\", "/")
    if type(error) not in PLAIN or not own or len(str(error)) < 20:
        return "finding", _place(error)
    return "refused", str(error)


def _place(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/grnlab/" in f.filename.replace("\\", "/")]
    where = f"{'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}" if frames else "nowhere"
    return f"{type(error).__name__} at {where}: {str(error)[:160]}"


def fuzz(
    reader: Reader,
    folder: Path,
    *,
    seconds: float,
    watch: Watch,
    number: int = 0,
    most: int = 10**9,
    journal: Callable[[Path, int], None] = lambda path, case: None,
) -> Outcome:
    """Let a reader read damaged files for some CPU seconds, or `most` cases.

    Parameters
    ----------
    reader
        Who reads.
    folder
        Where files are made; what a finding was made with stays there.
    seconds, most
        When to stop.
    watch
        Sees what must not happen.
    number
        Seed.
    journal
        Told of each case before it is read, so that somebody else knows what a process died of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sound = reader.make(folder)
    verdict = judge(reader.read, sound, watch)
    assert verdict[0] == "read", f"a sound file is not read: {verdict}"
    places = [sound / name for name in reader.damage] or [sound]
    whole = {place: place.read_bytes() for place in places}
    outcome, started = Outcome(), time.process_time()

    def one(data: st.DataObject) -> None:
        place = places[data.draw(st.integers(0, len(places) - 1))]
        content = data.draw(damaged(whole[place], place.name))
        if time.process_time() - started > seconds or outcome.cases >= most:
            return  # after the draws, which must not depend on the time
        place.write_bytes(content)
        journal(place, outcome.cases)
        kind, what = judge(reader.read, sound, watch)
        outcome.cases += 1
        if kind == "finding":
            known = outcome.findings.setdefault(what.split(": ")[0], {"what": what, "cases": 0})
            known["cases"] += 1
            if known["cases"] == 1:
                (folder / f"finding-{len(outcome.findings)}-{place.name}").write_bytes(content)
        else:
            setattr(outcome, kind, getattr(outcome, kind) + 1)
        place.write_bytes(whole[place])

    block = 0
    while time.process_time() - started < seconds and outcome.cases < most:
        examples = min(200, most - outcome.cases)
        quiet = settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(1_000 * number + block)(quiet(given(st.data())(one)))()
        block += 1
    outcome.seconds = time.process_time() - started
    return outcome
