"""Faults that are no damaged files: code in pickles, names that attack, full disks, kills; and the same files twice.

A case takes a folder and returns what happened; it raises where something happened that must not.
"""

import contextlib
import html.parser
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz_models
import fuzz_readers
import numpy as np
import torch
from fuzz_readers import cells, model, network

import grnlab as gl
from grnlab.backbones import load_model, save_model
from grnlab.network import NetworkSet
from grnlab.network.formats import FORMATS
from grnlab.report import write_report
from grnlab.training import read_recipe
from grnlab.training.states import StateFolder

ATTACKS = [
    "<script>window.attacked=1</script>",
    '"><img src=x onerror="window.attacked=1">',
    "</script><script>window.attacked=1</script>",
    "javascript:window.attacked=1",
    "'-window.attacked-'",
    "${window.attacked=1}",
    "<!--<script>",
    "\u2028window.attacked=1",
]
PATHS = ["../../escaped", "/tmp/escaped", "..", "a/../../escaped", "C:\\escaped", "con", "x" * 300, ".hidden"]


class Attack:
    """Runs a command when a pickle of it is loaded."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def refused(act: Callable[[], Any], *, kinds: tuple[type[Exception], ...] = (ValueError,)) -> str:
    """Do what must be refused; the message."""
    try:
        act()
    except kinds as error:
        return f"refused: {' '.join(str(error).split())[:140]}"
    msg = "it was accepted"
    raise AssertionError(msg)


def pickled_model(folder: Path) -> str:
    """A pickle that runs a command, as a model of each ending, bare and inside torch's archive."""
    said = ""
    for ending in (".ckpt", ".pt", ".bin", ".pth"):
        for bare in (True, False):
            path = folder / f"model-{bare}{ending}"
            attack = {"state_dict": {"x": Attack(f"touch {folder / 'attacked'}")}, "hyper_parameters": {}}
            if bare:
                path.write_bytes(pickle.dumps(attack))
            else:
                torch.save(attack, path)
            said = refused(lambda path=path: load_model(path), kinds=(ValueError, FileNotFoundError))
    assert not (folder / "attacked").exists(), "the command ran"
    return said


def pickled_inside(folder: Path) -> str:
    """The same in the place of a checkpoint's weights, a state of training and a published dictionary."""
    attack = pickle.dumps(Attack(f"touch {folder / 'attacked'}"))
    place = save_model(model(), folder / "model")
    (place / "model.safetensors").write_bytes(attack)
    said = refused(lambda: load_model(place))
    StateFolder(folder / "state").save(1, {"x": torch.zeros(1)}, {})
    (folder / "state/step-000000001/tensors.safetensors").write_bytes(attack)
    refused(lambda: StateFolder(folder / "state").latest())
    from grnlab.backbones.published.read import read_dictionary

    (folder / "token_dictionary.pkl").write_bytes(attack)
    refused(lambda: read_dictionary(folder / "token_dictionary.pkl"))
    assert not (folder / "attacked").exists(), "the command ran"
    return said


def yaml_objects(folder: Path) -> str:
    """A recipe that asks YAML for a Python object."""
    path = folder / "recipe.yaml"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {folder / 'attacked'}']\n")
    said = refused(lambda: read_recipe(path))
    assert not (folder / "attacked").exists(), "the command ran"
    return said


class Tags(html.parser.HTMLParser):
    """Counts tags, and attributes that run code."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count one."""
        self.tags[tag] = self.tags.get(tag, 0) + 1
        run = [name for name, value in attrs if name.startswith("on") or "attacked" in (value or "")]
        self.handlers += [f"{tag} {name}" for name in run]


def tags_of(path: Path) -> Tags:
    """Tags of a page."""
    found = Tags()
    found.feed(path.read_text(encoding="utf-8"))
    return found


def renamed(names: list[str], group: str) -> NetworkSet:
    """Networks whose genes and groups have these names."""
    from grnlab.network import GeneNetwork

    one = network()
    name_of = dict(zip(one.genes.index, [*names, *one.genes.index[len(names) :]], strict=True))
    edges = one.edges.assign(source=one.edges["source"].map(name_of), target=one.edges["target"].map(name_of))
    return NetworkSet([GeneNetwork.from_edges(edges, list(name_of.values()), name=group)])


