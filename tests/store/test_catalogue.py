from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.formats.hashes import Hash
from bridge.store import harvest, sizes
from bridge.store import listing as module
from bridge.store.catalogue import Catalogue, catalogue, damaged, entries, near_ids
from bridge.store.errors import RecordError
from bridge.store.info import ObjectInfo, register
from bridge.store.layout import Store, open_store
from bridge.store.trace import Realization, realizations, record, resolved_derivations

DRV, OTHER = (f"/nix/store/{digit * 32}-{name}.drv" for digit, name in (("1", "train"), ("2", "test")))
ONE = Realization(DRV, {"out": "/nix/store/" + "3" * 32 + "-train"}, "train", DRV, "python", 0.0, 2.0)


def made(store: Store, number: int, drv: str = DRV, **more: object) -> Realization:
    named = {"stage": drv[44:-4], "drv": drv, "started": float(number), "metrics": {"loss": number / 7}}
    return record(store, replace(ONE, index=number, **{**named, **more}))


def cache(store: Store) -> Path:
    return store.root / "cache" / "catalogue.columns"


def settle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what is there had been there for long."""
    monkeypatch.setattr(module, "_JUST_NOW", -1)


def tick() -> None:
    """Let the file system's clock go on, so that a later change is at a later time."""
    time.sleep(0.02)


def assert_right(store: Store) -> None:
    """The catalogue says what the records say, whether it comes from the cache or from them."""
    wanted = [one for drv in resolved_derivations(store) for one in realizations(store, drv)]
    wanted.sort(key=lambda one: (one.started, one.id))
    found = entries(store)
    for name in ("id", "drv", "stage_drv", "stage", "started", "stopped", "index", "runner", "result"):
        assert [getattr(one, name) for one in found] == [getattr(one, name) for one in wanted]
    assert [dict(one.metrics) for one in found] == [dict(one.metrics) for one in wanted]
    assert [dict(one.outputs) for one in found] == [dict(one.outputs) for one in wanted]


@pytest.fixture(autouse=True)
def kept_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is written for each record, not only for many."""
    monkeypatch.setattr(module, "_FEW", 0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The records that are read from their files."""
    seen: list[str] = []
    real = harvest.contents

    def watched(name: str, folder: int) -> bytes:
        seen.append(name[-21:-5])
        return real(name, folder)

    monkeypatch.setattr(harvest, "contents", watched)
    return seen


def test_all_realizations_are_listed_oldest_first(store: Store) -> None:
    assert entries(store) == []
    for number in (3, 1, 2):
        made(store, number)
        made(store, number, OTHER, started=number + 0.5)
    for _ in range(3):
        assert_right(store)
    assert [one.index for one in entries(store, stage="train")] == [1, 2, 3]
    assert entries(store, stage="tra") == []


