"""The inventory is what is in the store, whatever its cache says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.formats.store_path import base_name
from bridge.store import sizes
from bridge.store.errors import RecordError
from bridge.store.info import read_info
from bridge.store.inventory import Inventory, take_inventory
from bridge.store.layout import Store
from bridge.store.objects import remove_tree

from .filling import add_file
from .keeping import chain


def shown(found: Inventory) -> dict[str, tuple[int, list[str]]]:
    """By name size and references."""
    return {
        name: (found.sizes[row], [found.names[other] for other in found.references[row]])
        for row, name in enumerate(found.names[: len(found.sizes)])
    }


def on_disk(store: Store) -> dict[str, tuple[int, list[str]]]:
    names = [name.removesuffix(".json") for name in os.listdir(store.info)]
    infos = {name: read_info(store, f"/nix/store/{name}") for name in names}
    return {name: (one.nar_size, [base_name(path) for path in one.references]) for name, one in infos.items()}


def settle() -> None:
    """Wait until a later change would show in a folder's time."""
    time.sleep(2.1)


def cache(store: Store) -> Path:
    return store.root / "cache" / "objects.columns"


def test_it_holds_what_is_there_and_follows_each_change(store: Store) -> None:
    chain(store)
    assert shown(take_inventory(store)) == on_disk(store)
    path = add_file(store, "more").path
    assert shown(take_inventory(store)) == on_disk(store)
    assert base_name(path) in take_inventory(store)
    store.info_file(path).unlink()
    assert base_name(path) not in take_inventory(store)
    assert shown(take_inventory(store)) == on_disk(store)


def test_a_folder_that_has_not_changed_is_not_listed_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(store)
    take_inventory(store)
    settle()
    found = shown(take_inventory(store))
    with monkeypatch.context() as patched:
        patched.delattr(os, "scandir")
        assert shown(take_inventory(store)) == found == on_disk(store)
        with pytest.raises(AttributeError):
            take_inventory(store, exact=True)
    add_file(store, "more")
    assert shown(take_inventory(store)) == on_disk(store)
    assert len(shown(take_inventory(store))) == len(found) + 1


def test_an_exact_one_sees_a_file_that_was_written_in_place(store: Store) -> None:
    path = add_file(store, "x").path
    take_inventory(store)
    settle()
    take_inventory(store)
    file = store.info_file(path)
    value = json.loads(file.read_bytes())
    file.chmod(0o644)
    file.write_text(json.dumps({**value, "narSize": 12345}))
    assert shown(take_inventory(store, exact=True))[base_name(path)] == (12345, [])


def test_an_exact_one_sees_what_a_copy_that_keeps_times_wrote_in_place(store: Store) -> None:
    """As `cp -a` and `rsync --inplace` do; and texts all have the time of store objects."""
    path = add_file(store, "x").path
    before = store.info_file(path).stat()
    take_inventory(store)
    file = store.info_file(path)
    value = json.loads(file.read_bytes())
    file.chmod(0o644)
    file.write_text(json.dumps({**value, "references": [f"/nix/store/{'0' * 32}-y"]}))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_ino == before.st_ino
    assert shown(take_inventory(store, exact=True))[base_name(path)][1] == [f"{'0' * 32}-y"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b'"', b"'", 1),
        lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        lambda data: b"\xff" * 100,
    ],
)
def test_a_damaged_cache_is_made_again(store: Store, damage: Callable[[bytes], bytes]) -> None:
    chain(store)
    take_inventory(store)
    cache(store).chmod(0o644)
    cache(store).write_bytes(damage(cache(store).read_bytes()))
    assert shown(take_inventory(store)) == on_disk(store)


def test_without_a_place_for_the_cache_it_is_done_without(store: Store) -> None:
    chain(store)
    remove_tree(store.root / "cache")
    (store.root / "cache").write_text("")
    assert shown(take_inventory(store)) == on_disk(store)


@pytest.mark.parametrize(
    "change",
    [
        {"narSize": "1"},
        {"narSize": None},
        {"references": "/nix/store/" + "0" * 32 + "-x"},
        {"references": ["/etc/passwd"]},
        {"references": ["/nix/store/" + "0" * 32 + "-x\n"]},
        {"references": [1]},
        {"path": "/nix/store/" + "0" * 32 + "-other"},
        {"path": None},
    ],
)
def test_a_damaged_info_is_said(store: Store, change: dict[str, object]) -> None:
    file = store.info_file(add_file(store, "x").path)
    value = json.loads(file.read_bytes())
    file.chmod(0o644)
    file.write_text(json.dumps(value | change))
    with pytest.raises(RecordError, match=file.name):
        take_inventory(store)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_an_info_that_is_none_is_said(store: Store, data: bytes) -> None:
    file = store.info_file(add_file(store, "x").path)
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.raises(RecordError, match="is damaged"):
        take_inventory(store)


def test_an_info_that_can_not_be_read_is_said_and_others_have_their_sizes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, train = chain(store)
    file = store.info_file(clean.outputs["out"])
    file.unlink()
    file.mkdir()
    with pytest.raises(RecordError, match=f"{file.name} can not be read: Is a directory"):
        take_inventory(store)
    for few in (0, 200):
        monkeypatch.setattr(sizes, "_FEW", few)
        found = sizes.sizes_of(store, [clean.outputs, train.outputs])
        assert found == [None, read_info(store, train.outputs["out"]).nar_size]


def test_a_closure_is_all_that_is_there_of_what_is_referred_to(store: Store) -> None:
    found = Inventory(["a", "b", "c", "gone"], {"a": 0, "b": 1, "c": 2, "gone": 3}, [1, 1, 1], [[1, 3], [0, 1], []])
    assert found.closure(["a"]) == {0, 1}
    assert found.closure(["c", "gone", "never"]) == {2}
    assert "gone" not in found
    assert "never" not in found