def attacking_names(folder: Path) -> str:
    """Gene names and groups that are HTML or JavaScript, on the page and in the notebook."""
    harmless, n_pages = renamed([f"NAME{number}" for number in range(len(ATTACKS))], "group"), 0
    gl.pl.network_page(harmless, folder / "harmless.html")
    expected = tags_of(folder / "harmless.html")
    for number, group in enumerate(ATTACKS):
        nets = renamed(ATTACKS, group)
        gl.pl.network_page(nets, folder / f"{number}.html", title=group)
        found = tags_of(folder / f"{number}.html")
        assert found.tags == expected.tags, f"other tags: {found.tags} and {expected.tags}"
        assert found.handlers == expected.handlers, found.handlers
        n_pages += 1
        for text in (nets._repr_html_(), nets[group]._repr_html_()):
            assert "<script" not in text, text[:200]
            assert "<img" not in text, text[:200]
    return f"{n_pages} pages have the tags of a harmless one; run in Chromium by tests/viz"


def leading_paths(folder: Path) -> str:
    """Groups and genes whose names are paths: the report, the tables and the file of networks stay where they are."""
    inside = folder / "inside"
    inside.mkdir()
    written = 0
    for number, group in enumerate(PATHS):
        nets = renamed(PATHS, group)
        write_report(nets, inside / f"report{number}", title=group)
        nets.save(inside / f"{number}.grns")
        assert list(NetworkSet.load(inside / f"{number}.grns")) == [group]
        for kind in ("sif", "gmt", "graphml"):
            with contextlib.suppress(ValueError):  # a name that the format cannot hold
                nets[group].write(inside / f"{number}.{kind}", kind)
        written += 1
    outside = [*folder.parent.rglob("*escaped*"), *Path("/tmp").glob("escaped*")]
    assert not outside, outside
    assert {path.name for path in folder.iterdir()} == {"inside"}
    return f"{written} reports, all files inside their folders"


def same_files(folder: Path) -> str:
    """The whole way from cells to page twice, with one seed: the same bytes."""
    found = []
    for name in ("first", "second"):
        maps = gl.tl.attention(cells(), model(), groupby="cell_type", genes=8)
        write_report(gl.tl.infer_networks(maps, regulators="all"), folder / name, seed=3, title="cells")
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        found.append({str(path.relative_to(folder / name)): path.read_bytes() for path in files})
    assert found[0].keys() == found[1].keys()
    other = [name for name in found[0] if found[0][name] != found[1][name]]
    assert not other, f"{other} differ"
    return f"{len(found[0])} files, the same bytes"


def same_training(folder: Path) -> str:
    """A model adapted twice with one seed: the same weights file."""
    saved = []
    for name in ("first", "second"):
        gl.tl.adapt(cells(), model(), max_steps=2, batch_size=4, progress=False, out=folder / name, genes="all")
        saved.append((folder / name / "model.safetensors").read_bytes())
    assert saved[0] == saved[1], "weights differ"
    return "the same bytes"


def threads(folder: Path) -> str:
    """Attention and networks with one thread and with two: weights within 1e-5."""
    before, tables, sums = torch.get_num_threads(), [], []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            maps = gl.tl.attention(gl.datasets.pbmc68k()[:200], gl.load_model("grnlab-small"), genes=200)
            sums.append(maps.group("all").q_LHGD)
            tables.append(gl.tl.infer_networks(maps).edge_table().set_index(["source", "target"])["weight"])
    finally:
        torch.set_num_threads(before)
    both = tables[0].index.intersection(tables[1].index)
    assert len(both) >= 0.999 * len(tables[0]), f"{len(both)} of {len(tables[0])} edges are the same"
    edges = float(np.abs(tables[0][both] - tables[1][both]).max())
    queries = float((sums[0] - sums[1]).abs().max())
    assert max(edges, queries) <= 1e-5, (edges, queries)
    return f"{len(both)} of {len(tables[0])} edges, weights differ by {edges:.1e}, queries by {queries:.1e}"


# --- writing that fails


