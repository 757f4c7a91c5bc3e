"""After a repair that dropped something, nothing that is valid refers to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.formats.store_path import base_name
from bridge.store.dangling import refer_to, with_referrers
from bridge.store.info import ObjectInfo, read_info
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree
from bridge.store.repair import repair
from bridge.store.roots import keep_plan, roots, tag, tagged
from bridge.store.trace import Realization, realizations, record
from bridge.store.verify import verify

from .filling import add_file, assert_clean

DRV, OTHER = (f"/nix/store/{digit * 32}-train.drv" for digit in "12")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "other")
    yield found
    remove_tree(found.root)


def realized(store: Store, drv: str, path: str) -> Realization:
    return record(store, Realization(drv, {"out": path}, "train", drv, "python", 1.0, 2.0))


def chain(store: Store) -> list[ObjectInfo]:
    """Three objects, each of which refers to the one before it; the last is a realization's."""
    first = add_file(store, "first", b"first")
    second = add_file(store, "second", first.path.encode(), (first.path,))
    third = add_file(store, "third", second.path.encode(), (second.path,))
    realized(store, DRV, third.path)
    alone = add_file(store, "alone", b"alone")
    realized(store, OTHER, alone.path)
    return [first, second, third, alone]


def damage(store: Store, info: ObjectInfo) -> None:
    place = store.real_path(info.path)
    place.chmod(0o644)
    place.write_bytes(b"changed")


def assert_closed(store: Store) -> None:
    """Whatever is valid refers to what is valid, and so do records, tags and plans."""
    for file in store.info.iterdir():
        info = read_info(store, f"/nix/store/{file.name.removesuffix('.json')}")
        assert all(map(store.is_valid, info.references)), info
    for drv in (DRV, OTHER):
        for one in realizations(store, drv):
            assert all(map(store.is_valid, one.outputs.values()))
    for root in roots(store):
        ids = {one.id for drv in (DRV, OTHER) for one in realizations(store, drv)}
        assert {identity for _, identity in root.realizations} <= ids


def test_what_refers_to_a_dropped_object_goes_with_it(store: Store) -> None:
    first, second, third, alone = chain(store)
    damage(store, first)
    [done, *_] = repair(store)
    assert done.done == f"dropped, with {base_name(third.path)}, {base_name(second.path)}, which refer to it"
    assert not any(store.is_valid(one.path) for one in (first, second, third))
    assert store.is_valid(alone.path)
    assert realizations(store, DRV) == []
    assert len(realizations(store, OTHER)) == 1
    assert_closed(store)
    assert_clean(store)


def test_only_what_refers_to_it_goes(store: Store) -> None:
    first, second, third, _ = chain(store)
    damage(store, second)
    repair(store)
    assert store.is_valid(first.path)
    assert not store.is_valid(third.path)
    assert_closed(store)
    assert_clean(store)


def test_several_that_are_damaged_are_each_told(store: Store) -> None:
    first, second, _, _ = chain(store)
    damage(store, first)
    damage(store, second)
    done = repair(store)
    assert {Path(one.finding.path).name[33:] for one in done if one.finding.kind == "object"} == {"first", "second"}
    assert all(one.done for one in done)
    assert_closed(store)
    assert_clean(store)


def test_what_nix_has_may_still_be_referred_to(store: Store) -> None:
    first, second, third, _ = chain(store)
    damage(store, first)

    def in_nix(path: str) -> bool:
        return path == first.path

    repair(store, elsewhere=in_nix)
    assert not store.is_valid(first.path)
    assert store.is_valid(second.path)
    assert store.is_valid(third.path)
    assert verify(store, elsewhere=in_nix).findings == []


def test_what_a_lower_store_has_may_still_be_referred_to(store: Store, other: Store) -> None:
    chain(other)
    first, second, _, _ = chain(store)
    damage(store, first)
    above = open_store(store.root, [other.root])
    repair(above)
    assert above.is_valid(first.path)
    assert store.is_valid(second.path)
    assert verify(above).findings == []


def test_a_lost_reference_is_found_and_mended(store: Store, other: Store) -> None:
    """As a copy of a store that was cut short leaves it."""
    chain(other)
    first, second, third, _ = chain(store)
    store.info_file(first.path).unlink()
    [finding] = verify(store).findings
    assert (finding.kind, finding.name) == ("reference", base_name(second.path))
    assert f"it refers to {first.path}" in finding.message
    [done] = repair(store, source=other)
    assert "what it refers to taken from" in (done.done or "")
    assert_clean(store)
    store.info_file(first.path).unlink()
    assert next(one.done for one in repair(store)) == f"dropped, with {base_name(third.path)}, which refer to it"
    assert_closed(store)
    assert_clean(store)


