"""Every kind of damage is found, and named by its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.formats.hashes import Hash
from bridge.formats.store_path import text_path
from bridge.store.durable import temporary
from bridge.store.info import ObjectInfo, read_info
from bridge.store.layout import Store, open_store
from bridge.store.objects import add_fixed_file, add_texts, remove_tree
from bridge.store.trace import Realization, realizations, record
from bridge.store.verify import verify

from .filling import add, add_file, assert_clean

DRV = "/nix/store/" + "1" * 32 + "-train.drv"


def folder(tree: Path) -> None:
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("contents")


def fill(store: Store, run: float = 1.0) -> ObjectInfo:
    """Objects of each kind, and a record."""
    info = add(store, "out", folder)
    add_texts(store, [(text_path("t", Hash.of(b"x").hex), b"x", ())])
    file = temporary(store)
    file.write_bytes(b"fixed")
    add_fixed_file(store, "fixed", file, Hash.of(b"fixed"))
    record(store, Realization(DRV, {"out": info.path}, "train", DRV, "python", run, run + 1))
    return info


def loosened(path: Path) -> Path:
    path.chmod(path.stat().st_mode | 0o200)
    return path


def bytes_changed(store: Store, info: ObjectInfo) -> Path:
    loosened(store.real_path(info.path) / "sub" / "file").write_text("Contents")
    (store.real_path(info.path) / "sub" / "file").chmod(0o444)
    return store.real_path(info.path)


def file_deleted(store: Store, info: ObjectInfo) -> Path:
    loosened(store.real_path(info.path) / "sub")
    (store.real_path(info.path) / "sub" / "file").unlink()
    return store.real_path(info.path)


def file_added(store: Store, info: ObjectInfo) -> Path:
    (loosened(store.real_path(info.path)) / "new").write_text("")
    return store.real_path(info.path)


def object_deleted(store: Store, info: ObjectInfo) -> Path:
    remove_tree(store.real_path(info.path))
    return store.real_path(info.path)


def object_swapped(store: Store, info: ObjectInfo) -> Path:
    remove_tree(store.real_path(info.path))
    os.mkfifo(store.real_path(info.path))
    return store.real_path(info.path)


def file_mode(store: Store, info: ObjectInfo) -> Path:
    return loosened(store.real_path(info.path) / "sub" / "file")


def folder_mode(store: Store, info: ObjectInfo) -> Path:
    return loosened(store.real_path(info.path) / "sub")


def executable(store: Store, info: ObjectInfo) -> Path:
    (store.real_path(info.path) / "sub" / "file").chmod(0o555)
    return store.real_path(info.path)


def info_emptied(store: Store, info: ObjectInfo) -> Path:
    loosened(store.info_file(info.path)).write_text("")
    return store.info_file(info.path)


def info_deleted(store: Store, info: ObjectInfo) -> Path:
    store.info_file(info.path).unlink()
    return the_record(store)


def info_of_another(store: Store, info: ObjectInfo) -> Path:
    other = add_file(store, "other")
    shutil.copyfile(store.info_file(other.path), loosened(store.info_file(info.path)))
    return store.info_file(info.path)


def info_with(store: Store, info: ObjectInfo, **changes: object) -> None:
    loosened(store.info_file(info.path)).write_text(json.dumps(info.to_json() | changes))


def info_says_other_references(store: Store, info: ObjectInfo) -> Path:
    info_with(store, info, references=[DRV])
    return store.real_path(info.path)


def info_says_text(store: Store, info: ObjectInfo) -> Path:
    info_with(store, info, ca="text:sha256:" + "0" * 52)
    return store.real_path(info.path)


def info_says_rubbish_hash(store: Store, info: ObjectInfo) -> Path:
    info_with(store, info, ca="fixed:sha256:zzz")
    return store.real_path(info.path)


def info_is_a_folder(store: Store, info: ObjectInfo) -> Path:
    store.info_file(info.path).unlink()
    store.info_file(info.path).mkdir()
    return store.info_file(info.path)


def foreign_info(store: Store, info: ObjectInfo) -> Path:
    (store.info / "notes.txt").write_text("hello")
    return store.info / "notes.txt"


def the_record(store: Store) -> Path:
    (file,) = (store.trace / DRV[11:]).iterdir()
    return file


def record_edited(store: Store, info: ObjectInfo) -> Path:
    file = loosened(the_record(store))
    file.write_text(file.read_text().replace('"index": 0', '"index": 1'))
    return file


def record_emptied(store: Store, info: ObjectInfo) -> Path:
    loosened(the_record(store)).write_text("")
    return the_record(store)


def record_moved(store: Store, info: ObjectInfo) -> Path:
    other = store.trace / ("2" * 32 + "-other.drv")
    (store.trace / DRV[11:]).rename(other)
    return next(other.iterdir())


def foreign_record(store: Store, info: ObjectInfo) -> Path:
    (store.trace / DRV[11:] / "x.json").write_text("{}")
    return store.trace / DRV[11:] / "x.json"


def foreign_file_in_the_trace(store: Store, info: ObjectInfo) -> Path:
    (store.trace / ".DS_Store").write_text("")
    return store.trace / ".DS_Store"


DAMAGES = [
    bytes_changed,
    file_deleted,
    file_added,
    object_deleted,
    object_swapped,
    file_mode,
    folder_mode,
    executable,
    info_emptied,
    info_deleted,
    info_of_another,
    info_says_other_references,
    info_says_text,
    info_says_rubbish_hash,
    info_is_a_folder,
    foreign_info,
    record_edited,
    record_emptied,
    record_moved,
    foreign_record,
    foreign_file_in_the_trace,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(store: Store, damage: Callable[[Store, ObjectInfo], Path]) -> None:
    info = fill(store)
    assert_clean(store)
    place = damage(store, info)
    assert str(place) in [finding.path for finding in verify(store).findings]


def test_bytes_without_a_record_and_left_temporaries_are_rubbish_and_no_fault(store: Store) -> None:
    fill(store)
    foreign = store.objects / "what.txt"
    foreign.write_text("")
    left = store.tmp / temporary(store).name.replace(str(os.getpid()), "4194305")
    left.mkdir()
    report = verify(store)
    assert report.findings == []
    assert report.rubbish == [str(foreign), str(left)]


def test_a_report_counts_what_was_checked(store: Store) -> None:
    fill(store)
    seen: list[tuple[int, int]] = []
    report = verify(store, on_progress=lambda done, count: seen.append((done, count)))
    assert (report.objects, report.records) == (3, 1)
    assert report.size == sum(read_info(store, f"/nix/store/{path.name}").nar_size for path in store.objects.iterdir())
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_output_may_be_elsewhere(store: Store) -> None:
    gone = "/nix/store/" + "3" * 32 + "-gone"
    record(store, Realization(DRV, {"out": gone}, "train", DRV, "python", 1.0, 2.0))
    assert [finding.message for finding in verify(store).findings] == [f"its output {gone} is not in the store"]
    assert verify(store, elsewhere=gone.__eq__).findings == []


def test_stores_that_are_copied_into_each_other_are_one_clean_store(tmp_path: Path) -> None:
    one, two = open_store(tmp_path / "one"), open_store(tmp_path / "two")
    fill(one, 1.0)
    fill(two, 2.0)
    add_file(two, "only-here")
    subprocess.run(["cp", "-rp", f"{two.root}/.", one.root], check=True)
    assert_clean(one)
    assert [found.started for found in realizations(one, DRV)] == [1.0, 2.0]
    assert len(list(one.objects.iterdir())) == 4


def test_an_empty_store_is_clean(store: Store) -> None:
    assert_clean(store)
