"""Archive a tree of the file system.

The one place, with the reader, where the formats touch a disk: an archive of a folder is what a
library of Nix's formats is most asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from bridge.formats.errors import NarError

from . import wire

__all__ = ["CHUNK", "Visit", "pack", "pack_chunks"]

CHUNK = 1 << 20
"""How many bytes of a file are held in memory at once."""

Visit = Callable[[str, os.stat_result], None]
"""Called for each object behind its contents were read (a directory: behind its entries)."""

Filter = Callable[[str, os.stat_result], bool]
"""Whether the object at this path, with this lstat, is archived."""


def pack_chunks(path: str | Path, *, visit: Visit | None = None, keep: Filter | None = None) -> Iterator[bytes]:
    """The archive of `path` in pieces of about `CHUNK` bytes, in constant memory.

    Parameters
    ----------
    visit
        Called with each path and its lstat once it was read; the store canonicalises there.
    keep
        Which objects below `path` are archived; all without it.

    Raises
    ------
    NarError
        For an object that a NAR can not hold (socket, device, pipe), or a file that changes while
        it is read.
    OSError
        When something can not be read.
    """
    buffer = bytearray(wire.MAGIC)
    # An explicit stack: trees may be deeper than Python's recursion limit.
    root = os.fspath(path)
    stack: list[tuple[str, os.stat_result, Iterator[os.DirEntry[str]]]] = []
    current: str | None = root
    status = os.lstat(root)
    while True:
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
        if current is not None:
            mode = status.st_mode
            if stat.S_ISREG(mode):
                buffer += wire.EXECUTABLE_HEAD if mode & stat.S_IXUSR else wire.FILE_HEAD
                size = status.st_size
                buffer += wire.size_field(size)
                if size <= CHUNK:
                    data = _read_small(current, size)
                    buffer += data
                else:
                    yield bytes(buffer)
                    buffer.clear()
                    yield from _read_large(current, size)
                buffer += wire.padding(size)
                buffer += wire.CLOSE
            elif stat.S_ISLNK(mode):
                buffer += wire.SYMLINK + wire.string(os.fsencode(os.readlink(current))) + wire.CLOSE
            elif stat.S_ISDIR(mode):
                buffer += wire.DIRECTORY
                stack.append((current, status, _entries(current)))
                current = None
                continue
            else:
                raise NarError(f"{current} is a {_kind(mode)}; an archive holds files, folders and links only")
            if visit is not None:
                visit(current, status)
            if not stack:
                break
            buffer += wire.CLOSE
        folder, folder_status, entries = stack[-1]
        current = None
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if keep is None or keep(entry.path, status):
                current = entry.path
                buffer += wire.ENTRY + wire.string(os.fsencode(entry.name)) + wire.NODE
                break
        else:
            stack.pop()
            buffer += wire.CLOSE
            if visit is not None:
                visit(folder, folder_status)
            if not stack:
                break
            buffer += wire.CLOSE
    yield bytes(buffer)


def pack(
    path: str | Path,
    write: Callable[[bytes], object],
    *,
    visit: Visit | None = None,
    keep: Filter | None = None,
) -> None:
    """Write the archive of `path`; parameters and errors as `pack_chunks`."""
    for chunk in pack_chunks(path, visit=visit, keep=keep):
        write(chunk)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return iter(sorted(found, key=lambda entry: os.fsencode(entry.name)))


def _read_small(path: str, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # One byte more than lstat said, to see a file that grows.
        data = os.read(descriptor, size + 1)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise _changed(path)
    return data


def _read_large(path: str, size: int) -> Iterator[bytes]:
    left = size
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise _changed(path)
            left -= len(chunk)
            yield chunk
        if file.read(1):
            raise _changed(path)


def _changed(path: str) -> NarError:
    return NarError(f"{path} changed its size while it was read")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFSOCK: "socket",
        stat.S_IFIFO: "pipe",
        stat.S_IFBLK: "block device",
        stat.S_IFCHR: "character device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
