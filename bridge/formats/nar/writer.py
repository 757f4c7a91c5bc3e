"""Archive a tree of the file system.

The one place, with the reader, where the formats touch a disk: an archive of a folder is what a
library of Nix's formats is most asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from operator import attrgetter
from pathlib import Path

from bridge.formats.errors import NarError

from . import wire
from .canonical import Canonical, changed

try:
    from bridge.formats import _native
except ImportError:  # there was no compiler: the same in Python
    _native = None  # type: ignore[assignment]

__all__ = ["CHUNK", "Visit", "pack", "pack_chunks"]

_name = attrgetter("name")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

CHUNK = 1 << 20
"""How many bytes of a file are held in memory at once."""

_AT_ONCE = 256
"""How many files the native code is given in one call."""

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
    buffer = bytearray(wire.MAGIC)
    root = os.fspath(path)
    status = os.lstat(root)
    if not stat.S_ISDIR(status.st_mode):
        yield from _leaf(buffer, root, root, None, status, visit)
        yield bytes(buffer)
        return
    # An explicit stack: trees may be deeper than Python's recursion limit.
    stack = [_Folder(root, status, 0)]
    # The native code does all that these visits do.
    quick = _native is not None and keep is None and (visit is None or isinstance(visit, Canonical))
    room = bytearray(CHUNK if quick else 0)
    buffer += wire.DIRECTORY
    try:
        while stack:
            folder = stack[-1]
            opened = folder.opened
            for entry in folder:
                if (
                    quick
                    and opened is not None
                    and entry.is_file(follow_symlinks=False)
                    and _add_files(buffer, folder, opened, room, visit)
                ):
                    if len(buffer) >= CHUNK:
                        yield bytes(buffer)
                        buffer.clear()
                    continue
                place = os.fsdecode(entry.path)
                # A file's status comes from its descriptor, which spares a walk along its path.
                is_file = keep is None and entry.is_file(follow_symlinks=False)
                found = None if is_file else entry.stat(follow_symlinks=False)
                if keep is not None and found is not None and not keep(place, found):
                    continue
                name = entry.name
                buffer += wire.ENTRY + wire.string(name) + wire.NODE
                if found is not None and stat.S_ISDIR(found.st_mode):
                    buffer += wire.DIRECTORY
                    stack.append(_Folder(place, found, len(stack)))
                    break
                # Nothing comes of a small file: it went into the buffer.
                yield from _leaf(buffer, place, place if opened is None else name, opened, found, visit)
                buffer += wire.CLOSE
                if len(buffer) >= CHUNK:
                    yield bytes(buffer)
                    buffer.clear()
            else:
                stack.pop().close()
                buffer += wire.CLOSE
                if visit is not None:
                    visit(folder.path, folder.status, folder.path)
                if stack:
                    buffer += wire.CLOSE
            if len(buffer) >= CHUNK:
                yield bytes(buffer)
                buffer.clear()
    finally:
        for folder in stack:
            folder.close()
    yield bytes(buffer)


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

    def files(self) -> list[os.DirEntry[bytes]]:
        """The files from the entry that was given last up to the next that is none, or a number of them."""
        few = self._entries[self._next - 1 : self._next - 1 + _AT_ONCE]
        return list(takewhile(lambda entry: entry.is_file(follow_symlinks=False), few))

    def skip(self, count: int) -> None:
        """Give no more of the next entries."""
        self._next += count

    def close(self) -> None:
        if self.opened is not None:
            os.close(self.opened)


def _add_files(buffer: bytearray, folder: _Folder, opened: int, room: bytearray, visit: Visit | None) -> bool:
    """Add as many files as fit into `room`, from the entry that was given last; False if that is none to be added.

    Files with more than one name and large ones are left to `_leaf`.
    """
    files = folder.files()
    names = b"".join([entry.name + b"\0" for entry in files])
    canonical = isinstance(visit, Canonical)
    try:
        count, used, why = _native.archive_files(opened, names, room, canonical)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.path.join(folder.path, error.filename)) from error
    if why == _native.CHANGED:
        raise changed(os.fsdecode(files[count].path))
    if isinstance(visit, Canonical):
        visit.files += [entry.path for entry in files[:count]]
    if not count:
        return False
    buffer += memoryview(room)[:used]
    folder.skip(count - 1)
    return True


def _leaf(
    buffer: bytearray,
    path: str,
    name: str | bytes,
    folder: int | None,
    status: os.stat_result | None,
    visit: Visit | None,
) -> Iterable[bytes]:
    """Add a file or a link to the buffer; gives the chunks of a large file, with the buffer before them.

    Parameters
    ----------
    name
        What the file is opened by: relative to the descriptor `folder`, if there is one.
    status
        None for what is known to be a file.
    """
    if status is not None and stat.S_ISLNK(status.st_mode):
        buffer += wire.SYMLINK + wire.string(os.fsencode(os.readlink(path))) + wire.CLOSE
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
            buffer += head + wire.size_field(size)
            return _large(buffer, os.dup(descriptor), path, status, visit)
        # One byte more than its status said, to see a file that grows.
        data = os.read(descriptor, size + 1)
        if len(data) != size:
            raise changed(path)
        if visit is not None:
            visit(path, status, descriptor)
    finally:
        os.close(descriptor)
    buffer += b"".join((head, wire.size_field(size), data, wire.padding(size), wire.CLOSE))
    return ()


def _large(
    buffer: bytearray, descriptor: int, path: str, status: os.stat_result, visit: Visit | None
) -> Iterator[bytes]:
    """The rest of a file that is read in pieces; closes the descriptor."""
    try:
        yield bytes(buffer)
        buffer.clear()
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
    buffer += wire.padding(status.st_size)
    buffer += wire.CLOSE


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
