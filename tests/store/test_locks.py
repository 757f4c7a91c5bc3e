"""Locks between real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bridge.store.errors import LockError
from bridge.store.layout import Store
from bridge.store.locks import Holder, holder, lock, try_lock

HOLD = """
import sys, time
from bridge.store import open_store
from bridge.store.locks import lock
with lock(open_store(sys.argv[1]), "x"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(store: Store) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def test_a_lock_is_held_by_one_at_a_time_also_in_one_process(store: Store) -> None:
    with try_lock(store, "x") as taken:
        assert taken
        with try_lock(store, "x") as again, try_lock(store, "y") as other:
            assert not again
            assert other
    with try_lock(store, "x") as taken:
        assert taken


def test_who_waits_sees_who_holds_it(store: Store) -> None:
    with held_by_another(store) as child:
        seen: list[Holder | None] = []
        started = time.monotonic()
        timer = threading.Timer(0.2, child.kill)
        timer.start()
        with lock(store, "x", on_wait=seen.append):
            assert time.monotonic() - started >= 0.15
        timer.join()
    assert len(seen) == 1
    assert seen[0] is not None
    assert seen[0].pid == child.pid
    assert str(seen[0]).startswith(f"process {child.pid} on ")


def test_kill_9_releases_a_lock(store: Store) -> None:
    with held_by_another(store) as child:
        with try_lock(store, "x") as taken:
            assert not taken
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        with try_lock(store, "x") as taken:
            assert taken


def test_waiting_can_be_cancelled(store: Store) -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with (
        try_lock(store, "x"),
        pytest.raises(LockError, match="cancelled while waiting"),
        lock(store, "x", cancelled=stop.is_set),
    ):
        pytest.fail("it was held")


def test_threads_of_one_process_exclude_each_other(store: Store) -> None:
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(10):
            with lock(store, "x"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff"])
def test_a_note_that_can_not_be_read_names_nobody(store: Store, note: bytes) -> None:
    (store.locks / "x.lock").write_bytes(note)
    assert holder(store, "x") is None
    with try_lock(store, "x") as taken:
        assert taken
    assert holder(store, "never") is None
