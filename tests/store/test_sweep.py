"""What is taken out of a store leaves it clean, and gives back the bytes that were said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.store_path import base_name
from bridge.store.holds import release
from bridge.store.inventory import Inventory
from bridge.store.layout import Store
from bridge.store.sweep import Sweep, in_order, reclaimable, remove, take_out
from bridge.store.verify import verify

from .filling import add, add_file, assert_clean
from .keeping import chain


@given(st.data())
def test_what_refers_comes_before_what_it_refers_to(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    references = [data.draw(st.lists(st.integers(0, row), max_size=3)) for row in range(count)]
    order = data.draw(st.permutations(range(count)))
    # The rows in any order; each may refer to itself.
    shuffled = [[order.index(other) for other in references[row]] for row in order]
    names = [str(row) for row in range(count)]
    rows = data.draw(st.sets(st.integers(0, count - 1))) if count else set()
    found = in_order(Inventory(names, {}, [0] * count, shuffled), rows)
    assert sorted(found) == sorted(names[row] for row in rows)
    at = {int(name): place for place, name in enumerate(found)}
    assert all(at[row] < at[other] for row in rows for other in shuffled[row] if other in rows and other != row)


def test_objects_that_refer_to_each_other_go_both() -> None:
    assert sorted(in_order(Inventory(["a", "b"], {}, [1, 1], [[1], [0]]), [0, 1])) == ["a", "b"]


def test_a_file_counts_once_and_only_if_all_its_names_go(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "b" / "file").hardlink_to(tmp_path / "a" / "file")
    (tmp_path / "c" / "link").symlink_to("/etc")
    file = os.lstat(tmp_path / "a" / "file").st_blocks * 512
    folder = os.lstat(tmp_path / "a").st_blocks * 512
    assert reclaimable([tmp_path / "a"]) == folder
    assert reclaimable([tmp_path / "a", str(tmp_path / "b")]) == 2 * folder + file
    assert reclaimable([tmp_path / "c", tmp_path / "gone"]) <= 2 * folder
    assert file >= 100_000


def test_what_is_taken_out_is_gone_with_folders_that_are_empty(store: Store) -> None:
    clean, train = chain(store)
    folder = f"{store.trace}/{base_name(train.drv)}"
    sweep = Sweep([f"{folder}/{train.id}.json"], [base_name(train.outputs["out"])], folders=[folder, str(store.trace)])
    assert remove(take_out(store, sweep)) > 0
    assert not os.path.exists(folder)
    assert store.is_valid(clean.outputs["out"])
    assert not store.is_valid(train.outputs["out"])
    assert_clean(store)


def test_what_is_gone_already_is_no_fault(store: Store) -> None:
    gone = str(store.root / "gone")
    sweep = Sweep([f"{gone}/x.json"], ["0" * 32 + "-x"], [Path(gone)], [gone], [gone])
    assert remove(take_out(store, sweep)) == 0
    assert_clean(store)


KILLED = """
import os, signal, sys
from bridge.store.gc import collect
from bridge.store.layout import open_store
from bridge.store.policy import Policy
store, event, at = open_store(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def hook(name, arguments):
    global at
    if name == event and sys.argv[1] in str(arguments[0]):
        at -= 1
        if at == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
collect(store, Policy(unrooted=True))
"""


@pytest.mark.parametrize("event", ["os.remove", "os.rename", "os.rmdir", "os.chmod", "shutil.rmtree"])
def test_a_kill_at_any_of_its_calls_leaves_a_clean_store(store: Store, event: str) -> None:
    chain(store)

    def build(tree: Path) -> None:
        (tree / "sub").mkdir(parents=True)
        (tree / "sub" / "file").write_text("contents")

    killed = 0
    for at in range(1, 30):
        chain(store)
        add(store, "tree", build)
        add_file(store, "alone")
        release()
        done = subprocess.run([sys.executable, "-c", KILLED, store.root, event, str(at)], check=False, timeout=60)
        assert verify(store).findings == []
        if done.returncode == 0:
            break
        killed += 1
    assert killed
    # What the killed ones left, the last one took.
    assert list(store.objects.iterdir()) == list(store.tmp.iterdir()) == list(store.trace.iterdir()) == []
