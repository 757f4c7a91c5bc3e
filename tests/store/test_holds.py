"""What a process uses stays while it lives, whatever becomes of its descriptors."""

from __future__ import annotations

import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bridge.store.gc import collect
from bridge.store.holds import collecting, held_paths, hold, release, using
from bridge.store.layout import Store
from bridge.store.policy import Policy
from bridge.store.trace import Realization, realizations, record

from .filling import add_file

DRV = "/nix/store/" + "1" * 32 + "-train.drv"
PATH = "/nix/store/" + "0" * 32 + "-x"


def held(store: Store) -> set[str]:
    with collecting(store):
        return held_paths(store)[0]


def test_what_is_held_is_seen_until_it_is_released(store: Store) -> None:
    hold(store, [PATH])
    assert held(store) == {PATH.rpartition("/")[2]}
    release()
    assert held(store) == set()
    assert list(store.locks.glob("*.holds")) == []


def is_free(store: Store) -> bool:
    """Whether `gc` could begin."""
    with (store.locks / "gc").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_who_looks_keeps_no_other_thread_from_holding_and_the_last_one_lets_gc_in(store: Store) -> None:
    inside, leave = threading.Event(), threading.Event()

    def look() -> None:
        with using(store):
            inside.set()
            leave.wait(10)

    with ThreadPoolExecutor(2) as threads:
        with using(store):
            other = threads.submit(look)
            assert inside.wait(10)
            threads.submit(hold, store, [f"/nix/store/{'0' * 32}-a"]).result(10)
            assert not is_free(store)
        assert not is_free(store)
        leave.set()
        other.result(10)
    assert is_free(store)
    with collecting(store):
        assert held_paths(store)[0] == {f"{'0' * 32}-a"}
    release()


def test_a_child_holds_nothing_and_takes_nothing_from_its_parent(store: Store) -> None:
    hold(store, [PATH])
    child = os.fork()
    if not child:
        release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(held(store)) == 1


def test_descriptors_that_others_closed_are_neither_written_nor_closed(store: Store) -> None:
    hold(store, [PATH])
    [file] = store.locks.glob("*.holds")
    [mine] = [one for one in os.listdir("/proc/self/fd") if _leads_to(one, str(file))]
    other = os.open(store.root / "other", os.O_WRONLY | os.O_CREAT)
    os.dup2(other, int(mine))
    hold(store, ["/nix/store/" + "2" * 32 + "-y"])
    # What was held before is held again, by a file of its own.
    assert len(held(store)) == 2
    release()
    os.fstat(int(mine))
    assert (store.root / "other").read_bytes() == b""
    os.close(other)
    os.close(int(mine))


def _leads_to(descriptor: str, path: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == path
    except OSError:
        return False


@pytest.mark.parametrize("keeps", [True, False])
def test_what_a_kept_realization_went_on_from_stays(store: Store, keeps: bool) -> None:
    first = add_file(store, "first", b"1")
    second = add_file(store, "second", b"2")
    one = record(store, Realization(DRV, {"out": first.path}, "train", DRV, "python", 1.0, 2.0, {"n": 1}))
    later = replace(one, outputs={"out": second.path}, started=3.0, stopped=4.0, id="")
    record(store, replace(later, previous=one.id if keeps else None))
    release()
    collect(store, Policy(keep_last=1))
    assert len(realizations(store, DRV)) == (2 if keeps else 1)
    assert store.is_valid(first.path) == keeps
