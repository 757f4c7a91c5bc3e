"""A store that others may only read, under one's own: everything is seen through it, nothing is written to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.store import listing
from bridge.store.catalogue import entries, near_ids
from bridge.store.drop import drop
from bridge.store.errors import RecordError, StoreError
from bridge.store.gc import collect
from bridge.store.holds import release
from bridge.store.info import find_info, read_info
from bridge.store.layout import Store, locate_lower, open_store
from bridge.store.notes import note_of, notes, write_note
from bridge.store.objects import add_nar, add_texts, remove_tree
from bridge.store.packs.contents import gather
from bridge.store.policy import Policy
from bridge.store.records import COLUMNS, read_records
from bridge.store.roots import tag, tagged
from bridge.store.trace import Realization, find_realizations, find_record, realizations, record, resolved_derivations
from bridge.store.verify import verify

from .filling import add_file, assert_clean

DRV = "/nix/store/" + "1" * 32 + "-train.drv"
OTHER = "/nix/store/" + "2" * 32 + "-other.drv"
ONE = Realization(DRV, {}, "train", DRV, "python", 0.0, 12.0, {"loss": 1.0}, {"python": "3"}, log="a.log")


def snapshot(store: Store) -> dict[str, tuple[int, int]]:
    """Every name below a store, with its inode and time of modification; but the locks of this very process."""
    found = {}
    for folder, folders, files in os.walk(store.root):
        folders[:] = [name for name in folders if name != "locks"]
        for name in (*folders, *files):
            status = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (status.st_ino, status.st_mtime_ns)
    return found


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Store]:
    """A shared store with an object, two records of it, a log and a note."""
    shared = open_store(tmp_path / "shared")
    info = add_file(shared, "model", b"model")
    record(shared, replace(ONE, outputs={"out": info.path}, started=1.0))
    second = record(shared, replace(ONE, outputs={"out": info.path}, started=3.0))
    (shared.logs / "a.log").write_text("it said so")
    write_note(shared, second.id, "good")
    tag(shared, "best", (DRV, second.id))
    yield shared
    remove_tree(shared.root)


@pytest.fixture
def store(tmp_path: Path, below: Store) -> Iterator[Store]:
    found = open_store(tmp_path / "own", [below.root])
    yield found
    remove_tree(found.root)


# ------------------------------------------------------------------------------------------ reading


def test_objects_records_logs_notes_and_tags_are_seen_through(store: Store, below: Store) -> None:
    before = snapshot(below)
    listed = realizations(below, DRV)
    path = listed[0].outputs["out"]
    assert store.is_valid(path)
    assert not store.has(path)
    assert store.place_of(path) == below.real_path(path)
    assert read_info(store, path) == read_info(below, path)
    assert realizations(store, DRV) == listed
    assert find_record(store, DRV, listed[1].id) == listed[1]
    assert find_realizations(store, listed[0].id[:8]) == [listed[0]]
    assert resolved_derivations(store) == [DRV]
    assert [one.id for one in entries(store, sizes=True)] == [one.id for one in listed]
    assert all(one.size for one in entries(store, sizes=True))
    assert near_ids(store, listed[0].id[:-1] + "!") == [listed[0].id]
    assert store.log_file("a.log").read_text() == "it said so"
    assert note_of(store, listed[1].id) == "good"
    assert notes(store) == {listed[1].id: "good"}
    assert tagged(store, "best") == (DRV, listed[1].id)
    assert snapshot(below) == before


def test_what_both_have_is_there_once_and_one_s_own_goes_first(store: Store, below: Store) -> None:
    first, second = realizations(below, DRV)
    record(store, replace(first, id=""))
    own = record(store, replace(ONE, started=2.0))
    wanted = [first.id, own.id, second.id]
    assert [one.id for one in realizations(store, DRV)] == wanted
    assert read_records(store, DRV).column("id") == wanted
    assert [one.id for one in entries(store)] == wanted
    info = add_file(store.own, "model", b"model")
    assert store.place_of(info.path) == store.real_path(info.path)
    write_note(store, second.id, "mine")
    assert notes(store) == {second.id: "mine"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 200)), max_size=150))
def test_records_of_several_stores_read_as_those_of_one(tmp_path_factory, made) -> None:
    root = tmp_path_factory.mktemp("stores")
    stores = [open_store(root / name) for name in ("own", "first", "second")]
    together = open_store(root / "together")
    for which, number in made:
        one = replace(ONE, started=float(number), metrics={"loss": number / 3} if number % 2 else {})
        record(stores[which], one)
        record(together, one)
    layered = open_store(root / "own", [root / "first", root / "second"])
    found, wanted = read_records(layered, DRV), read_records(together, DRV)
    for name in (*COLUMNS, "metrics.loss", "metrics.other", "seed"):
        assert found.column(name) == wanted.column(name)
    assert list(found) == list(wanted) == found[:]
    assert len(found) == len(wanted)
    assert entries(layered) == entries(together)


def test_the_catalogue_of_a_lower_store_is_kept_in_one_s_own(
    store: Store, below: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_FEW", 0)
    assert len(entries(store)) == 2
    assert len(list((store.root / "cache").glob("catalogue-*.columns"))) == 1
    (folder,) = below.trace.iterdir()
    for file in folder.iterdir():
        file.unlink()
    assert entries(store) == []


# ------------------------------------------------------------------------------------------ writing


def test_what_is_below_is_not_written_again(store: Store, below: Store) -> None:
    text = "/nix/store/" + "3" * 32 + "-t"
    add_texts(below, [(text, b"text", ())])
    before = snapshot(below)
    add_texts(store, [(text, b"text", ())])
    (path, *_) = realizations(below, DRV)[0].outputs.values()
    assert add_file(store, "model", b"model").path == path
    assert add_nar(store, path, lambda: pytest.fail("it was read")).path == path
    assert list(store.objects.iterdir()) == list(store.info.iterdir()) == list(store.tmp.iterdir()) == []
    assert snapshot(below) == before


def test_what_is_new_goes_to_the_top_and_may_refer_below(store: Store, below: Store) -> None:
    before = snapshot(below)
    path = realizations(below, DRV)[0].outputs["out"]
    info = add_file(store, "report", path.encode(), (path,))
    record(store, replace(ONE, drv=OTHER, stage_drv=OTHER, stage="other", outputs={"out": info.path}))
    assert info.references == (path,)
    assert store.has(info.path)
    found = verify(store)
    assert found.findings == []
    assert found.below == {path}
    assert found.objects == 1
    assert snapshot(below) == before
    assert_clean(below)


def test_verify_says_what_is_gone_from_below(store: Store, below: Store) -> None:
    one = realizations(below, DRV)[0]
    record(store, replace(one, id="", index=7))
    assert verify(store).findings == []
    below.info_file(one.outputs["out"]).unlink()
    assert "is not in the store" in verify(store).findings[0].message


# ------------------------------------------------------------------------------- collecting, moving


def test_gc_takes_nothing_from_below(store: Store, below: Store) -> None:
    before = snapshot(below)
    path = realizations(below, DRV)[0].outputs["out"]
    kept = add_file(store, "kept", path.encode(), (path,))
    record(store, replace(ONE, drv=OTHER, stage_drv=OTHER, stage="other", outputs={"out": kept.path}))
    gone = add_file(store, "gone", b"gone")
    release()
    found = collect(store, Policy())
    assert [one.name for one in found.items] == [gone.path.rpartition("/")[2]]
    assert store.has(kept.path)
    collect(store, Policy(older_than=1.0))
    assert not store.has(kept.path)
    assert len(realizations(store, DRV)) == 2
    assert snapshot(below) == before


def test_what_is_below_can_not_be_dropped(store: Store, below: Store) -> None:
    one = realizations(below, DRV)[0]
    with pytest.raises(StoreError, match="store below"):
        drop(store, {(DRV, one.id)}, [])
    assert len(realizations(store, DRV)) == 2


def test_a_tag_of_one_s_own_may_name_what_is_below(store: Store, below: Store) -> None:
    before = snapshot(below)
    first, second = realizations(below, DRV)
    tag(store, "first", (DRV, first.id))
    assert tagged(store, "first") == (DRV, first.id)
    with pytest.raises(StoreError, match=f"is that of {second.id}"):
        tag(store, "best", (DRV, first.id))
    tag(store, "best", (DRV, first.id), force=True)
    assert (tagged(store, "best"), tagged(below, "best")) == ((DRV, first.id), (DRV, second.id))
    collect(store, Policy())
    assert tagged(store, "first") == (DRV, first.id)
    assert snapshot(below) == before


def test_a_pack_holds_what_is_below(store: Store, below: Store) -> None:
    listed = realizations(below, DRV)
    found = gather(store, listed, [])
    assert {one.info.path for one in found.objects} == {listed[0].outputs["out"]}
    assert {one.id for one in found.records} == {one.id for one in listed}


# ------------------------------------------------------------------------------------------ opening


def test_a_lower_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*/nothing") as caught:
        open_store(tmp_path / "own", [tmp_path / "nothing"])
    assert "NIXBRIDGE_LOWER" in (caught.value.hint or "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="there is no store at"):
        open_store(tmp_path / "own", [tmp_path / "folder"])
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="there is no store at"):
        open_store(tmp_path / "own", [tmp_path / "file"])
    assert not (tmp_path / "own").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_lower_store_that_may_not_be_read_is_an_error(tmp_path: Path, below: Store) -> None:
    below.trace.chmod(0)
    try:
        with pytest.raises(StoreError, match="can not be read: Permission denied"):
            open_store(tmp_path / "own", [below.root])
    finally:
        below.trace.chmod(0o755)


def test_a_record_of_a_newer_version_below_is_a_clear_error(store: Store, below: Store) -> None:
    (folder,) = below.trace.iterdir()
    for file in folder.iterdir():
        data = file.read_text().replace('"version": 1', '"version": 99')
        file.unlink()
        file.write_text(data)
    with pytest.raises(RecordError, match="version 99") as caught:
        read_records(store, DRV)
    assert "newer nixbridge" in (caught.value.hint or "")
    bad: list[RecordError] = []
    assert entries(store, on_damaged=bad.append) == []
    assert len(bad) == 2


def test_the_shared_store_itself_has_nothing_below_it(below: Store) -> None:
    assert open_store(below.root, [below.root]).lower == ()


def test_a_store_below_twice_counts_once(tmp_path: Path, below: Store) -> None:
    (tmp_path / "link").symlink_to(below.root)
    assert open_store(tmp_path / "own", [below.root, tmp_path / "link"]).lower == (below,)


def test_without_a_lower_store_everything_is_one_s_own(tmp_path: Path) -> None:
    alone = open_store(tmp_path / "own")
    assert alone.layers == (alone,)
    assert alone.own is alone
    assert find_info(alone, DRV) is None


def test_the_variable_names_them_before_the_project_does(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.nixbridge]\nlower = ["shared", "/abs"]\n')
    inner = tmp_path / "src"
    inner.mkdir()
    assert locate_lower({}, inner) == [tmp_path / "shared", Path("/abs")]
    assert locate_lower({"NIXBRIDGE_LOWER": "/a:/b"}, inner) == [Path("/a"), Path("/b")]
    assert locate_lower({"NIXBRIDGE_LOWER": ""}, inner) == []


@pytest.mark.parametrize("written", ['"shared"', "[1]", "true", '[""]'])
def test_a_setting_that_is_no_list_of_paths_is_an_error(tmp_path: Path, written: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.nixbridge]\nlower = {written}\n")
    with pytest.raises(StoreError, match="must be a list of paths") as caught:
        locate_lower({}, tmp_path)
    assert caught.value.file == str(tmp_path / "pyproject.toml")
