"""What lies in a store and is no result goes; what may still be wanted stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.formats.store_path import base_name
from bridge.store.durable import temporary
from bridge.store.gc import collect
from bridge.store.holds import hold, release
from bridge.store.layout import Store
from bridge.store.locks import lock
from bridge.store.policy import Policy
from bridge.store.roots import add_link, tag
from bridge.store.trace import realizations

from .filling import add_file, assert_clean
from .keeping import DAY, derivation, realized

NAME = "0" * 32 + "-x"


def taken(store: Store, policy: Policy | None = None) -> set[tuple[str, str]]:
    """Kind and name of what goes; a dry run says the same and takes nothing."""
    release()
    said = collect(store, policy, dry_run=True)
    found = collect(store, policy)
    assert set(found.items) == set(said.items)
    assert (found.live, found.freed) == (said.live, said.freed)
    assert collect(store, policy).items == ()
    return {(one.kind, one.name) for one in found.items}


def aged(path: Path, seconds: float) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_an_empty_store_has_none(store: Store) -> None:
    assert taken(store, Policy(unrooted=True)) == set()


def test_bytes_that_are_no_object_go_unless_a_process_makes_one_of_them(store: Store) -> None:
    (store.objects / NAME).write_text("half")
    release()
    hold(store, [f"/nix/store/{NAME}"])
    assert collect(store).items == ()
    assert taken(store) == {("unregistered", NAME)}
    assert list(store.objects.iterdir()) == []


def test_an_object_that_nothing_needs_goes(store: Store) -> None:
    path = add_file(store, "x").path
    assert taken(store) == {("object", base_name(path))}
    assert_clean(store)


def test_temporaries_of_processes_that_are_gone_go_and_others_stay(store: Store) -> None:
    program = "import sys; from bridge.store.durable import temporary; from bridge.store.layout import open_store\n"
    program += "made = temporary(open_store(sys.argv[1])); made.mkdir(); (made / 'x').touch(); print(made.name)"
    done = subprocess.run([sys.executable, "-c", program, store.root], capture_output=True, text=True, check=True)
    mine = temporary(store)
    mine.touch()
    foreign = store.tmp / "otherhost-1-0"
    foreign.touch()
    assert taken(store) == {("temporary", done.stdout.strip())}
    assert sorted(store.tmp.iterdir()) == sorted([mine, foreign])


def test_a_checkpoint_goes_once_its_run_is_done(store: Store) -> None:
    drv = derivation(store, "train")
    realized(store, "train", drv, index=1)
    done, pending = (store.checkpoints / f"{base_name(drv)}-{index}" for index in (1, 2))
    done.mkdir()
    pending.mkdir()
    with lock(store, base_name(drv)):
        assert collect(store).items == ()
    assert taken(store) == {("checkpoint", done.name)}
    assert taken(store, Policy(older_than=DAY, stage="none")) == set()
    aged(pending, 2 * DAY)
    assert taken(store, Policy(older_than=DAY, stage="none")) == {("checkpoint", pending.name)}


def test_what_a_failed_build_worked_in_goes_when_it_is_old_and_one_asks(store: Store) -> None:
    place = store.failed / "train"
    place.mkdir(parents=True)
    aged(place, 2 * DAY)
    assert taken(store) == set()
    assert taken(store, Policy(older_than=DAY)) == {("failed", "train")}


def test_a_partial_result_goes_once_its_run_was_finished(store: Store) -> None:
    drv = derivation(store, "train")
    partial = realized(store, "train", drv, result="partial", content="half", log="train-0")
    assert taken(store) == set()
    done = realized(store, "train", drv, 2.0)
    assert taken(store) == {("realization", partial.id), ("object", base_name(partial.outputs["out"]))}
    assert [one.id for one in realizations(store, drv)] == [done.id]
    assert list(store.logs.iterdir()) == []


def test_a_partial_result_with_a_tag_stays(store: Store) -> None:
    drv = derivation(store, "train")
    partial = realized(store, "train", drv, result="partial")
    tag(store, "half", (drv, partial.id))
    realized(store, "train", drv, 2.0)
    assert taken(store) == set()


def test_a_log_without_a_realization_goes_after_a_week(store: Store) -> None:
    drv = derivation(store, "train")
    realized(store, "train", drv, log=f"{base_name(drv)}-1")
    aged(store.logs / f"{base_name(drv)}-1", 30 * DAY)
    for name, days in ((f"{NAME}.drv-1", 6), (f"{NAME}.drv-2", 8)):
        (store.logs / name).touch()
        aged(store.logs / name, days * DAY)
    assert taken(store) == {("log", f"{NAME}.drv-2")}


def test_what_somebody_else_takes_while_it_is_looked_at_is_no_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.failed.mkdir()
    places = [store.logs / f"{NAME}.drv-1", store.failed / "train"]
    for place in places:
        place.touch()
    looked_at = os.lstat

    def taken_before(path: str | Path) -> os.stat_result:
        if Path(path) in places:
            Path(path).unlink(missing_ok=True)
        return looked_at(path)

    monkeypatch.setattr(os, "lstat", taken_before)
    assert collect(store, Policy(older_than=DAY), dry_run=True).items == ()
    assert not any(place.exists() for place in places)


def test_roots_that_lead_nowhere_go(store: Store, tmp_path: Path) -> None:
    one = realized(store, "train", derivation(store, "train"))
    for name in ("kept", "removed"):
        add_link(store, tmp_path / name, store.real_path(one.outputs["out"]))
    (tmp_path / "removed").unlink()
    (store.roots / f"nix-{base_name(one.outputs['out'])}").symlink_to("/nix/store/x")
    (store.roots / f"nix-{NAME}").symlink_to("/nix/store/x")
    found = taken(store)
    assert {kind for kind, _ in found} == {"root"}
    assert f"nix-{NAME}" in {name for _, name in found}
    assert len(found) == 2
    assert len(list((store.roots / "auto").iterdir())) == 1


@pytest.mark.parametrize("name", ["x.records", NAME + ".drv.records"])
def test_an_index_of_a_derivation_without_records_goes(store: Store, name: str) -> None:
    (store.root / "cache").mkdir(exist_ok=True)
    (store.root / "cache" / name).touch()
    assert taken(store) == {("cache", name)}
