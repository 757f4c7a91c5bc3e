"""The cache of what derivations were given: damaged, locked, of derivations that are gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.formats.derivation.aterm import unparse
from bridge.formats.derivation.types import Derivation, Floating
from bridge.formats.store_path import STORE_DIR
from bridge.look.given import configs_of, uses_of
from bridge.look.ground import Ground
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree

USED = "0" * 32


def drv(number: int) -> str:
    return f"{STORE_DIR}/{number:032}-one.drv"


def put(store: Store, number: int) -> str:
    """A derivation with the config value n, which uses one object."""
    env = {"n": str(number), "src": f"{STORE_DIR}/{USED}-src"}
    made = Derivation("one", {"out": Floating()}, {}, (f"{STORE_DIR}/{USED}-src",), "x", "/bin/sh", (), env)
    store.place_of(drv(number)).write_bytes(unparse(made))
    return drv(number)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    remove_tree(found.root)


def cached(store: Store) -> list[str]:
    [file] = (store.root / "cache").glob("given-*.sqlite")
    with closing(sqlite3.connect(file)) as cache:
        return [row[0] for row in cache.execute("SELECT base FROM given")]


@pytest.mark.parametrize("count", [3, 300])
def test_what_was_learnt_is_read_again_without_the_derivations(store: Store, count: int) -> None:
    drvs = [put(store, number) for number in range(count)]
    expected = {one: {"n": str(number)} for number, one in enumerate(drvs)}
    assert configs_of(Ground(store), drvs) == expected
    for one in drvs:
        store.place_of(one).unlink()
    assert configs_of(Ground(store), drvs) == expected
    assert dict(uses_of(Ground(store), drvs)) == {one: [USED] for one in drvs}


def test_a_derivation_that_is_gone_or_damaged_has_no_config_and_hides_no_other(store: Store) -> None:
    there, damaged, gone = put(store, 1), put(store, 2), drv(3)
    place = store.place_of(damaged)
    place.write_bytes(place.read_bytes()[:-3])
    assert configs_of(Ground(store), [there, damaged, gone]) == {there: {"n": "1"}, damaged: {}, gone: {}}
    assert [path for path, _ in uses_of(Ground(store), [there, damaged, gone])] == [there]
    # What is there later is learnt then.
    put(store, 2)
    assert configs_of(Ground(store), [damaged]) == {damaged: {"n": "2"}}


@pytest.mark.parametrize("data", [b"", b"no database", b"SQLite format 3\0" + bytes(100)])
def test_a_damaged_cache_is_made_again(store: Store, data: bytes) -> None:
    one = put(store, 1)
    configs_of(Ground(store), [one])
    [file] = (store.root / "cache").glob("given-*.sqlite")
    file.write_bytes(data)
    assert configs_of(Ground(store), [one]) == {one: {"n": "1"}}
    assert len(cached(store)) == 1


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 2**20), flip=st.integers(1, 255))
def test_a_changed_byte_never_changes_the_answer(tmp_path_factory: pytest.TempPathFactory, at: int, flip: int) -> None:
    store = open_store(tmp_path_factory.mktemp("flipped") / "store")
    drvs = [put(store, number) for number in range(3)]
    expected = configs_of(Ground(store), drvs)
    [file] = (store.root / "cache").glob("given-*.sqlite")
    data = bytearray(file.read_bytes())
    data[at % len(data)] ^= flip
    file.write_bytes(data)
    assert configs_of(Ground(store), drvs) == expected
    assert dict(uses_of(Ground(store), drvs)) == {one: [USED] for one in drvs}


def test_who_asks_for_all_uses_forgets_what_has_no_realization_any_more(store: Store) -> None:
    drvs = [put(store, number) for number in range(5)]
    configs_of(Ground(store), drvs)
    assert len(cached(store)) == 5
    # A question about some leaves the others.
    configs_of(Ground(store), drvs[:1])
    assert len(cached(store)) == 5
    assert len(list(uses_of(Ground(store), drvs[:2]))) == 2
    assert sorted(cached(store)) == sorted(one.removeprefix(f"{STORE_DIR}/") for one in drvs[:2])


def test_a_store_that_can_not_be_written_is_asked(store: Store) -> None:
    one = put(store, 1)
    (store.root / "cache").mkdir(exist_ok=True)
    with closing(sqlite3.connect(store.root / "cache/given-1.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert configs_of(Ground(store), [one]) == {one: {"n": "1"}}