def test_what_is_taken_over_may_refer_to_what_only_nix_has(store: Store, other: Store) -> None:
    """As what was built from Nix's tools does, which are in no store of ours."""
    tool = f"/nix/store/{'0' * 32}-tool"

    def in_nix(path: str) -> bool:
        return path == tool

    for each in (store, other):
        made = add_file(each, "made", tool.encode(), (tool,))
        user = add_file(each, "user", made.path.encode(), (made.path,))
        realized(each, DRV, user.path)
    store.info_file(made.path).unlink()
    assert [one.kind for one in verify(store, elsewhere=in_nix).findings] == ["reference"]
    repair(store, source=other, elsewhere=in_nix)
    assert all(map(store.is_valid, (made.path, user.path)))
    for path in (made.path, user.path):
        store.info_file(path).unlink()
    repair(store, source=other, elsewhere=in_nix)
    assert len(realizations(store, DRV)) == 1
    assert verify(store, elsewhere=in_nix).findings == []


def test_a_derivation_that_nobody_has_does_not_stand_against_mending(store: Store, other: Store) -> None:
    """Nix evaluated it: where there is none to be asked, it counts as there."""
    drv = f"/nix/store/{'0' * 32}-tool.drv"
    first = add_file(store, "first", b"first")
    add_file(other, "first", b"first")
    user = add_file(store, "user", f"{first.path} {drv}".encode(), (first.path, drv))
    store.info_file(first.path).unlink()
    [done] = repair(store, source=other)
    assert "what it refers to taken from" in (done.done or "")
    assert all(map(store.is_valid, (first.path, user.path)))


def test_where_nobody_knows_what_nix_has_nothing_is_dropped(store: Store) -> None:
    first, second, _, _ = chain(store)
    store.info_file(first.path).unlink()
    (store.roots / "nix-something").symlink_to("/nix/store/something")
    assert verify(store).findings == []
    assert verify(store, elsewhere=lambda path: path == first.path).findings == []
    assert [one.name for one in verify(store, elsewhere=lambda path: False).findings] == [base_name(second.path)]


def test_tags_and_plans_forget_what_is_gone(store: Store) -> None:
    first, *_ = chain(store)
    [lost], [whole] = realizations(store, DRV), realizations(store, OTHER)
    for name, one in (("lost", lost), ("whole", whole)):
        tag(store, name, (one.drv, one.id))
    keep_plan(store, "both", "stages.py", [(lost.drv, lost.id), (whole.drv, whole.id)], [])
    damage(store, first)
    done = [one.done for one in repair(store) if one.finding.kind == "root"]
    assert sorted(map(str, done)) == ["it keeps the others", "the tag dropped"]
    assert tagged(store, "lost") is None
    assert tagged(store, "whole") == (whole.drv, whole.id)
    [plan] = [root for root in roots(store) if root.kind == "plan"]
    assert plan.realizations == ((whole.drv, whole.id),)
    assert_closed(store)
    assert_clean(store)


def test_a_kept_plan_that_can_not_be_read_is_told(store: Store) -> None:
    keep_plan(store, "broken", "stages.py", [], [])
    (store.roots / "plans" / "broken").write_text("{")
    [finding] = verify(store).findings
    assert "nixbridge keep --delete broken drops it" in finding.message
    assert [one.done for one in repair(store)] == [None]


KILLED = """
import os, signal, sys
from pathlib import Path
from bridge.store.layout import Store
from bridge.store.repair import repair
left = int(sys.argv[2])
def trace(event, arguments):
    global left
    if event in ("os.remove", "os.rename", "os.rmdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(trace)
repair(Store(Path(sys.argv[1])))
"""


def test_a_repair_that_is_killed_anywhere_is_finished_by_the_next(store: Store, tmp_path: Path) -> None:
    first, *_ = chain(store)
    damage(store, first)
    ended = False
    for steps in range(40):
        copy = tmp_path / f"copy-{steps}"
        subprocess.run(["cp", "-a", store.root, copy], check=True)
        killed = subprocess.run([sys.executable, "-c", KILLED, copy, str(steps)], check=False)
        ended = killed.returncode == 0
        assert ended or killed.returncode == -signal.SIGKILL
        # What refers goes before what it refers to: nothing valid ever refers to what is invalid.
        assert not [one for one in verify(Store(copy)).findings if one.kind == "reference"]
        repair(Store(copy))
        assert_closed(Store(copy))
        assert verify(Store(copy)).findings == []
        remove_tree(copy)
        if ended:
            break
    assert ended
    assert steps > 3


def test_referrers_come_before_what_they_refer_to(store: Store) -> None:
    first, second, third, _ = chain(store)
    order = with_referrers(refer_to(store), [base_name(first.path)])
    assert order == [base_name(one.path) for one in (third, second, first)]
    # Outputs of one derivation may refer to each other.
    assert sorted(with_referrers({"a": {"b"}, "b": {"a", "c"}}, ["a"])) == ["a", "b", "c"]
    assert os.listdir(store.tmp) == []
