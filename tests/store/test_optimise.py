"""Equal files become one, and nobody who reads notices."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.formats import nar
from bridge.store.gc import collect
from bridge.store.holds import release
from bridge.store.layout import Store
from bridge.store.optimise import optimise
from bridge.store.policy import Policy
from bridge.store.verify import verify

from .filling import add, add_file, assert_clean

BIG = b"x" * 10_000


def tree(own: str) -> object:
    """A builder of a tree with a program, a text and a text of its own."""

    def build(root: Path) -> None:
        (root / "bin").mkdir(parents=True)
        (root / "bin" / "tool").write_bytes(BIG)
        (root / "bin" / "tool").chmod(0o755)
        (root / "text").write_bytes(BIG)
        (root / "own").write_text(own)
        (root / "empty").write_text("")
        (root / "link").symlink_to("text")

    return build


def inodes(store: Store, name: str) -> set[int]:
    return {os.lstat(path).st_ino for path in store.objects.glob(f"**/{name}")}


def used(store: Store) -> int:
    """Bytes of the disk."""
    every = {status.st_ino: status.st_blocks for path in store.objects.rglob("*") for status in [os.lstat(path)]}
    return 512 * sum(every.values())


def test_equal_files_are_one_and_the_bytes_are_free(store: Store) -> None:
    for own in "abc":
        add(store, own, tree(own))  # type: ignore[arg-type]
    before = used(store)
    found = optimise(store)
    assert found.files == 4
    assert found.freed == before - used(store) > 0
    assert len(inodes(store, "text")) == 1
    # What may be executed is another file.
    assert len(inodes(store, "tool")) == 1
    assert inodes(store, "text").isdisjoint(inodes(store, "tool"))
    assert len(inodes(store, "own")) == len(inodes(store, "empty")) == 3
    assert_clean(store)
    assert (optimise(store).files, optimise(store).freed) == (0, 0)


def test_objects_that_are_files_are_linked(store: Store) -> None:
    add_file(store, "one", BIG)
    add_file(store, "two", BIG)
    assert optimise(store).files == 1
    assert_clean(store)


def test_what_was_changed_is_not_spread(store: Store) -> None:
    """A file that no longer looks as it should is left for `verify`."""
    one, two = add_file(store, "one", BIG), add_file(store, "two", BIG)
    store.real_path(one.path).chmod(0o644)
    assert optimise(store).files == 0
    assert store.real_path(two.path).stat().st_nlink == 1


def test_gc_counts_a_file_once_and_only_if_all_its_names_go(store: Store) -> None:
    for own in "ab":
        add(store, own, tree(own))  # type: ignore[arg-type]
    optimise(store)
    before = used(store)
    release()
    foreseen = collect(store, dry_run=True)
    found = collect(store, Policy())
    assert foreseen.freed == found.freed >= before
    assert list(store.objects.iterdir()) == []


READ = """
import hashlib, os, sys, time
from pathlib import Path
from bridge.formats import nar
print("reads", flush=True)
seen = set()
for _ in range(int(sys.argv[2])):
    for place in sorted(Path(sys.argv[1]).iterdir()):
        digest = hashlib.sha256(place.name.encode())
        nar.pack(place, digest.update)
        seen.add(digest.hexdigest())
print(len(seen))
"""
OPTIMISE = """
import sys
from bridge.store.layout import open_store
from bridge.store.optimise import optimise
print("starts", flush=True)
optimise(open_store(sys.argv[1]))
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    found = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert found.stdout is not None
    found.stdout.readline()
    return found


def test_readers_and_verify_beside_it_see_no_change(store: Store) -> None:
    for number in range(60):
        add(store, f"o{number}", tree(str(number)))  # type: ignore[arg-type]
    reader = start(READ, store.objects, 8)
    worker = start(OPTIMISE, store.root)
    while worker.poll() is None:
        assert verify(store).findings == []
    assert worker.communicate()[1] == ""
    out, errors = reader.communicate(timeout=60)
    assert (out, errors) == ("60\n", "")
    assert len(inodes(store, "text")) == 1


def test_a_killed_one_leaves_a_clean_store(store: Store) -> None:
    for number in range(40):
        add(store, f"o{number}", tree(str(number)))  # type: ignore[arg-type]
    chance = random.Random(3)
    for _ in range(12):
        worker = start(OPTIMISE, store.root)
        time.sleep(chance.uniform(0.0, 0.02))
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
        assert verify(store).findings == []
    optimise(store)
    assert len(inodes(store, "text")) == 1
    collect(store)
    assert verify(store).rubbish == []
    assert list(store.locks.glob("*.optimise")) == []


@pytest.mark.parametrize("moment", ["os.link", "os.chmod", "os.rename", "os.utime", "os.remove"])
def test_a_kill_at_any_of_its_calls_leaves_a_clean_store(store: Store, moment: str) -> None:
    program = """
import os, signal, sys
from bridge.store.layout import open_store
from bridge.store.optimise import optimise
store, event, at = open_store(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def hook(name, arguments):
    global at
    if name == event:
        at -= 1
        if at == 0:
            os.kill(os.getpid(), signal.SIGKILL)
print("starts", flush=True)
sys.addaudithook(hook)
optimise(store)
"""
    for own in "abcd":
        add(store, own, tree(own))  # type: ignore[arg-type]
    killed = 0
    for at in range(1, 8):
        worker = start(program, store.root, moment, at)
        worker.communicate()
        killed += worker.returncode == -signal.SIGKILL
        assert verify(store).findings == []
    assert killed
    for place in store.objects.iterdir():
        nar.pack(place, lambda chunk: None)