@pytest.mark.parametrize("settled", [True, False])
def test_a_record_is_read_once(store: Store, reads: list[str], settled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if settled:
        settle(store, monkeypatch)
    for number in range(5):
        made(store, number)
    entries(store)
    assert len(reads) == 5
    assert len(entries(store)) == 5
    tick()
    new = made(store, 9)
    assert len(entries(store)) == len(entries(store)) == 6
    assert reads[5:] == [new.id]
    assert_right(store)


def test_what_is_gone_is_not_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(store, monkeypatch)
    first = made(store, 1)
    made(store, 2)
    made(store, 3, OTHER)
    entries(store)
    tick()
    (store.trace / DRV[11:] / f"{first.id}.json").unlink()
    assert_right(store)
    tick()
    shutil.rmtree(store.trace / OTHER[11:])
    assert [one.index for one in entries(store)] == [2]
    assert_right(store)


def test_a_folder_that_was_young_when_it_was_listed_and_is_gone_is_not_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = made(store, 1, OTHER)
    with monkeypatch.context() as later:
        settle(store, later)
        assert [one.id for one in entries(store)] == [kept.id]
    dropped = made(store, 2)
    assert {one.id for one in entries(store)} == {kept.id, dropped.id}
    shutil.rmtree(store.trace / DRV[11:])
    assert [one.id for one in entries(store)] == [kept.id]


def test_a_copy_that_sets_times_back_hides_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(store, monkeypatch)
    made(store, 1)
    folder = store.trace / DRV[11:]
    before = folder.stat()
    entries(store)
    tick()
    made(store, 2)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [one.index for one in entries(store)] == [1, 2]


def test_few_new_records_are_read_each_time_and_for_many_the_cache_is_written_again(
    store: Store, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(store, monkeypatch)
    monkeypatch.setattr(module, "_FEW", 3)
    for number in range(4):
        made(store, number)
    assert_right(store)
    assert_right(store)
    assert len(reads) == 4
    tick()
    before = cache(store).read_bytes()
    few = [made(store, number, OTHER).id for number in (5, 6, 7)]
    for _ in range(2):
        assert_right(store)
    assert sorted(reads[4:]) == sorted(few * 2)
    assert cache(store).read_bytes() == before
    (store.trace / DRV[11:] / f"{entries(store)[0].id}.json").unlink()
    tick()
    assert_right(store)
    assert cache(store).read_bytes() != before
    reads.clear()
    assert_right(store)
    assert reads == []


@pytest.mark.parametrize("data", [b"", b"no columns", b"0" * 8 + b" {}\n", b"\xff" * 5000])
def test_a_damaged_cache_is_made_again(store: Store, data: bytes) -> None:
    made(store, 1)
    entries(store)
    right = cache(store).read_bytes()
    cache(store).chmod(0o644)
    cache(store).write_bytes(data)
    assert_right(store)
    assert cache(store).read_bytes() == right


def test_a_cache_of_another_version_is_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made(store, 1)
    with monkeypatch.context() as before:
        before.setattr(module, "_VERSION", 2)
        entries(store)
    old = cache(store).read_bytes()
    assert_right(store)
    assert cache(store).read_bytes() != old


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_changed_byte_never_changes_the_answer(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int) -> None:
    store = open_store(tmp_path_factory.mktemp("flip") / "store")
    for number in range(3):
        made(store, number)
    entries(store)
    data = bytearray(cache(store).read_bytes())
    data[at % len(data)] ^= flip
    cache(store).chmod(0o644)
    cache(store).write_bytes(data)
    assert [one.metrics["loss"] for one in entries(store)] == [0.0, 1 / 7, 2 / 7]
    shutil.rmtree(store.root)


def test_a_store_that_can_not_be_written_is_read(store: Store) -> None:
    made(store, 1)
    (store.root / "cache").write_text("a file where the folder should be")
    assert_right(store)


@pytest.mark.parametrize("new_folder", [True, False])
def test_who_listed_before_another_one_takes_nothing_away_for_good(
    store: Store, monkeypatch: pytest.MonkeyPatch, new_folder: bool
) -> None:
    made(store, 1)
    entries(store)
    scan = module._scanned

    def slow(*given: Any) -> Any:
        """Between listing the folders and reading the cache another process adds a record, and lists it."""
        found = scan(*given)
        monkeypatch.setattr(module, "_scanned", scan)
        made(store, 2, OTHER if new_folder else DRV)
        settle(store, monkeypatch)
        assert len(entries(store)) == 2
        return found

    monkeypatch.setattr(module, "_scanned", slow)
    entries(store)
    assert_right(store)
    assert len(entries(store)) == 2


def test_a_full_disk_is_no_error(small_disk: Path) -> None:
    store = open_store(small_disk / "store")
    for number in range(20):
        made(store, number)
    free = os.statvfs(small_disk).f_bfree * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(b"x" * free)
    assert_right(store)


def test_damaged_records_are_told_of_each_time_and_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(store, monkeypatch)
    one = made(store, 1)
    folder = store.trace / DRV[11:]
    (folder / ("0" * 16 + ".json")).write_text("{")
    newer = json.loads((folder / f"{one.id}.json").read_text()) | {"version": 2, "more": 1}
    (folder / ("1" * 16 + ".json")).write_text(json.dumps(newer))
    for _ in range(2):
        said: list[RecordError] = []
        assert [one.index for one in entries(store, on_damaged=said.append)] == [1]
        assert len(said) == 2
        assert any("is damaged" in error.message for error in said)
        assert any("is of version 2" in error.message and "newer nixbridge" in str(error.hint) for error in said)
    assert len(damaged(store)) == 2
    tick()
    (folder / ("0" * 16 + ".json")).unlink()
    assert len(damaged(store)) == 1


def test_left_files_are_no_records(store: Store) -> None:
    made(store, 1)
    (store.trace / "stray").touch()
    (store.trace / ".partial").mkdir()
    for name in (".x.json.Ab12", "x.json~", os.fsdecode(b"\xff.json")):
        (store.trace / DRV[11:] / name).touch()
    assert len(entries(store)) == 1
    assert damaged(store) == []


@pytest.mark.parametrize("few", [0, 200])
def test_sizes_are_those_of_what_is_there(store: Store, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(sizes, "_FEW", few)
    path = ONE.outputs["out"]
    register(store, ObjectInfo(path, Hash("sha256", bytes(32)), 120, (), None))
    made(store, 1)
    made(store, 2, outputs={"out": path, "dev": "/nix/store/" + "4" * 32 + "-train-dev"})
    assert [one.size for one in entries(store)] == [None, None]
    assert [one.size for one in entries(store, sizes=True)] == [120, None]
    store.info_file(path).unlink()
    assert [one.size for one in entries(store, sizes=True, stage="train")] == [None, None]
    # What is damaged is for `verify`.
    store.info_file(path).write_text("{")
    assert [one.size for one in entries(store, sizes=True)] == [None, None]


def test_columns_and_some_of_the_rows_are_those_of_the_entries(store: Store) -> None:
    for number in range(5):
        made(store, number, DRV if number % 2 else OTHER)
    found, listed = catalogue(store), entries(store)
    for each in (found, Catalogue.of(listed)):
        assert list(each) == listed
        assert each.column("metrics") == [one.metrics for one in listed]
        some = each.only([3, 1])
        assert list(some) == [some[0], some[1]] == some[:] == [listed[3], listed[1]]
        assert list(some.only([1])) == [listed[1]]
        assert (len(each), len(some)) == (5, 2)


def test_texts_that_have_no_bytes_are_kept(store: Store) -> None:
    made(store, 1, stage="\ud800", metrics={"\udcff": "\ud800\x00", "big": 10**400, "nan": float("inf")})
    for _ in range(2):
        [one] = entries(store, stage="\ud800")
        assert one.metrics == {"\udcff": "\ud800\x00", "big": 10**400, "nan": float("inf")}


def test_processes_ask_and_record_at_once(store: Store) -> None:
    code = (
        "import sys; from bridge.store.catalogue import entries; from bridge.store.layout import Store;"
        "from pathlib import Path; s = Store(Path(sys.argv[1])); n = [len(entries(s)) for _ in range(12)];"
        "assert n == sorted(n), n"
    )
    asking = [subprocess.Popen([sys.executable, "-c", code, str(store.root)]) for _ in range(4)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: made(store, number), range(80)))
    assert [one.wait() for one in asking] == [0] * 4
    assert_right(store)
    assert len(entries(store)) == 80


_LISTING = """
import sys, time
from pathlib import Path
from bridge.store import catalogue, listing
from bridge.store.layout import Store

# Some of them take a folder for settled at once, so that both ways meet.
listing._JUST_NOW, listing._FEW = int(sys.argv[2]), int(sys.argv[3])
store, seen = Store(Path(sys.argv[1])), set()
while True:
    last = (store.root / "done").exists()
    found = [one.id for one in catalogue.entries(store)]
    assert len(found) == len(set(found)), "twice"
    assert seen <= set(found), "gone"
    seen = set(found)
    if last:
        break
print(len(seen))
"""
_ADDING = """
import sys
from dataclasses import replace
from pathlib import Path
from bridge.store.layout import Store
from bridge.store.trace import Realization, record

store, who = Store(Path(sys.argv[1])), int(sys.argv[2])
for number in range(40):
    drv = f"/nix/store/{str(number % 5) * 32}-train.drv"
    record(store, Realization(drv, {"out": "/nix/store/" + "3" * 32 + "-train"}, "train", drv, "python",
                              float(number), 99.0, index=who))
"""


def test_nothing_is_listed_twice_or_lost_while_others_add(store: Store) -> None:
    def begun(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(store.root), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    # To take a folder for settled too early is wrong only if it changes within the clock's tick: a jiffy.
    ways = [(2 * 10**9, 0), (2 * 10**9, 0), (2 * 10**7, 0), (2 * 10**7, 20)]
    listing = [begun(_LISTING, *way) for way in ways]
    adding = [begun(_ADDING, who) for who in range(3)]
    assert [one.communicate(timeout=60)[0] for one in adding] == [""] * 3
    assert [one.returncode for one in adding] == [0] * 3
    (store.root / "done").touch()
    assert [one.communicate(timeout=60)[0] for one in listing] == ["120\n"] * 4
    assert_right(store)


def test_an_id_that_was_mistyped_has_neighbours(store: Store) -> None:
    one = made(store, 1)
    made(store, 2)
    typed = one.id[:3] + ("0" if one.id[3] != "0" else "1") + one.id[4:8]
    assert one.id in near_ids(store, typed)
    assert near_ids(store, "e") == near_ids(store, "") == []
