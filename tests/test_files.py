import os
import stat
from pathlib import Path

import pytest

from grnlab._files import atomic_directory, atomic_file


def write(path, text, **more):
    with atomic_file(path, **more) as temporary:
        temporary.write_text(text)


def fill(path, text, **more):
    with atomic_directory(path, **more) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text(text)


def break_off(kind, path, error, **more):
    with kind(path, **more) as temporary:
        (temporary if kind is atomic_file else temporary / "x").write_text("half")
        raise error


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_appears_only_when_whole(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert everything(tmp_path) == ["a", "a/b", "a/b/x.txt"]


def test_a_folder_appears_only_when_whole(tmp_path):
    path = tmp_path / "a" / "out"
    with atomic_directory(path) as folder:
        (folder / "file").write_text("whole")
        assert not path.exists()
    assert everything(tmp_path) == ["a", "a/out", "a/out/file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("kind", [atomic_file, atomic_directory])
def test_an_error_leaves_nothing_not_even_new_parents(tmp_path, kind, error):
    (tmp_path / "there").mkdir()
    with pytest.raises(error):
        break_off(kind, tmp_path / "there" / "new" / "deep" / "out", error)
    assert everything(tmp_path) == ["there"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_content(tmp_path, error):
    write(tmp_path / "file", "old")
    fill(tmp_path / "folder", "old")
    before = everything(tmp_path)
    with pytest.raises(error):
        break_off(atomic_file, tmp_path / "file", error, overwrite=True)
    with pytest.raises(error):
        break_off(atomic_directory, tmp_path / "folder", error, overwrite=True)
    assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "folder" / "inner" / "file").read_text() == "old"
    assert everything(tmp_path) == before


@pytest.mark.parametrize("make", [write, fill])
def test_nothing_is_overwritten_unasked(tmp_path, make):
    make(tmp_path / "out", "old")
    before = everything(tmp_path)
    with pytest.raises(FileExistsError, match=r"out exists already.*overwrite=True \(--overwrite\)"):
        make(tmp_path / "out", "new")
    assert everything(tmp_path) == before
    make(tmp_path / "out", "new", overwrite=True)
    found = tmp_path / "out" if make is write else tmp_path / "out" / "inner" / "file"
    assert found.read_text() == "new"
    assert everything(tmp_path) == before


@pytest.mark.parametrize("kind", [atomic_file, atomic_directory])
def test_what_another_process_wrote_meanwhile_is_kept(tmp_path, kind):
    path = tmp_path / "out"

    def race():
        with kind(path) as temporary:
            if kind is atomic_file:
                temporary.write_text("slow")
                path.write_text("fast")
            else:
                (temporary / "slow").write_text("slow")
                path.mkdir()
                (path / "fast").write_text("fast")

    with pytest.raises(FileExistsError):
        race()
    assert everything(tmp_path) == (["out"] if kind is atomic_file else ["out", "out/fast"])


def test_a_folder_gets_its_name_back_when_the_exchange_fails(tmp_path, monkeypatch):
    fill(tmp_path / "out", "old")
    rename = os.rename
    failed = []

    def fail_once(source, target, *rest, **more):
        if str(source).endswith(".partial") and not failed:
            failed.append(source)
            raise OSError(28, "No space left on device")
        return rename(source, target, *rest, **more)

    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(OSError, match="No space left"):
        fill(tmp_path / "out", "new", overwrite=True)
    assert failed
    assert (tmp_path / "out" / "inner" / "file").read_text() == "old"
    assert everything(tmp_path) == ["out", "out/inner", "out/inner/file"]


def test_results_have_ordinary_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "file", "x")
        fill(tmp_path / "folder", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750
    assert os.umask(old) == old


@pytest.mark.parametrize("make", [write, fill])
def test_a_file_above_is_named(tmp_path, make):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(NotADirectoryError, match=r"out cannot be written: .*file is a file, not a folder"):
            make(path, "x")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("make", [write, fill])
def test_a_link_to_nowhere_exists(tmp_path, make):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        make(tmp_path / "out", "x")


def test_a_linked_folder_is_replaced_but_not_emptied(tmp_path):
    fill(tmp_path / "real", "precious")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    fill(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "real" / "inner" / "file").read_text() == "precious"
    assert (tmp_path / "out" / "inner" / "file").read_text() == "new"
    assert not (tmp_path / "out").is_symlink()


@pytest.mark.parametrize("make", [write, fill])
def test_names_may_be_as_long_as_the_file_system_allows(tmp_path, make):
    make(tmp_path / ("n" * 250), "x")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 250]


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("file", "x")
    fill("new/folder", "x")
    assert everything(tmp_path) == ["file", "new", "new/folder", "new/folder/inner", "new/folder/inner/file"]


def test_another_process_is_faster(tmp_path, monkeypatch):
    """It gives the name to a folder of its own between two steps of the exchange: both end, the last one wins."""
    fill(tmp_path / "out", "old")
    rename, names = Path.rename, []

    def slow(self, target):
        names.append(self.name)
        if len(names) == 2:  # the old folder is out of the way, ours is about to take its name
            fill(tmp_path / "out", "theirs")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    fill(tmp_path / "out", "ours", overwrite=True)
    assert (tmp_path / "out/inner/file").read_text() == "ours"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_folder_of_another_process_is_not_replaced_unasked(tmp_path, monkeypatch):
    rename, first = Path.rename, []

    def slow(self, target):
        if not first:
            first.append(self)
            fill(tmp_path / "out", "theirs")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    with pytest.raises(FileExistsError, match="left as it is"):
        fill(tmp_path / "out", "ours")
    assert (tmp_path / "out/inner/file").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
