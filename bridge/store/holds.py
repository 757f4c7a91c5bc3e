"""What running processes use, so that `gc` beside them takes none of it: temporary roots, as Nix has them.

    locks/<host>-<pid>-<random>.holds     base names of the store paths that a process uses, a line each
    locks/gc, locks/gc-gate               held shared by who adds to them, or looks and then adds; alone by `gc`

A process that is about to rely on a path says so first, by `hold`, and looks whether it is valid afterwards. `gc`
holds the lock alone from before it reads what is held until the last thing that it takes is invalid: so a path is
either held before, and stays, or it is gone when its user looks. Who looks first and decides then (the engine, which
chooses among realizations) does both inside `using`. Removing bytes, which takes long, needs no lock.

A file of holds is locked by its process as long as it lives: one that can be locked is of a process that died. The
gate lets `gc` in where there is always somebody who holds the lock shared. Whoever may not write the store holds
nothing.

Source: NixOS/nix `gc.cc`, `addTempRoot` and `findTempRoots`, of the releases in which temporary roots wait for gc.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.formats.store_path import base_name

from .durable import disk_errors
from .layout import Store

__all__ = ["SUFFIX", "collecting", "held_paths", "hold", "release", "using"]

SUFFIX = ".holds"
_MAY_NOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)


class _File:
    """This process's file of holds, locked as long as it is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._status = os.fstat(self._descriptor)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def is_open(self) -> bool:
        """Whether it is there, and nobody closed it: a program may close all that it does not know, as daemons do."""
        try:
            found = os.fstat(self._descriptor)
        except OSError:
            return False
        return os.path.samestat(found, self._status) and found.st_nlink > 0

    def write(self, names: Iterable[str]) -> None:
        # A line of its own, also behind one that a full disk cut short.
        view = memoryview(("\n" + "\n".join(names) + "\n").encode())
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        if self.is_open():
            os.close(self._descriptor)

    def remove(self) -> None:
        self.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


@dataclass(slots=True)
class _Session:
    """What this process holds of one store, and how often it is inside `using`, with the lock that this needs."""

    file: _File | None = None
    held: set[str] = field(default_factory=set)
    using: int = 0
    lock: int | None = None

    def unlock(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


_sessions: dict[str, _Session] = {}
_mutex = threading.RLock()


def _session(store: Store) -> _Session:
    return _sessions.setdefault(str(store.root), _Session())


def _after_fork() -> None:
    """A child has nothing yet: what its parent holds, the parent holds."""
    global _mutex  # noqa: PLW0603 (another thread may have had it)
    _mutex = threading.RLock()
    for session in _sessions.values():
        if session.file is not None:
            session.file.close()
        session.unlock()
    _sessions.clear()


os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def using(store: Store) -> Iterator[None]:
    """While inside, `gc` takes nothing: for looking, deciding and then holding. For a moment only: `gc` waits.

    Raises
    ------
    DiskError
        If the locks can not be opened.
    """
    with _mutex:
        session = _session(store)
        if not session.using:
            session.lock = _take_shared(store)
        session.using += 1
    try:
        # Without the mutex: who is inside may wait for another thread, which may have something to hold.
        yield
    finally:
        with _mutex:
            session.using -= 1
            if not session.using:
                session.unlock()


def _take_shared(store: Store) -> int | None:
    """The lock, open and held; None where we may not open it."""
    with disk_errors(f"the locks in {store.locks} can not be taken"):
        try:
            # Whoever collects, or waits for it, has the gate.
            gate = _taken(store.locks / "gc-gate", fcntl.LOCK_SH)
            try:
                return _taken(store.locks / "gc", fcntl.LOCK_SH)
            finally:
                os.close(gate)
        except OSError as error:
            if error.errno in _MAY_NOT_WRITE:
                return None
            raise


def _taken(path: Path, how: int) -> int:
    """A lock, open and held until it is closed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, how)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def hold(store: Store, paths: Iterable[str]) -> None:
    """Keep objects from `gc` while this process lives; look whether they are valid after this.

    Parameters
    ----------
    paths
        Store paths, also of objects that are about to be made.

    Raises
    ------
    DiskError
        If it can not be written down.
    """
    with _mutex:
        session = _session(store)
        names = set(map(base_name, paths))
        lost = session.file is None or not session.file.is_open()
        new = names | session.held if lost else names - session.held
        if not new:
            return
        with using(store), disk_errors(f"what is in use can not be written to {store.locks}"):
            try:
                if session.file is None or lost:
                    session.file = _File(store.locks / f"{_process()}{SUFFIX}")
                session.file.write(new)
            except OSError as error:
                if error.errno not in _MAY_NOT_WRITE:
                    raise
                return
        session.held |= new


def _process() -> str:
    host = "".join(char if char.isalnum() else "_" for char in os.uname().nodename)
    return f"{host}-{os.getpid()}-{os.urandom(8).hex()}"


def release() -> None:
    """Hold nothing any more: what a process does when it ends, and before a store's disk is unmounted."""
    with _mutex:
        for session in _sessions.values():
            if session.file is not None:
                session.file.remove()
        _sessions.clear()


atexit.register(release)


@contextlib.contextmanager
def collecting(store: Store) -> Iterator[None]:
    """While inside, nobody else begins to use anything: of `gc`, and of what moves objects that others may use.

    Raises
    ------
    DiskError
        If the store can not be written.
    """
    with contextlib.ExitStack() as taken:
        with disk_errors(f"the locks in {store.locks} can not be taken"):
            for name in ("gc-gate", "gc"):
                taken.callback(os.close, _taken(store.locks / name, fcntl.LOCK_EX))
        yield


def held_paths(store: Store) -> tuple[set[str], list[Path]]:
    """Base names of what running processes hold, and the files of those that are gone; ask while `collecting`."""
    held: set[str] = set()
    dead = []
    for file in store.locks.glob(f"*{SUFFIX}"):
        try:
            opened = file.open("rb")
        except FileNotFoundError:
            continue
        with opened:
            try:
                fcntl.flock(opened.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.update(opened.read().decode(errors="replace").split())
            else:
                dead.append(file)
    return held, dead
