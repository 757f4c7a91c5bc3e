"""Two stores merged with rsync, as docs/moving.md says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.formats.store_path import base_name
from bridge.store.layout import Store, open_store
from bridge.store.objects import register_built, remove_tree
from bridge.store.trace import Realization, realizations, record
from bridge.store.verify import verify

from .filling import add, assert_clean

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")

DRV = f"/nix/store/{'1' * 32}-train.drv"
BUILT = f"/nix/store/{'5' * 32}-built"
BLOCKS = re.findall(r"```sh\n(.*?)```", (Path(__file__).parents[2] / "docs" / "moving.md").read_text(), re.DOTALL)
MERGE, DIFFERENCES = BLOCKS[0].replace("nixbridge verify --store B\n", ""), BLOCKS[1]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two stores, each with a realization of its own and one that both have."""
    found = open_store(tmp_path / "A"), open_store(tmp_path / "B")
    for store, name in zip(found, "AB", strict=True):
        for text in (name, "both"):
            made = add(store, "model", lambda tree, text=text: write(tree, text))
            record(store, Realization(DRV, {"out": made.path}, "train", DRV, "python", 1.0, 2.0, index=ord(text[0])))
    yield found
    for store in found:
        remove_tree(store.root)


def write(tree: Path, text: str) -> None:
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "file").write_text(text)


def build(store: Store, names: str, text: str) -> None:
    """An object that is not content-addressed."""
    real = store.real_path(BUILT)
    real.mkdir()
    for name in names:
        (real / name).write_text(text)
    register_built(store, BUILT, ())


def shell(folder: Path, script: str) -> str:
    return subprocess.run(["sh", "-euc", script], cwd=folder, check=True, capture_output=True, text=True).stdout


def merge(folder: Path) -> None:
    shell(folder, MERGE)


def swapped(folder: Path) -> None:
    for one, other in (("A", "C"), ("B", "A"), ("C", "B")):
        (folder / one).rename(folder / other)


@pytest.mark.parametrize("both_ways", [False, True])
def test_merging_brings_what_one_store_has_and_the_other_has_not(
    stores: tuple[Store, Store], tmp_path: Path, both_ways: bool
) -> None:
    first, second = stores
    merge(tmp_path)
    assert len(realizations(second, DRV)) == len(os.listdir(second.objects)) == 3
    assert len(realizations(first, DRV)) == 2
    if both_ways:
        swapped(tmp_path)
        merge(tmp_path)
        swapped(tmp_path)
        assert sorted(os.listdir(first.info)) == sorted(os.listdir(second.info))
        assert realizations(first, DRV) == realizations(second, DRV)
    for store in stores:
        assert_clean(store)


def test_merging_again_changes_nothing(stores: tuple[Store, Store], tmp_path: Path) -> None:
    merge(tmp_path)
    before = {path: path.lstat().st_ino for path in stores[1].root.rglob("*")}
    merge(tmp_path)
    assert {path: path.lstat().st_ino for path in stores[1].root.rglob("*")} == before


def test_an_interrupted_merge_goes_on(stores: tuple[Store, Store], tmp_path: Path) -> None:
    first, second = stores
    (only,) = set(os.listdir(first.objects)) - set(os.listdir(second.objects))
    # A file came, and then the connection broke.
    (second.objects / only).mkdir()
    assert_clean_but_rubbish(second)
    merge(tmp_path)
    assert_clean(second)
    assert second.is_valid(f"/nix/store/{only}")


def test_what_a_process_that_died_left_of_an_object_is_not_mixed_with_it(
    stores: tuple[Store, Store], tmp_path: Path
) -> None:
    first, second = stores
    build(first, "xy", "one")
    left = second.real_path(BUILT)
    (left / "folder").mkdir(parents=True)
    (left / "z").write_text("two")
    other = second.objects / f"{'6' * 32}-other"
    other.mkdir()
    merge(tmp_path)
    assert sorted(os.listdir(left)) == ["x", "y"]
    assert_clean_but_rubbish(second)
    assert other.exists()
    other.rmdir()
    assert_clean(second)


def assert_clean_but_rubbish(store: Store) -> None:
    report = verify(store)
    assert report.findings == []
    assert report.rubbish


def test_an_object_that_differs_stays_whole_in_both_and_is_named(stores: tuple[Store, Store], tmp_path: Path) -> None:
    first, second = stores
    build(first, "xy", "one")
    build(second, "yz", "two")
    assert shell(tmp_path, DIFFERENCES).split() == [f"{base_name(BUILT)}.json"]
    merge(tmp_path)
    assert sorted(os.listdir(second.real_path(BUILT))) == ["y", "z"]
    assert sorted(os.listdir(first.real_path(BUILT))) == ["x", "y"]
    for store in stores:
        assert_clean(store)


@pytest.mark.parametrize("changed", [0, 1])
def test_a_record_that_was_changed_in_one_store_is_named_by_verify(
    stores: tuple[Store, Store], tmp_path: Path, changed: int
) -> None:
    both = {one.id for one in realizations(stores[0], DRV)} & {one.id for one in realizations(stores[1], DRV)}
    (identity,) = both
    name = f"{base_name(DRV)}/{identity}.json"
    file = stores[changed].trace / name
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b"train", b"brain"))
    assert name in shell(tmp_path, DIFFERENCES).split()
    merge(tmp_path)
    # B keeps its own: the good one, or the changed one, which verify tells.
    found = [one.path for one in verify(stores[1]).findings]
    assert found == ([] if changed == 0 else [str(file)])
    assert [one.path for one in verify(stores[0]).findings] == ([str(file)] if changed == 0 else [])
