"""Every kind of damage is found, and named by its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.formats.hashes import Hash
from bridge.formats.store_path import text_path
from bridge.store.durable import temporary
from bridge.store.errors import RecordError
from bridge.store.gc import collect
from bridge.store.holds import release
from bridge.store.info import ObjectInfo, read_info
from bridge.store.layout import Store, open_store
from bridge.store.objects import add_fixed_file, add_output, add_texts, register_built, remove_tree
from bridge.store.policy import Policy
from bridge.store.records import read_records
from bridge.store.trace import Realization, realizations, record
from bridge.store.verify import verify

from .filling import add, add_file, assert_clean

DRV = "/nix/store/" + "1" * 32 + "-train.drv"


def folder(tree: Path) -> None:
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("contents")
    (tree / "sub" / "link").symlink_to("file")


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


def file_is_setuid(store: Store, info: ObjectInfo) -> Path:
    place = store.real_path(info.path) / "sub" / "file"
    place.chmod(0o4444)
    return place


def file_is_private(store: Store, info: ObjectInfo) -> Path:
    place = store.real_path(info.path) / "sub" / "file"
    place.chmod(0o400)
    return place


def time_of(place: Path) -> Path:
    os.utime(place, ns=(0, 2 * 10**9), follow_symlinks=False)
    return place


def file_time(store: Store, info: ObjectInfo) -> Path:
    return time_of(store.real_path(info.path) / "sub" / "file")


def link_time(store: Store, info: ObjectInfo) -> Path:
    return time_of(store.real_path(info.path) / "sub" / "link")


def folder_time(store: Store, info: ObjectInfo) -> Path:
    return time_of(store.real_path(info.path))


def link_retargeted(store: Store, info: ObjectInfo) -> Path:
    link = loosened(store.real_path(info.path) / "sub") / "link"
    link.unlink()
    link.symlink_to("/etc/passwd")
    return store.real_path(info.path)


def link_instead_of_a_file(store: Store, info: ObjectInfo) -> Path:
    file = loosened(store.real_path(info.path) / "sub") / "file"
    file.unlink()
    file.symlink_to("file")
    return store.real_path(info.path)


def executable(store: Store, info: ObjectInfo) -> Path:
    (store.real_path(info.path) / "sub" / "file").chmod(0o555)
    return store.real_path(info.path)


def info_nested_without_end(store: Store, info: ObjectInfo) -> Path:
    loosened(store.info_file(info.path)).write_text("[" * 200_000)
    return store.info_file(info.path)


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


def record_under_another_id(store: Store, info: ObjectInfo) -> Path:
    file = the_record(store)
    return file.rename(file.with_name("0" * 16 + ".json"))


def record_nested_without_end(store: Store, info: ObjectInfo) -> Path:
    loosened(the_record(store)).write_text("[" * 200_000)
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
    file_is_setuid,
    file_is_private,
    file_time,
    link_time,
    folder_time,
    link_retargeted,
    link_instead_of_a_file,
    executable,
    info_nested_without_end,
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
    record_under_another_id,
    record_nested_without_end,
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


# ---------------------------------------------------------------------- each field of each kind of info

BUILT = "/nix/store/" + "4" * 32 + "-built"


def a_tree(store: Store, used: str) -> ObjectInfo:
    return add(store, "tree", folder)


def a_tree_that_refers(store: Store, used: str) -> ObjectInfo:
    return add_file(store, "refers", used.encode(), (used,))


def a_tree_that_refers_to_itself(store: Store, used: str) -> ObjectInfo:
    tree = temporary(store)
    tree.write_text(f"{BUILT} {used}")
    return add_output(store, "itself", tree, (used,), BUILT)


def a_text(store: Store, used: str) -> ObjectInfo:
    path = text_path("text", Hash.of(used.encode()).hex, (used,))
    add_texts(store, [(path, used.encode(), (used,))])
    return read_info(store, path)


def a_fixed_file(store: Store, used: str) -> ObjectInfo:
    file = temporary(store)
    file.write_bytes(b"fixed")
    return add_fixed_file(store, "fixed", file, Hash.of(b"fixed", "sha1"))


def a_build(store: Store, used: str) -> ObjectInfo:
    store.real_path(BUILT).write_text(f"{BUILT} {used}")
    return register_built(store, BUILT, (used,))


KINDS = [a_tree, a_tree_that_refers, a_tree_that_refers_to_itself, a_text, a_fixed_file, a_build]
OTHER_HASH = Hash.of(b"other")
FIELDS: dict[str, object] = {
    "path": "/nix/store/" + "5" * 32 + "-other",
    "narHash": OTHER_HASH.sri,
    "narSize": 7,
    "references": [DRV],
    "ca": f"fixed:r:sha256:{OTHER_HASH.nix32}",
}
ADDRESSES = {
    "none": None,
    "recursive": f"fixed:r:sha256:{OTHER_HASH.nix32}",
    "recursive sha1": f"fixed:r:sha1:{Hash.of(b'other', 'sha1').nix32}",
    "flat": f"fixed:sha256:{OTHER_HASH.nix32}",
    "text": f"text:sha256:{OTHER_HASH.nix32}",
}


# What was built has no content address to take away.
@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind in KINDS for field in (*FIELDS, *ADDRESSES) if (kind, field) != (a_build, "none")],
)
def test_a_changed_field_of_an_info_is_found(
    store: Store, kind: Callable[[Store, str], ObjectInfo], field: str
) -> None:
    used = add_file(store, "used").path
    info = kind(store, used)
    assert_clean(store)
    changes = {"ca": ADDRESSES[field]} if field in ADDRESSES else {field: FIELDS[field]}
    info_with(store, info, **changes)
    (finding,) = verify(store).findings
    assert finding.path in (str(store.info_file(info.path)), str(store.real_path(info.path)))


@pytest.mark.parametrize("field", Realization(DRV, {}, "train", DRV, "python", 1.0, 2.0).to_json())
def test_a_changed_field_of_a_record_is_found(store: Store, field: str) -> None:
    fill(store)
    file = loosened(the_record(store))
    value = json.loads(file.read_bytes())
    other = {str: "other", int: 17, float: 17.5, dict: {"other": 1}, type(None): "other"}[type(value[field])]
    file.write_text(json.dumps(value | {field: other}, indent=1, sort_keys=True) + "\n")
    (finding,) = verify(store).findings
    assert finding.path == str(file)


# ------------------------------------------------------------------------------------- a forged index


def forged(store: Store, change: Callable[[dict[str, Any]], object]) -> Path:
    """An index of 70 records whose check is right, with columns changed."""
    for number in range(70):
        record(store, Realization(DRV, {}, "train", DRV, "python", number, number + 1.0, {"loss": number / 7}))
    read_records(store, DRV)
    file = store.root / "cache" / f"{DRV[11:]}.records"
    head, *lines = loosened(file).read_bytes().split(b"\n")
    names = json.loads(head)["columns"]
    columns = dict(zip(names, map(json.loads, lines), strict=True))
    assert verify(store).findings == []
    change(columns)
    body = b"\n".join(json.dumps(columns[name]).encode() for name in names)
    check = zlib.crc32(body, zlib.crc32(json.dumps(names).encode()))
    file.write_bytes(json.dumps(json.loads(head) | {"check": check}).encode() + b"\n" + body)
    return file


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a metric": lambda columns: columns["metrics.loss"].reverse(),
    "all metrics": lambda columns: columns["metrics"].reverse(),
    "an output": lambda columns: columns["outputs"]["values"].__setitem__(0, {"out": DRV}),
    "a result": lambda columns: columns["result"].update(values=["failed"]),
    "times": lambda columns: columns["started"].reverse(),
    "too few": lambda columns: columns["metrics.loss"].pop(),
    "no values": lambda columns: columns["outputs"].update(at=[7] * 70),
    "no column": lambda columns: columns.update(host=5),
    "no ids": lambda columns: columns.update(id=[1] * 70),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_index_is_found_or_not_used(store: Store, forgery: str) -> None:
    file = forged(store, FORGERIES[forgery])
    found = [finding.path for finding in verify(store).findings]
    assert found == ([str(file)] if forgery != "no ids" else [])
    if forgery == "too few":
        with pytest.raises(RecordError, match=r"the index of metrics.loss .* is forged"):
            read_records(store, DRV).column("metrics.loss")
    if forgery == "no ids":
        assert read_records(store, DRV).column("id")[0] != 1


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


@pytest.mark.parametrize("listing", ["info", "trace", f"trace/{DRV[11:]}"])
def test_what_gc_takes_meanwhile_is_no_fault(store: Store, monkeypatch: pytest.MonkeyPatch, listing: str) -> None:
    fill(store)
    release()
    folders = [f"{store.root}/{listing}"]
    listed = os.listdir

    def taken_after(path: str | Path) -> list[str]:
        names = listed(path)
        if str(path) in folders:
            folders.clear()
            collect(store, Policy(unrooted=True))
        return names

    monkeypatch.setattr(os, "listdir", taken_after)
    assert verify(store).findings == []
    assert folders == []
    assert listed(store.info) == listed(store.trace) == []


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
