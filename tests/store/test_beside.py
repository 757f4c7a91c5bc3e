"""A process beside this one takes the inventory of a large store, and nothing depends on it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.store import beside, inventory
from bridge.store.beside import inventory_beside
from bridge.store.errors import RecordError
from bridge.store.gc import load_graph
from bridge.store.inventory import take_inventory
from bridge.store.layout import Store

from .keeping import chain


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_MANY", 1)


def cache(store: Store) -> Path:
    return store.root / "cache" / "objects.columns"


def test_the_inventory_is_taken_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(store)
    with inventory_beside(store):
        pass
    assert cache(store).exists()
    # Nothing is left to be read.
    monkeypatch.setattr(inventory, "read_all", lambda descriptor: pytest.fail("read again"))
    assert len(take_inventory(store).sizes) == 4


def test_of_few_objects_and_where_it_is_known_no_process_is_started(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain(store)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", lambda *given, **more: pytest.fail("started"))
        patched.setattr(beside, "_MANY", 5)
        with inventory_beside(store):
            pass
        take_inventory(store)
        patched.setattr(beside, "_MANY", 1)
        with inventory_beside(store):
            pass


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_where_no_process_can_be_started_nothing_is_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    chain(store)
    monkeypatch.setattr(sys, "executable", python)
    assert len(load_graph(store).inventory.sizes) == 4


def test_what_is_damaged_is_said_by_who_asks(store: Store) -> None:
    clean, _ = chain(store)
    file = store.info_file(clean.outputs["out"])
    file.chmod(0o644)
    file.write_text("{")
    with inventory_beside(store):
        pass
    assert not cache(store).exists()
    with pytest.raises(RecordError, match=file.name):
        load_graph(store)


def test_who_fails_does_not_wait_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(store)
    monkeypatch.setattr(beside, "_TAKE", "import time; time.sleep(60)")
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), inventory_beside(store):
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 30
