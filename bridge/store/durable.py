"""Writing so that a name stands for complete contents, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bridge.formats.nar.canonical import CANONICAL_TIME

from .errors import DiskError
from .layout import Store

__all__ = [
    "dead_temporaries",
    "disk_errors",
    "sync_folder",
    "sync_tree",
    "temporary",
    "to_lines",
    "write_file",
    "write_files",
]


_JSON = json.JSONEncoder(sort_keys=True)


def to_lines(value: Mapping[str, Any]) -> bytes:
    """A JSON object as a file with a line for each field."""
    # Python's own indentation is no C, and many times slower.
    lines = [f"{_JSON.encode(name)}: {_JSON.encode(field)}" for name, field in sorted(value.items())]
    return ("{\n " + ",\n ".join(lines) + "\n}\n").encode()


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an `OSError` into one that says what could not be done.

    Raises
    ------
    DiskError
    """
    try:
        yield
    except OSError as error:
        hint = "make room, or use another store (--store)" if error.errno in (28, 122) else None
        raise DiskError(f"{what}: {error.strerror or error}", hint=hint) from error


def temporary(store: Store) -> Path:
    """A new name in the store's tmp folder."""
    return store.tmp / f"{_host()}-{os.getpid()}-{os.urandom(8).hex()}"


@cache
def _host() -> str:
    return "".join(char if char.isalnum() else "_" for char in os.uname().nodename)


def dead_temporaries(store: Store) -> list[Path]:
    """What processes of this machine that are gone left in tmp/."""
    dead = []
    for path in store.tmp.iterdir():
        host, _, rest = path.name.partition("-")
        pid = rest.partition("-")[0]
        if host == _host() and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            dead.append(path)
    return dead


def write_file(store: Store, target: Path, data: bytes) -> None:
    """Put `data` at `target` at once and for good: written, synced, renamed.

    Raises
    ------
    DiskError
        With nothing left behind.
    """
    file = temporary(store)
    with disk_errors(f"{target} can not be written"):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(file, target)
        except BaseException:
            file.unlink(missing_ok=True)
            raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_files(store: Store, *steps: Iterable[tuple[Path, bytes]]) -> None:
    """Many small files at once: all written, synced together, then renamed one by one.

    Parameters
    ----------
    steps
        The files of each appear once those of the step before are there for good.

    Raises
    ------
    DiskError
        With nothing left behind where the disk is full: what takes room is done before the first name is there.
    """
    written: list[list[tuple[Path, Path]]] = []
    with disk_errors(f"{store.root} can not be written"):
        try:
            for step in steps:
                written.append([])
                for target, data in step:
                    written[-1].append((temporary(store), target))
                    _write_canonical(written[-1][-1][0], data)
            sync_tree(store.tmp, (file for step in written for file, _ in step), sum(map(len, written)))
            for number, named in enumerate(written, 1):
                for file, target in named:
                    os.rename(file, target)
                if number < len(written):
                    for folder in {target.parent for _, target in named}:
                        sync_folder(folder)
        except BaseException:
            for file in (file for step in written for file, _ in step):
                file.unlink(missing_ok=True)
            raise


def _write_canonical(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        _write_all(descriptor, data)
        # The umask may have taken more than a store object allows.
        os.fchmod(descriptor, 0o444)
        os.utime(descriptor, ns=CANONICAL_TIME)
    finally:
        os.close(descriptor)


_FEW = 16
"""Up to so many files are synced one by one; above, their file system is, once."""


def sync_tree(folder: Path, files: Iterable[Path | str | bytes], count: int) -> None:
    """Make files durable.

    Parameters
    ----------
    folder
        On the file system that holds them.
    count
        How many they are.
    """
    if count > _FEW and _syncfs(folder):
        return
    for file in files:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    sync_tree(folder, [folder], 1)


@cache
def _libc() -> Any:
    # cffi would parse the declaration, which takes ten times as long.
    import ctypes

    return ctypes.CDLL(None)


def _syncfs(folder: Path) -> bool:
    """Sync the whole file system of `folder`; False where the system can not."""
    try:
        sync = _libc().syncfs
    except (OSError, AttributeError, ImportError):
        return False
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(sync(descriptor) == 0)
    finally:
        os.close(descriptor)
