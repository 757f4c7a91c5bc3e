from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.store import records as module
from bridge.store.errors import DiskError, RecordError
from bridge.store.layout import Store, open_store
from bridge.store.records import COLUMNS, Records, read_records
from bridge.store.trace import Realization, realizations, record
from bridge.store.verify import verify

DRV = "/nix/store/" + "1" * 32 + "-train.drv"
ONE = Realization(DRV, {}, "train", DRV, "nix", 0.0, 12.0, {}, {"python": "3"}, 2, 77, "a.log")


def some_records(store: Store, count: int, *, first: int = 0) -> list[Realization]:
    """Realizations in no order of their names."""
    times = random.Random(first).sample(range(10**6), count)
    return [
        record(
            store,
            replace(
                ONE,
                outputs={"out": f"/nix/store/{first + number:0>32}-train"},
                started=float(time),
                metrics={"loss": time / 7} if number % 3 else {"loss": None, "name": f"ü{time}"},
            ),
        )
        for number, time in enumerate(times)
    ]


def index_file(store: Store) -> Path:
    return store.root / "cache" / f"{DRV[11:]}.records"


def assert_right(store: Store) -> None:
    """What is read by column is what is read by file."""
    found, wanted = read_records(store, DRV), realizations(store, DRV)
    assert len(found) == len(wanted)
    for name in (*COLUMNS, "seed", "log"):
        assert found.column(name) == [getattr(one, name) for one in wanted]
    for name in ("loss", "name", "other"):
        assert found.column(f"metrics.{name}") == [one.metrics.get(name) for one in wanted]
    assert list(found) == found[:] == wanted


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


@pytest.mark.parametrize("count", [0, 1, 64])
def test_few_records_have_no_index(store: Store, count: int) -> None:
    some_records(store, count)
    assert_right(store)
    assert not index_file(store).exists()


def test_many_records_are_read_once(store: Store, reads: list[str]) -> None:
    made = some_records(store, 70)
    read_records(store, DRV)
    assert len(reads) == 70
    reads.clear()
    found = read_records(store, DRV)
    assert [len(found.column(name)) for name in COLUMNS] == [70] * len(COLUMNS)
    assert reads == []
    assert found[3].log == "a.log"
    assert found[3] is found[3]
    assert reads == [found.column("id")[3]]
    assert {one.id for one in made} == set(found.column("id"))
    assert_right(store)


def test_only_new_records_are_read(store: Store, reads: list[str]) -> None:
    some_records(store, 70)
    read_records(store, DRV)
    reads.clear()
    before = index_file(store).read_bytes()
    new = some_records(store, 5, first=100)
    assert_right(store)
    assert set(reads[:5]) == {one.id for one in new}
    assert index_file(store).read_bytes() == before
    some_records(store, 60, first=200)
    assert_right(store)
    assert index_file(store).read_bytes() != before


def test_records_that_are_gone_are_no_longer_seen(store: Store) -> None:
    made = some_records(store, 150)
    read_records(store, DRV)
    before = index_file(store).read_bytes()
    for number, one in enumerate(made[:80]):
        (store.trace / DRV[11:] / f"{one.id}.json").unlink()
        if number in (0, 30):
            assert_right(store)
            assert index_file(store).read_bytes() == before
    assert_right(store)
    assert index_file(store).read_bytes() != before


def test_the_index_of_another_store_does_no_harm(store: Store, tmp_path: Path) -> None:
    some_records(store, 70)
    other = open_store(tmp_path / "other")
    some_records(other, 70, first=30)
    for one in (store, other):
        read_records(one, DRV)
    index_file(store).unlink()
    index_file(store).write_bytes(index_file(other).read_bytes())
    assert_right(store)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(data=st.data())
