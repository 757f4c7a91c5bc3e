"""Columns in a file are what was kept there, or nothing."""

from __future__ import annotations

import json
import math
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.store import columns as module
from bridge.store.columns import cache_name, load, save
from bridge.store.errors import RecordError
from bridge.store.layout import Store, open_store

texts = st.text(st.characters(exclude_categories=()), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
columns_of_a_kind = st.one_of(
    st.lists(texts),
    st.lists(st.none() | texts),
    st.lists(st.sampled_from(["a", "b", ""]), min_size=3),
    st.lists(st.floats(allow_nan=False)),
    st.lists(st.integers()),
    st.lists(st.booleans() | st.integers(0, 1)),
    st.lists(json_values),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("columns") / "store")


def written(store: Store, columns: dict[str, list[Any]], recurring: tuple[str, ...] = ()) -> Path:
    save(store, "x.columns", 1, columns, recurring)
    return store.root / "cache" / "x.columns"


@given(st.lists(columns_of_a_kind, max_size=4), st.booleans())
def test_what_was_kept_is_found(place: Store, kept: list[list[Any]], recurs: bool) -> None:
    columns = {f"c{number}": column for number, column in enumerate(kept)}
    recurring = [name for name, column in columns.items() if recurs and {type(one) for one in column} <= {str}]
    found = load(str(written(place, columns, tuple(recurring))), 1, list(columns))
    assert found is not None
    for name, column in columns.items():
        # A truth is no 1, and 1.0 is none either.
        assert json.dumps(found.column(name)) == json.dumps(column)
        assert found.rows(name) == len(column)


def test_numbers_that_are_none_are_kept(store: Store) -> None:
    found = load(str(written(store, {"x": [math.nan, math.inf]})), 1, ["x"])
    assert found is not None
    assert math.isnan(found.column("x")[0])
    assert found.column("x")[1] == math.inf


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_is_seen(place: Store, at: int, flip: int) -> None:
    file = written(place, {"a": ["x", "y", "x", "y"], "b": [1, 2], "c": [[1], {}], "d": [0.5]}, ("a",))
    data = bytearray(file.read_bytes())
    data[at % len(data)] ^= flip
    file.chmod(0o644)
    file.write_bytes(data)
    assert load(str(file), 1, ["a"]) is None


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_a_file_that_was_cut_is_none(store: Store, cut: int) -> None:
    file = written(store, {"a": [1, 2, 3]})
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:cut])
    assert load(str(file), 1, ["a"]) is None


def test_another_version_another_byte_order_and_other_columns_are_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(written(store, {"a": [1]}))
    assert load(file, 1, ["a"]) is not None
    assert load(file, 2, ["a"]) is None
    assert load(file, 1, ["a", "b"]) is None
    assert load(file + "x", 1, ["a"]) is None
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    assert load(file, 1, ["a"]) is None


def forged(told: dict[str, list[Any]], *texts: bytes) -> bytes:
    named = {name: [*one, len(text), zlib.crc32(text)] for (name, one), text in zip(told.items(), texts, strict=True)}
    head = json.dumps({"version": 1, "order": sys.byteorder, "columns": named}).encode()
    return b"%08x %s\n%s" % (zlib.crc32(head), head, b"".join(texts))


@pytest.mark.parametrize(
    "data",
    [
        forged({"a": ["json", 2]}, b"[1]"),
        forged({"a": ["json", 2]}, b"{}"),
        forged({"a": ["json", 2]}, b"[" * 100_000),
        forged({"a": ["q", 1]}, b"123"),
        forged({"a": ["lines", 1]}, b"\xff"),
        forged({"a": ["json", 1], "a@": ["json", 2]}, b"[1]", b"[0, 1]"),
        forged({"a": ["json", 1], "a@": ["json", 1]}, b"[1]", b"[null]"),
    ],
)
def test_one_that_somebody_made_up_is_said(store: Store, data: bytes) -> None:
    (store.root / "cache").mkdir()
    (store.root / "cache" / "x.columns").write_bytes(data)
    found = load(str(store.root / "cache" / "x.columns"), 1, ["a"])
    assert found is not None
    with pytest.raises(RecordError, match="is forged"):
        found.column("a")


@pytest.mark.parametrize("data", [b"", b"\n", forged({"a": ["pickle", 1]}, b"x"), forged({}), b"00000000 null\n"])
def test_what_is_no_such_file_is_none(store: Store, data: bytes) -> None:
    (store.root / "cache").mkdir()
    (store.root / "cache" / "x.columns").write_bytes(data)
    assert load(str(store.root / "cache" / "x.columns"), 1, ["a"]) is None


def test_where_nothing_can_be_written_nothing_is_kept(store: Store) -> None:
    (store.root / "cache").write_text("")
    save(store, "x.columns", 1, {"a": [1]})
    assert (store.root / "cache").read_text() == ""
    assert list(store.tmp.iterdir()) == []


def test_each_store_below_has_a_file_of_its_own(store: Store, tmp_path: Path) -> None:
    below, other = open_store(tmp_path / "below"), open_store(tmp_path / "other")
    names = {cache_name("x", store, layer) for layer in (store, below, other)}
    assert len(names) == 3
    assert cache_name("x", store, store) == "x.columns"
    assert module.cache_name("y", store, below).startswith("y-")
