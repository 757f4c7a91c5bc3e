"""Equal files become one file with several names: `optimise`.

    locks/<object>.optimise     an object whose folders may look otherwise for a moment

Files are equal in contents and executable bit. A second name is made in tmp/ and renamed over the file, so that
whoever reads it meanwhile reads the same. That changes the folder's time, and takes the right to write it; a mark
says so until both are as before. Where the process is killed in between, the next `optimise`, `verify` or `gc`
finds the mark and mends the folder.

Source of the idea: NixOS/nix `optimise-store.cc`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bridge.formats.store_path import STORE_DIR

from .canonical import make_canonical, wrong_status
from .durable import disk_errors, sync_folder, temporary
from .errors import StoreError
from .holds import hold
from .layout import Store
from .locks import lock, try_lock

__all__ = ["Optimised", "finish_optimising", "is_optimised_now", "optimise"]

_MARK = ".optimise"


@dataclass(frozen=True, slots=True)
class Optimised:
    """What came of it: files that are names of another one now, and the bytes of the disk that are free."""

    files: int
    freed: int


def optimise(store: Store, *, on_progress: Callable[[int, int], object] = lambda done, count: None) -> Optimised:
    """Link equal files of objects; beside any number of readers.

    Raises
    ------
    DiskError
        If the disk refuses; the store is clean then, and what was linked is.
    """
    store = store.own
    finish_optimising(store)
    files = freed = 0
    doubles = _doubles(store, on_progress)
    for name, pairs in doubles.items():
        hold(store, [f"{STORE_DIR}/{name}"])
        if not store.has(f"{STORE_DIR}/{name}"):
            continue
        with disk_errors(f"{store.real_path(f'{STORE_DIR}/{name}')} can not be optimised"), lock(store, name):
            for gained in _link(store, name, pairs):
                files += 1
                freed += gained
    return Optimised(files, freed)


def _doubles(store: Store, on_progress: Callable[[int, int], object]) -> dict[str, list[tuple[str, str]]]:
    """By object, files and the equal ones elsewhere whose names they may become."""
    sizes: dict[tuple[int, bool], dict[int, list[str]]] = {}
    names = sorted(os.listdir(store.info))
    for name in (name.removesuffix(".json") for name in names):
        for path, status in _files(f"{store.objects}/{name}"):
            key = (status.st_size, bool(status.st_mode & stat.S_IXUSR))
            sizes.setdefault(key, {}).setdefault(status.st_ino, []).append(path)
    several = [inodes for inodes in sizes.values() if len(inodes) > 1]
    found: dict[str, list[tuple[str, str]]] = {}
    cut = len(str(store.objects)) + 1
    for done, inodes in enumerate(several):
        on_progress(done, len(several))
        first: dict[bytes, str] = {}
        for paths in inodes.values():
            try:
                with open(paths[0], "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            except FileNotFoundError:
                continue
            one = first.setdefault(digest, paths[0])
            if one != paths[0]:
                for path in paths:
                    found.setdefault(path[cut:].partition("/")[0], []).append((path, one))
    return found


def _files(root: str) -> Iterable[tuple[str, os.stat_result]]:
    """The files of an object that have contents, and look as those of an object do."""
    pending = [root]
    while pending:
        path = pending.pop()
        try:
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                pending += sorted((f"{path}/{name}" for name in os.listdir(path)), reverse=True)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size and wrong_status(status) is None:
            yield path, status


def _link(store: Store, name: str, pairs: Iterable[tuple[str, str]]) -> Iterable[int]:
    """Link files of one object; gives the bytes that each gives back."""
    place = store.objects / name
    if stat.S_ISREG(os.lstat(place).st_mode):
        # The folder store/ is none of an object.
        yield from _replaced(store, pairs)
        return
    mark = store.locks / f"{name}{_MARK}"
    mark.touch()
    sync_folder(store.locks)
    try:
        yield from _replaced(store, pairs)
    finally:
        make_canonical(place)
        mark.unlink()


def _replaced(store: Store, pairs: Iterable[tuple[str, str]]) -> Iterable[int]:
    for path, one in pairs:
        folder = os.path.dirname(path)
        made = temporary(store)
        try:
            status = os.lstat(path)
            if os.path.samestat(status, os.lstat(one)):
                continue
            os.link(one, made)
            if folder != str(store.objects):
                os.chmod(folder, 0o755)
            os.rename(made, path)
        except OSError as error:
            # The other one went meanwhile, or has as many names as a file may have.
            if error.errno not in (errno.ENOENT, errno.EMLINK):
                raise
            continue
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made)
        yield status.st_blocks * 512 if status.st_nlink == 1 else 0


def is_optimised_now(store: Store, name: str) -> bool:
    """Whether folders of an object may look otherwise for a moment."""
    return os.path.exists(store.locks / f"{name}{_MARK}")


def finish_optimising(store: Store) -> None:
    """Mend the folders of objects that a killed process was at; whoever may not, leaves them."""
    for mark in store.locks.glob(f"*{_MARK}"):
        name = mark.name.removesuffix(_MARK)
        place: Path = store.objects / name
        with contextlib.suppress(OSError, StoreError), try_lock(store, name) as free:
            if free:
                if os.path.lexists(place):
                    make_canonical(place)
                mark.unlink(missing_ok=True)