def test_a_damaged_index_is_made_again(store: Store, data: st.DataObject) -> None:
    if not index_file(store).exists():
        some_records(store, 70)
        read_records(store, DRV)
    good = index_file(store).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    damage = data.draw(st.sampled_from(["cut", "flip", "double", "newline"]))
    bad = {
        "cut": good[:at],
        "flip": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :],
        "double": good + good,
        "newline": good[:at] + b"\n" + good[at:],
    }[damage]
    index_file(store).unlink()
    index_file(store).write_bytes(bad)
    assert_right(store)
    assert index_file(store).read_bytes() == good


@pytest.mark.parametrize("head", [b"[]", b"5", b"{}", b'{"columns": 5}', b'{"columns": []}', b"\xff", b""])
def test_another_version_of_the_index_is_made_again(store: Store, head: bytes) -> None:
    some_records(store, 70)
    read_records(store, DRV)
    good = index_file(store).read_bytes()
    index_file(store).unlink()
    index_file(store).write_bytes(head + good[good.index(b"\n") :])
    assert_right(store)
    assert index_file(store).read_bytes() == good


@pytest.mark.parametrize("failing", ["mkdir", "write_file"])
def test_a_store_that_can_not_be_written_needs_no_index(
    store: Store, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_records(store, 70)

    def refuse(*args: object, **more: object) -> None:
        raise DiskError("full") if failing == "write_file" else OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(module, "write_file", refuse) if failing == "write_file" else monkeypatch.setattr(
        Path, "mkdir", refuse
    )
    assert_right(store)
    assert not index_file(store).exists()


def test_the_index_is_no_truth_and_no_finding(store: Store) -> None:
    made = some_records(store, 70)
    read_records(store, DRV)
    assert verify(store).findings == []
    file = store.trace / DRV[11:] / f"{made[0].id}.json"
    value = json.loads(file.read_bytes())
    file.chmod(0o644)
    file.write_text(json.dumps(value | {"metrics": {"loss": 0}}))
    assert [finding.path for finding in verify(store).findings] == [str(file)]
    file.write_text("{")
    found = read_records(store, DRV)
    with pytest.raises(RecordError, match="damaged"):
        found[found.column("id").index(made[0].id)]


def test_a_record_that_goes_while_it_is_read_was_never_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = some_records(store, 3)
    names = os.listdir(store.trace / DRV[11:])
    (store.trace / DRV[11:] / f"{made[0].id}.json").unlink()
    monkeypatch.setattr(module, "record_names", lambda folder: names)
    assert set(read_records(store, DRV).column("id")) == {one.id for one in made[1:]}


def test_a_record_that_goes_later_is_an_error(store: Store) -> None:
    made = some_records(store, 70)
    read_records(store, DRV)
    found = read_records(store, DRV)
    (store.trace / DRV[11:] / f"{made[0].id}.json").unlink()
    with pytest.raises(RecordError, match="is gone"):
        found[found.column("id").index(made[0].id)]


def test_left_files_are_no_records(store: Store) -> None:
    some_records(store, 70)
    for name in (".x.json.Ab12", ".x.json", "x.json~", "x.tmp"):
        (store.trace / DRV[11:] / name).write_text("{")
    for _ in range(2):
        assert_right(store)


def test_records_may_be_in_memory() -> None:
    made: Sequence[Any] = [replace(ONE, id=name, started=time) for name, time in (("b", 2.0), ("c", 1.0), ("a", 2.0))]
    found = Records.of(made)
    assert found.column("id") == ["c", "a", "b"]
    assert list(found) == [made[1], made[2], made[0]]


def test_readers_and_writers_do_not_disturb_each_other(store: Store) -> None:
    some_records(store, 70)
    seen: list[set[str]] = []

    def read() -> None:
        last: set[str] = set()
        for _ in range(15):
            found = set(read_records(store, DRV).column("id"))
            assert found >= last
            last = found
        seen.append(last)

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(read) for _ in range(3)]
        done += [pool.submit(some_records, store, 80, first=100 * number) for number in (1, 2, 3)]
        for one in done:
            one.result()
    assert len(seen) == 3
    assert_right(store)
    assert len(read_records(store, DRV)) == 310
