"""Locks between processes: held by the kernel, so that a killed process holds none.

A lock's file is removed by who held it: who gets the lock of a file that was removed meanwhile tries again. What a
killed process leaves is free, and `gc` takes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .durable import disk_errors
from .errors import LockError
from .layout import Store

__all__ = ["Holder", "holder", "left_locks", "lock", "try_lock"]

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
    descriptor = _take(path)
    if descriptor is None:
        yield False
        return
    try:
        note = json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "since": time.time()}).encode()
        # Only for messages, so a full disk does not matter.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note, 0)
        yield True
    finally:
        # Whoever may not remove it leaves it for the next.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _take(path: Path) -> int | None:
    """The open, locked file at `path`, or None if another has it."""
    while True:
        with disk_errors(f"the lock {path} can not be opened"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.close(descriptor)


def left_locks(store: Store) -> list[str]:
    """Names of the locks that processes left which were killed; each may be taken again at any time."""
    return [file.stem for file in store.locks.glob("*.lock") if _is_free(file)]


def _is_free(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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
