"""What `verify` finds is mended: from another store, or by dropping it so that it is run again."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.formats import nix32
from bridge.store.gc import collect
from bridge.store.holds import hold
from bridge.store.info import ObjectInfo, read_info, register
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree
from bridge.store.repair import Repaired, repair
from bridge.store.trace import realizations
from bridge.store.verify import verify

from . import test_verify as damages
from .filling import assert_clean
from .test_verify import DRV, fill

OF_AN_OBJECT: list[Callable[[Store, ObjectInfo], Path]] = [
    damages.bytes_changed,
    damages.file_deleted,
    damages.file_added,
    damages.object_deleted,
    damages.object_swapped,
    damages.link_retargeted,
    damages.link_instead_of_a_file,
    damages.executable,
    damages.info_nested_without_end,
    damages.info_emptied,
    damages.info_deleted,
]
OF_A_STATUS = [
    damages.file_mode,
    damages.folder_mode,
    damages.file_is_setuid,
    damages.file_is_private,
    damages.file_time,
    damages.link_time,
    damages.folder_time,
]


@pytest.fixture
def backup(store: Store, tmp_path: Path) -> Iterator[Store]:
    """The filled store once more, as it was."""
    fill(store)
    subprocess.run(["cp", "-a", store.root, tmp_path / "backup"], check=True)
    yield open_store(tmp_path / "backup")
    remove_tree(tmp_path / "backup")


def output(store: Store) -> ObjectInfo:
    [one] = realizations(store, DRV)
    return read_info(store, one.outputs["out"])


def mended(store: Store, source: Store | None = None) -> list[Repaired]:
    """What was done; the store is clean after it, and there is nothing to do any more."""
    assert verify(store).findings
    found = repair(store, source=source)
    assert all(one.done for one in found)
    assert_clean(store)
    assert repair(store) == []
    return found


@pytest.mark.parametrize("damage", OF_AN_OBJECT)
def test_a_damaged_object_comes_from_a_store_that_has_it(
    store: Store, backup: Store, damage: Callable[[Store, ObjectInfo], Path]
) -> None:
    info = output(store)
    damage(store, info)
    assert all("taken from" in (one.done or "") for one in mended(store, backup))
    assert read_info(store, info.path) == info
    assert len(realizations(store, DRV)) == 1


@pytest.mark.parametrize("damage", OF_AN_OBJECT)
def test_a_damaged_object_is_dropped_with_its_record_where_nobody_has_it(
    store: Store, backup: Store, damage: Callable[[Store, ObjectInfo], Path]
) -> None:
    info = output(store)
    damage(store, info)
    assert all("dropped" in (one.done or "") for one in mended(store))
    assert not store.is_valid(info.path)
    assert realizations(store, DRV) == []
    assert len(list(store.info.iterdir())) == 2


def test_an_object_that_is_damaged_there_as_well_is_dropped(store: Store, backup: Store) -> None:
    info = output(store)
    damages.bytes_changed(store, info)
    damages.file_deleted(backup, info)
    mended(store, backup)
    assert realizations(store, DRV) == []


def test_another_object_of_the_same_path_is_not_taken(store: Store, backup: Store) -> None:
    """An input-addressed path says nothing of the contents."""
    info = output(store)
    for one in (store, backup):
        register(one, replace(info, content_address=None))
    damages.bytes_changed(backup, info)
    damages.bytes_changed(store, info)
    mended(store, backup)
    assert not store.is_valid(info.path)


@pytest.mark.parametrize("damage", OF_A_STATUS)
def test_modes_and_times_are_set_and_nothing_is_dropped(
    store: Store, damage: Callable[[Store, ObjectInfo], Path]
) -> None:
    damage(store, fill(store))
    assert {one.done for one in mended(store)} == {"modes and times set"}
    assert len(realizations(store, DRV)) == 1


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_record_comes_from_elsewhere_or_is_dropped(store: Store, backup: Store, text: str) -> None:
    for source, left in ((backup, 1), (None, 0)):
        [file] = store.trace.glob("*/*.json")
        file.chmod(0o644)
        file.write_text(text)
        mended(store, source)
        assert len(list(store.trace.glob("*/*.json"))) == left


def test_a_record_of_a_newer_release_stays(store: Store) -> None:
    fill(store)
    [file] = store.trace.glob("*/*.json")
    data = file.read_bytes().replace(b'"version": 1', b'"version": 9')
    newer = file.with_name(f"{nix32.encode(hashlib.sha256(data).digest())[:16]}.json")
    newer.write_bytes(data)
    [found] = repair(store)
    assert (found.finding.kind, found.done) == ("newer", None)
    assert newer.read_bytes() == data


def test_a_record_among_those_of_another_derivation_is_put_back(store: Store) -> None:
    fill(store)
    [file] = store.trace.glob("*/*.json")
    wrong = store.trace / ("2" * 32 + "-other.drv")
    wrong.mkdir()
    file.rename(wrong / file.name)
    mended(store)
    assert len(realizations(store, DRV)) == 1


def test_what_this_very_process_uses_is_repaired_as_well(store: Store, backup: Store) -> None:
    info = output(store)
    hold(store, [info.path])
    damages.bytes_changed(store, info)
    mended(store, backup)
    assert store.is_valid(info.path)


REPAIR = """
import os, signal, sys
from bridge.store.layout import open_store
from bridge.store.repair import repair
store, source, event, at = open_store(sys.argv[1]), open_store(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def hook(name, arguments):
    global at
    if name == event:
        at -= 1
        if at == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
repair(store, source=source)
"""


@pytest.mark.parametrize("event", ["os.rename", "os.remove", "os.chmod", "os.utime"])
def test_one_that_is_killed_is_finished_by_the_next(store: Store, backup: Store, event: str) -> None:
    before = output(store)
    killed = 0
    for at in range(1, 40):
        for damage in (damages.bytes_changed, damages.folder_mode):
            damage(store, before)
        [record] = store.trace.glob("*/*.json")
        record.chmod(0o644)
        record.write_text("{")
        done = subprocess.run(
            [sys.executable, "-c", REPAIR, store.root, backup.root, event, str(at)], check=False, timeout=60
        )
        repair(store, source=backup)
        assert verify(store).findings == []
        assert output(store) == before
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        killed += 1
    assert killed
    collect(store)
    assert_clean(store)
