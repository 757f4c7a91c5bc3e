from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.formats.hashes import Hash
from bridge.store import catalogue as module
from bridge.store.catalogue import damaged, entries, near_ids
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
    return store.root / "cache" / "catalogue-2.sqlite"


def settle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what is there had been there for long."""
    monkeypatch.setattr(module, "_JUST_NOW", -1)


def assert_right(store: Store) -> None:
    """The catalogue says what the records say."""
    wanted = [one for drv in resolved_derivations(store) for one in realizations(store, drv)]
    wanted.sort(key=lambda one: (one.started, one.id))
    found = entries(store)
    for name in ("id", "drv", "stage_drv", "stage", "started", "stopped", "index", "runner", "result"):
        assert [getattr(one, name) for one in found] == [getattr(one, name) for one in wanted]
    assert [dict(one.metrics) for one in found] == [dict(one.metrics) for one in wanted]
    assert [dict(one.outputs) for one in found] == [dict(one.outputs) for one in wanted]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The records that are read from their files."""
    seen: list[str] = []
    real = module.read_file

    def watched(folder: str, identity: str) -> Realization | None:
        seen.append(identity)
        return real(folder, identity)

    monkeypatch.setattr(module, "read_file", watched)
    return seen


def test_all_realizations_are_listed_oldest_first(store: Store) -> None:
    assert entries(store) == []
    for number in (3, 1, 2):
        made(store, number)
        made(store, number, OTHER, started=number + 0.5)
    for _ in range(3):
        assert_right(store)
    assert [one.index for one in entries(store, stage="train")] == [1, 2, 3]
    assert [one.drv for one in entries(store, drv=OTHER)] == [OTHER] * 3
    assert entries(store, stage="tra") == entries(store, drv=DRV[:-5] + "x.drv") == []


@pytest.mark.parametrize("settled", [True, False])
def test_a_record_is_read_once(store: Store, reads: list[str], settled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if settled:
        settle(store, monkeypatch)
    for number in range(5):
        made(store, number)
    entries(store)
    assert len(reads) == 5
    assert len(entries(store)) == 5
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
    (store.trace / DRV[11:] / f"{first.id}.json").unlink()
    assert_right(store)
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
    made(store, 2)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [one.index for one in entries(store)] == [1, 2]


@pytest.mark.parametrize("data", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_cache_is_made_again(store: Store, data: bytes) -> None:
    made(store, 1)
    entries(store)
    cache(store).write_bytes(data)
    assert_right(store)
    assert sqlite3.connect(cache(store)).execute("SELECT count(*) FROM records").fetchone() == (1,)


def test_a_cache_of_another_shape_is_made_again(store: Store) -> None:
    made(store, 1)
    cache(store).parent.mkdir()
    other = sqlite3.connect(cache(store))
    other.execute("CREATE TABLE records (x)")
    other.commit()
    other.close()
    assert_right(store)
    assert_right(store)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_changed_byte_never_changes_the_answer(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int) -> None:
    store = open_store(tmp_path_factory.mktemp("flip") / "store")
    for number in range(3):
        made(store, number)
    entries(store)
    data = bytearray(cache(store).read_bytes())
    rows = data.index(b"train")
    data[(rows + at) % len(data)] ^= flip
    cache(store).write_bytes(data)
    assert [one.metrics["loss"] for one in entries(store)] == [0.0, 1 / 7, 2 / 7]
    shutil.rmtree(store.root)


def test_a_store_that_can_not_be_written_is_read(store: Store) -> None:
    made(store, 1)
    (store.root / "cache").write_text("a file where the folder should be")
    assert_right(store)


def test_a_locked_cache_is_done_without(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file, **more: real(file, **more, timeout=0.05))
    made(store, 1)
    entries(store)
    other = real(cache(store), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    made(store, 2)
    assert_right(store)
    other.execute("ROLLBACK")
    other.close()
    assert_right(store)


def test_a_cache_that_another_one_writes_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file, **more: real(file, **more, timeout=0.05))
    made(store, 1)
    entries(store)
    other = real(cache(store), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    made(store, 2)
    assert_right(store)
    other.execute("ROLLBACK")
    other.close()
    assert_right(store)


@pytest.mark.parametrize("new_folder", [True, False])
def test_who_listed_before_another_one_takes_nothing_away_for_good(
    store: Store, monkeypatch: pytest.MonkeyPatch, new_folder: bool
) -> None:
    made(store, 1)
    entries(store)
    scan = module._scan

    def slow(*given: Any) -> Any:
        """Between listing the folders and reading the cache another process adds a record, and lists it."""
        found = scan(*given)
        monkeypatch.setattr(module, "_scan", scan)
        made(store, 2, OTHER if new_folder else DRV)
        settle(store, monkeypatch)
        assert len(entries(store)) == 2
        return found

    monkeypatch.setattr(module, "_scan", slow)
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
    made(store, 1)
    folder = store.trace / DRV[11:]
    (folder / ("0" * 16 + ".json")).write_text("{")
    newer = json.loads(next(iter(folder.glob("[!0]*"))).read_text()) | {"version": 2, "more": 1}
    (folder / ("1" * 16 + ".json")).write_text(json.dumps(newer))
    for _ in range(2):
        said: list[RecordError] = []
        assert [one.index for one in entries(store, on_damaged=said.append)] == [1]
        assert len(said) == 2
        assert any("is damaged" in error.message for error in said)
        assert any("is of version 2" in error.message and "newer nixbridge" in str(error.hint) for error in said)
    assert len(damaged(store)) == 2
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


def test_sizes_are_looked_up_once_and_may_be_unknown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ONE.outputs["out"]
    register(store, ObjectInfo(path, Hash("sha256", bytes(32)), 120, (), None))
    made(store, 1)
    made(store, 2, outputs={"out": path, "dev": "/nix/store/" + "4" * 32 + "-train-dev"})
    assert [one.size for one in entries(store)] == [None, None]
    assert [one.size for one in entries(store, sizes=True)] == [120, None]
    monkeypatch.setattr(module, "find_info", lambda store, path: pytest.fail("again") if "dev" not in path else None)
    assert entries(store, sizes=True, stage="train")[0].size == 120


def test_texts_that_sqlite_does_not_take_are_kept(store: Store) -> None:
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
from bridge.store import catalogue
from bridge.store.layout import Store

# Half of them take a folder for settled at once, so that both ways meet.
catalogue._JUST_NOW = int(sys.argv[2])
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
    listing = [begun(_LISTING, just_now) for just_now in (2 * 10**9, 2 * 10**9, 2 * 10**7)]
    adding = [begun(_ADDING, who) for who in range(3)]
    assert [one.communicate(timeout=60)[0] for one in adding] == [""] * 3
    assert [one.returncode for one in adding] == [0] * 3
    (store.root / "done").touch()
    assert [one.communicate(timeout=60)[0] for one in listing] == ["120\n"] * 3
    assert_right(store)


def test_an_id_that_was_mistyped_has_neighbours(store: Store) -> None:
    one = made(store, 1)
    made(store, 2)
    typed = one.id[:3] + ("0" if one.id[3] != "0" else "1") + one.id[4:8]
    assert one.id in near_ids(store, typed)
    assert near_ids(store, "e") == near_ids(store, "") == []