def writers(folder: Path) -> dict[str, Callable[[], Any]]:
    """What writes over an earlier result, by the name of the result."""
    nets = NetworkSet([network("B"), network("T")])
    state = StateFolder(folder / "state", keep=1)
    return {
        "nets.grns": lambda: nets.save(folder / "nets.grns", overwrite=True),
        "page.html": lambda: gl.pl.network_page(nets, folder / "page.html", overwrite=True),
        "model": lambda: save_model(model(), folder / "model", overwrite=True),
        "report": lambda: write_report(nets, folder / "report", overwrite=True),
        "net.csv": lambda: network().write(folder / "net.csv", overwrite=True),
        "state": lambda: state.save(1, {"x": torch.zeros(5_000)}, {}),
        "heads": lambda: fuzz_readers.headset(folder),
        "genes.tsv.gz": lambda: fuzz_readers.vocab().save(folder / "genes.tsv.gz", overwrite=True),
        "translator.json": lambda: fuzz_models.translator().save(folder / "translator.json", overwrite=True),
        "known.npz": lambda: fuzz_models.known().save(folder / "known.npz", overwrite=True),
        "tuned": lambda: fuzz_models.fine_tuned().save(folder / "tuned", overwrite=True),
        **{
            f"network, {name}": lambda name=name: network().write(folder / f"formats/net-{name}", name, overwrite=True)
            for name in FORMATS
        },
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextlib.contextmanager
def disk_of(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a disk that is full."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def full_disk(folder: Path) -> str:
    """No room for what is written over earlier results: they stay, and nothing half-written is left."""
    acts, said = writers(folder), []
    for act in acts.values():
        act()
    before = contents(folder)
    for name, act in acts.items():
        for n_bytes in (0, 100, 5_000):
            with disk_of(n_bytes):
                try:
                    refused(act, kinds=(OSError,))
                except AssertionError:  # it fits: writing the same again is no change
                    assert n_bytes == 5_000, f"{name} was accepted"
            now = contents(folder)
            assert now == before, f"{name}: {set(now) ^ set(before) or 'contents changed'}"
        said.append(name)
    return f"OSError, earlier {', '.join(said)} as they were"


def no_permission(folder: Path) -> str:
    """A folder that may not be written; for the superuser, who may write everywhere, the system's refusal is played."""
    acts = {name: act for name, act in writers(folder).items() if name != "state"}
    for act in acts.values():
        act()
    before = contents(folder)
    if os.geteuid() != 0:
        folder.chmod(0o500)
        try:
            for act in acts.values():
                refused(act, kinds=(OSError,))
        finally:
            folder.chmod(0o700)
        how = "PermissionError"
    else:
        from unittest import mock

        for act in acts.values():
            for first, second in (
                ("tempfile.mkstemp", "tempfile.mkdtemp"),
                ("pathlib.Path.replace", "pathlib.Path.rename"),
            ):
                denied = PermissionError(13, "Permission denied")
                with mock.patch(first, side_effect=denied), mock.patch(second, side_effect=denied):
                    refused(act, kinds=(PermissionError,))
        how = "PermissionError (played: this is the superuser)"
    assert contents(folder) == before, set(contents(folder)) ^ set(before)
    return f"{how}, earlier results as they were"


_ENDLESS = """
import sys
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from pathlib import Path
from fault_cases import writers
acts = writers(Path(sys.argv[1]))
acts.pop("page.html"), acts.pop("report")
for act in acts.values():
    act()
print("once", flush=True)
while True:
    for act in acts.values():
        act()
"""


def killed(folder: Path, *, times: int = 3) -> str:
    """Killed again and again while it writes over earlier results: each of them can be read whole."""
    here, rng = str(Path(__file__).parent), np.random.default_rng(0)
    for _ in range(times):
        process = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(folder), here], stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"once\n"
            time.sleep(float(rng.uniform(0.05, 1.0)))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert list(NetworkSet.load(folder / "nets.grns")) == ["B", "T"]
        load_model(folder / "model")
        gl.read_network(folder / "net.csv")
        assert StateFolder(folder / "state").latest() is not None
    return f"killed {times} times; networks, model, table and state read whole"


CASES: dict[str, Callable[[Path], str]] = {
    "pickle with a command, as a model": pickled_model,
    "pickle with a command, inside a checkpoint or state": pickled_inside,
    "YAML that asks for a Python object": yaml_objects,
    "names that are HTML and JavaScript": attacking_names,
    "names that are paths": leading_paths,
    "same seed, whole way to the page": same_files,
    "same seed, training": same_training,
    "one thread and two": threads,
    "disk full": full_disk,
    "no permission": no_permission,
    "kill -9 while writing": killed,
}
