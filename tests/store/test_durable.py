"""Disks that fail: pyfakefs for a disk that is full, a counter for the n-th write, a small tmpfs for the real thing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem

from bridge.formats import nar
from bridge.formats.hashes import Hash
from bridge.formats.store_path import source_path, text_path
from bridge.store.durable import dead_temporaries, temporary, write_file, write_files
from bridge.store.errors import DiskError
from bridge.store.layout import Store, open_store
from bridge.store.objects import add_nar, add_output, add_texts
from bridge.store.trace import Realization, record

from .filling import add, assert_clean, assert_empty

TREE = nar.Directory({"a": nar.Regular(b"x" * 100), "b": nar.Directory({"c": nar.Symlink("../a")})})
DRV = "/nix/store/" + "1" * 32 + "-train.drv"


def chunks() -> list[bytes]:
    found: list[bytes] = []
    nar.dump(TREE, found.append)
    return found


SOURCE = source_path("tree", Hash.of(b"".join(chunks())).hex)
TEXTS = [(text_path(f"t{n}", Hash.of(b"%d" % n).hex), b"%d" % n, ()) for n in range(3)]
RESULT = Realization(DRV, {"out": SOURCE}, "train", DRV, "python", 1.0, 2.0)


def small_tree(tree: Path) -> None:
    tree.mkdir()
    (tree / "a").write_text("a")
    os.link(tree / "a", tree / "b")


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, turn: int, number: int) -> Iterator[list[str]]:
    """From the call `turn` on of those that change a disk, each fails with the error `number`, once."""
    calls: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == turn + 1:
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        patch.setattr(os, name, call)

    with monkeypatch.context() as patch:
        for name in ("open", "write", "fsync", "rename", "chmod", "utime", "mkdir"):
            wrap(name)
        yield calls


ENTRIES: dict[str, Callable[[Store, Path], object]] = {
    "source": lambda store, tree: add_nar(store, SOURCE, chunks),
    "output": lambda store, tree: add_output(store, "out", tree, ()),
    "texts": lambda store, tree: add_texts(store, TEXTS),
    "record": lambda store, tree: record(store, RESULT),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("what", ENTRIES)
def test_a_failure_at_any_write_is_one_disk_error_and_leaves_a_clean_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    failed: list[DiskError] = []
    for turn in range(200):
        store = open_store(tmp_path / str(turn))
        tree = temporary(store)
        if what == "output":
            small_tree(tree)
        if what == "record":
            add_nar(store, SOURCE, chunks)
        try:
            with failing(monkeypatch, turn, number) as calls:
                ENTRIES[what](store, tree)
        except DiskError as error:
            failed.append(error)
        if what == "output":
            # The tree is the caller's until it is in.
            subprocess.run(["rm", "-rf", tree], check=True)
        assert_clean(store)
        if what != "texts":
            assert {path.stem for path in store.info.iterdir()} == {path.name for path in store.objects.iterdir()}
        ENTRIES_AGAIN[what](store)
        assert_clean(store)
        if len(calls) <= turn:
            break
    else:
        pytest.fail("the writes never end")
    assert len(failed) > 3
    assert all(os.strerror(number) in str(error) for error in failed)
    assert all((error.hint is not None) == (number == errno.ENOSPC) for error in failed)


ENTRIES_AGAIN: dict[str, Callable[[Store], object]] = {
    **{name: lambda store, name=name: ENTRIES[name](store, store.tmp) for name in ("source", "texts", "record")},
    "output": lambda store: add(store, "out", small_tree),
}


@pytest.mark.parametrize("what", ["source", "texts", "record"])
def test_a_full_disk_is_one_disk_error_and_nothing_is_left(fs: FakeFilesystem, what: str) -> None:
    store = open_store("/store")
    fs.set_disk_usage(fs.get_disk_usage("/store").used + 60, "/store")
    with pytest.raises(DiskError, match="No space left") as caught:
        ENTRIES[what](store, store.tmp)
    assert "make room" in (caught.value.hint or "")
    assert [path for path in store.objects.iterdir() if path.name not in str(TEXTS)] == []
    assert list(store.info.iterdir()) == list(store.tmp.iterdir()) == []


def test_a_real_disk_that_runs_full_takes_nothing_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    store = open_store(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200 << 10))
    data = os.urandom(100 << 10)
    archive: list[bytes] = []
    nar.dump(nar.Regular(data), archive.append)
    path = source_path("big", Hash.of(b"".join(archive)).hex)
    with pytest.raises(DiskError, match="No space left"):
        add_nar(store, path, lambda: archive)
    assert_empty(store)
    ballast.unlink()
    assert add_nar(store, path, lambda: archive).path == path
    assert_clean(store)


def test_a_disk_without_free_inodes_takes_none_of_many_texts(small_disk: Path) -> None:
    store = open_store(small_disk)
    texts = [(text_path(f"t{n}", Hash.of(b"").hex), b"", ()) for n in range(150)]
    with pytest.raises(DiskError, match="No space left"):
        add_texts(store, texts)
    assert_empty(store)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_many_files_are_written_whole_and_read_only(store: Store, count: int) -> None:
    targets = [store.roots / str(number) for number in range(count)]
    write_files(store, ((target, b"x" * 1000) for target in targets))
    assert all(target.read_bytes() == b"x" * 1000 for target in targets)
    assert all(target.stat().st_mode & 0o777 == 0o444 and target.stat().st_mtime == 1 for target in targets)
    assert list(store.tmp.iterdir()) == []


def test_a_narrow_umask_does_not_narrow_store_objects(store: Store) -> None:
    before = os.umask(0o077)
    try:
        add_texts(store, TEXTS)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in store.objects.iterdir()} == {0o444}


def test_a_file_is_replaced_at_once(store: Store) -> None:
    target = store.roots / "x"
    write_file(store, target, b"one")
    write_file(store, target, b"two")
    assert target.read_bytes() == b"two"


def test_only_what_dead_processes_left_is_dead(store: Store) -> None:
    mine = temporary(store)
    mine.write_text("")
    made = subprocess.run(
        [sys.executable, "-c", CHILD, store.root], capture_output=True, text=True, check=True
    ).stdout.strip()
    foreign = store.tmp / "other_host-1-abc"
    foreign.write_text("")
    (store.tmp / "strange").write_text("")
    assert [str(path) for path in dead_temporaries(store)] == [made]


CHILD = """
import sys
from bridge.store import open_store
from bridge.store.durable import temporary
path = temporary(open_store(sys.argv[1]))
path.mkdir()
print(path)
"""
