"""Locks between processes: held by the kernel, so that a killed process holds none."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .durable import disk_errors
from .errors import LockError
from .layout import Store

__all__ = ["Holder", "holder", "lock", "try_lock"]

_FIRST_WAIT = 0.005
_LONGEST_WAIT = 0.25


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as it wrote down itself."""

    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, for {max(0, time.time() - self.since):.0f} s"


@contextlib.contextmanager
def try_lock(store: Store, name: str) -> Iterator[bool]:
    """Take the lock `name` if it is free; gives whether it was."""
    path = store.locks / f"{name}.lock"
    with disk_errors(f"the lock {path} can not be opened"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        note = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}).encode()
        # Only for messages, so a full disk does not matter.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note, 0)
        yield True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock(
    store: Store,
    name: str,
    *,
    on_wait: Callable[[Holder | None], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Take the lock `name`, waiting for it.

    Parameters
    ----------
    on_wait
        Called once if it is held, with who holds it.
    cancelled
        Asked while waiting.

    Raises
    ------
    LockError
        If it was cancelled while waiting.
    """
    wait = _FIRST_WAIT
    while True:
        with try_lock(store, name) as taken:
            if taken:
                yield
                return
        if on_wait is not None:
            on_wait(holder(store, name))
            on_wait = None
        if cancelled():
            raise LockError(f"cancelled while waiting for the lock {name}")
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT)


def holder(store: Store, name: str) -> Holder | None:
    try:
        value = json.loads((store.locks / f"{name}.lock").read_bytes())
        return Holder(int(value["pid"]), str(value["host"]), float(value["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
