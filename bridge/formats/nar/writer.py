"""Archive a tree of the file system.

The one place, with the reader, where the formats touch a disk: an archive of a folder is what a
library of Nix's formats is most asked for.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import takewhile
from operator import attrgetter
from pathlib import Path

from bridge.formats.errors import NarError

from . import wire
from .canonical import Canonical, changed
from .files import AT_ONCE, Buffer, Files

try:
    from bridge.formats import _native
except ImportError:  # there was no compiler: the same in Python
    _native = None  # type: ignore[assignment]

__all__ = ["CHUNK", "Visit", "pack", "pack_chunks"]

_name = attrgetter("name")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

CHUNK = 1 << 20
"""How many bytes of a file are held in memory at once."""

Visit = Callable[[str, os.stat_result, str | int], None]
"""Called for each object behind its contents were read (a directory: behind its entries): its path, its
status, and what system calls reach it by best: an open descriptor for a file, else the path again."""

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
    with contextlib.closing(_views(path, visit, keep)) as views:
        yield from map(bytes, views)


def _views(path: str | Path, visit: Visit | None, keep: Filter | None) -> Generator[bytes | memoryview]:
    """The same, where each piece is there only until the next one is asked for."""
    buffer = Buffer(CHUNK)
    buffer.add(wire.MAGIC)
    root = os.fspath(path)
    status = os.lstat(root)
    if not stat.S_ISDIR(status.st_mode):
        yield from _leaf(buffer, root, root, None, status, visit)
        yield buffer.take()
        return
    # An explicit stack: trees may be deeper than Python's recursion limit.
    stack = [_Folder(root, status, 0)]
    # The native code does all that these visits do.
    canonical = visit if isinstance(visit, Canonical) else None
    quick = _native is not None and keep is None and visit is canonical
    files = Files(buffer, canonical)
    buffer.add(wire.DIRECTORY)
    try:
        while stack:
            folder = stack[-1]
            opened = folder.opened
            for entry in folder:
                # A file's status comes from its descriptor, which spares a walk along its path.
                is_file = keep is None and entry.is_file(follow_symlinks=False)
                if quick and is_file and opened is not None:
                    yield from files.archive(opened, folder.take_files(), partial(_file, buffer, opened, visit))
                    continue
                place = os.fsdecode(entry.path)
                found = None if is_file else entry.stat(follow_symlinks=False)
                if keep is not None and found is not None and not keep(place, found):
                    continue
                name = entry.name
                buffer.add(wire.ENTRY + wire.string(name) + wire.NODE)
                if found is not None and stat.S_ISDIR(found.st_mode):
                    buffer.add(wire.DIRECTORY)
                    stack.append(_Folder(place, found, len(stack)))
                    break
                # Nothing comes of a small file: it went into the buffer.
                yield from _leaf(buffer, place, place if opened is None else name, opened, found, visit)
                buffer.add(wire.CLOSE)
                if buffer.is_full:
                    yield buffer.take()
            else:
                stack.pop().close()
                buffer.add(wire.CLOSE)
                if visit is not None:
                    visit(folder.path, folder.status, folder.path)
                if stack:
                    buffer.add(wire.CLOSE)
            if buffer.is_full:
                yield buffer.take()
    finally:
        files.close()
        for folder in stack:
            folder.close()
    yield buffer.take()


class _Folder:
    """A folder that is being walked.

    Its files are opened relative to its descriptor, which spares walks along their paths; only to a
    certain depth, since a process may have so many descriptors and no more.
    """

    __slots__ = ("_entries", "_next", "opened", "path", "status")
    _OPENED_DEPTH = 64

    def __init__(self, path: str, status: os.stat_result, depth: int) -> None:
        self.path = path
        self.status = status
        self._entries = _entries(path)
        self._next = 0
        self.opened = os.open(path, _OPEN | os.O_DIRECTORY) if depth < self._OPENED_DEPTH else None

    def __iter__(self) -> Iterator[os.DirEntry[bytes]]:
        """The entries that are left; one that was given is gone, whoever iterates."""
        while self._next < len(self._entries):
            self._next += 1
            yield self._entries[self._next - 1]

    def take_files(self) -> list[os.DirEntry[bytes]]:
        """The file that was given last and those behind it, up to the next that is none; they are not given again."""
        few = self._entries[self._next - 1 : self._next - 1 + AT_ONCE]
        files = list(takewhile(lambda entry: entry.is_file(follow_symlinks=False), few))
        self._next += len(files) - 1
        return files

    def close(self) -> None:
        if self.opened is not None:
            os.close(self.opened)


def _file(buffer: Buffer, folder: int, visit: Visit | None, entry: os.DirEntry[bytes]) -> Iterator[bytes | memoryview]:
    """Add the entry of any file of an open folder."""
    buffer.add(wire.ENTRY + wire.string(entry.name) + wire.NODE)
    yield from _leaf(buffer, os.fsdecode(entry.path), entry.name, folder, None, visit)
    buffer.add(wire.CLOSE)


def _leaf(
    buffer: Buffer,
    path: str,
    name: str | bytes,
    folder: int | None,
    status: os.stat_result | None,
    visit: Visit | None,
) -> Iterable[bytes | memoryview]:
    """Add a file or a link to the buffer; gives the chunks of a large file, with the buffer before them.

    Parameters
    ----------
    name
        What the file is opened by: relative to the descriptor `folder`, if there is one.
    status
        None for what is known to be a file.
    """
    if status is not None and stat.S_ISLNK(status.st_mode):
        buffer.add(wire.SYMLINK + wire.string(os.fsencode(os.readlink(path))) + wire.CLOSE)
        if visit is not None:
            visit(path, status, path)
        return ()
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise NarError(f"{path} is a {_kind(status.st_mode)}; an archive holds files, folders and links only")
    descriptor = os.open(name, _OPEN, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        size = status.st_size
        head = wire.EXECUTABLE_HEAD if status.st_mode & stat.S_IXUSR else wire.FILE_HEAD
        if size > CHUNK:
            buffer.add(head + wire.size_field(size))
            return _large(buffer, os.dup(descriptor), path, status, visit)
        # One byte more than its status said, to see a file that grows.
        data = os.read(descriptor, size + 1)
        if len(data) != size:
            raise changed(path)
        if visit is not None:
            visit(path, status, descriptor)
    finally:
        os.close(descriptor)
    buffer.add(b"".join((head, wire.size_field(size), data, wire.padding(size), wire.CLOSE)))
    return ()


def _large(
    buffer: Buffer, descriptor: int, path: str, status: os.stat_result, visit: Visit | None
) -> Iterator[bytes | memoryview]:
    """The rest of a file that is read in pieces; closes the descriptor."""
    try:
        yield buffer.take()
        left = status.st_size
        while left:
            chunk = os.read(descriptor, min(CHUNK, left))
            if not chunk:
                raise changed(path)
            left -= len(chunk)
            yield chunk
        if os.read(descriptor, 1):
            raise changed(path)
        if visit is not None:
            visit(path, status, descriptor)
    finally:
        os.close(descriptor)
    buffer.add(wire.padding(status.st_size) + wire.CLOSE)


def pack(
    path: str | Path,
    write: Callable[[bytes | memoryview], object],
    *,
    visit: Visit | None = None,
    keep: Filter | None = None,
) -> None:
    """Write the archive of `path`; parameters and errors as `pack_chunks`.

    Parameters
    ----------
    write
        As that of a file: what it is given is there only until it returns.
    """
    with contextlib.closing(_views(path, visit, keep)) as views:
        for view in views:
            write(view)


def _entries(folder: str) -> list[os.DirEntry[bytes]]:
    """The entries of a folder, by the bytes of their names as an archive has them."""
    with os.scandir(os.fsencode(folder)) as found:
        return sorted(found, key=_name)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFSOCK: "socket",
        stat.S_IFIFO: "pipe",
        stat.S_IFBLK: "block device",
        stat.S_IFCHR: "character device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
