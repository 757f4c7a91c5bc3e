"""Put objects into a store, and look whether it is clean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bridge.store.durable import temporary
from bridge.store.info import ObjectInfo
from bridge.store.layout import Store
from bridge.store.objects import add_output
from bridge.store.verify import verify

Build = Callable[[Path], object]


def add(store: Store, name: str, build: Build, inputs: tuple[str, ...] = ()) -> ObjectInfo:
    """Add what `build` makes at the path that it is given."""
    tree = temporary(store)
    build(tree)
    return add_output(store, name, tree, inputs)


def add_file(store: Store, name: str, data: bytes = b"hello\n", inputs: tuple[str, ...] = ()) -> ObjectInfo:
    return add(store, name, lambda tree: tree.write_bytes(data), inputs)


def assert_clean(store: Store) -> None:
    report = verify(store)
    assert report.findings == []
    assert list(store.tmp.iterdir()) == []


def assert_empty(store: Store) -> None:
    """Nothing is in the store, not even rubbish."""
    for folder in (store.objects, store.info, store.trace, store.tmp):
        assert list(folder.iterdir()) == []
