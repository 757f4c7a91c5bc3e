"""Read an archive as a stream, strictly: what Nix would refuse is refused here."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bridge.formats.errors import NarError

from .wire import is_name
from .writer import CHUNK

__all__ = [
    "DirectoryEntry",
    "EndDirectory",
    "Entry",
    "RegularEntry",
    "SymlinkEntry",
    "read",
    "unpack",
]

_MAX_TOKEN = 16
_MAX_NAME = 255
_MAX_TARGET = 4095
_MAX_DEPTH = 10_000
"""Folders in folders: more than a path of any file system holds, few enough to keep each one's path."""


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes: ...


class _Tokens:
    """The strings of an archive, with their position."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.position = 0

    def take(self, size: int) -> bytes:
        parts = []
        left = size
        while left:
            data = self._stream.read(left)
            if not data:
                raise NarError("the archive ends too early", position=self.position)
            self.position += len(data)
            left -= len(data)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self) -> int:
        size: int = struct.unpack("<Q", self.take(8))[0]
        return size

    def pad(self, size: int) -> None:
        if -size % 8 and any(self.take(-size % 8)):
            raise NarError("the padding is not zero", position=self.position)

    def string(self, limit: int, what: str) -> bytes:
        size = self.size()
        if size > limit:
            raise NarError(f"{what} has {size} bytes, more than {limit}", position=self.position)
        data = self.take(size)
        self.pad(size)
        return data

    def token(self) -> bytes:
        return self.string(_MAX_TOKEN, "a keyword")

    def expect(self, *words: bytes) -> None:
        for word in words:
            found = self.token()
            if found != word:
                raise NarError(f"expected {word.decode()!r}, found {found!r}", position=self.position)


@dataclass(slots=True)
class RegularEntry:
    """A file at `path`; `chunks` must be read before the next entry is asked for."""

    path: tuple[str, ...]
    executable: bool
    size: int
    offset: int
    """Where its contents begin in the archive, as in a NAR listing."""
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class SymlinkEntry:
    path: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndDirectory:
    """Behind the last entry of the directory at `path`."""

    path: tuple[str, ...]


Entry = RegularEntry | SymlinkEntry | DirectoryEntry | EndDirectory


def read(stream: Readable, *, trailing: bool = False) -> Iterator[Entry]:
    """The entries of an archive in its order, in constant memory.

    Parameters
    ----------
    trailing
        Whether the stream may go on behind the archive.

    Raises
    ------
    NarError
        At the first byte that is not as the format says.
    """
    tokens = _Tokens(stream)
    magic = tokens.string(_MAX_TOKEN, "the magic")
    if magic != b"nix-archive-1":
        raise NarError(f"this is no Nix archive: it begins with {magic!r}", position=0)
    path: tuple[str, ...] = ()
    last_names: list[bytes] = []
    while True:
        # At a node.
        tokens.expect(b"(", b"type")
        kind = tokens.token()
        opened = False
        if kind == b"regular":
            yield from _regular(tokens, path)
        elif kind == b"symlink":
            tokens.expect(b"target")
            target = tokens.string(_MAX_TARGET, "a link's target")
            if not target or b"\0" in target:
                raise NarError(f"the link {_show(path)} has the target {target!r}", position=tokens.position)
            yield SymlinkEntry(path, os.fsdecode(target))
            tokens.expect(b")")
        elif kind == b"directory":
            if len(path) >= _MAX_DEPTH:
                raise NarError(f"folders are nested more than {_MAX_DEPTH} deep", position=tokens.position)
            yield DirectoryEntry(path)
            last_names.append(b"")
            opened = True
        else:
            raise NarError(f"unknown type {kind!r} of {_show(path)}", position=tokens.position)
        # Behind a node: close what is complete, until an entry begins or the archive ends.
        while True:
            if not opened:
                if not last_names:
                    if not trailing and stream.read(1):
                        raise NarError("there is something behind the archive", position=tokens.position)
                    return
                tokens.expect(b")")  # the entry around the node
                path = path[:-1]
            opened = False
            word = tokens.token()
            if word == b"entry":
                name = _entry_name(tokens, last_names[-1], path)
                last_names[-1] = name
                path = (*path, os.fsdecode(name))
                break
            if word != b")":
                raise NarError(f"expected an entry or ')', found {word!r}", position=tokens.position)
            yield EndDirectory(path)
            last_names.pop()


def _regular(tokens: _Tokens, path: tuple[str, ...]) -> Iterator[Entry]:
    word = tokens.token()
    executable = word == b"executable"
    if executable:
        tokens.expect(b"")
        word = tokens.token()
    # Nix 2.8 reads a file without contents as empty, newer ones refuse it; none writes one.
    if word != b"contents":
        raise NarError(f"expected 'contents', found {word!r}", position=tokens.position)
    size = tokens.size()
    entry = RegularEntry(path, executable, size, tokens.position, _chunks(tokens, size))
    yield entry
    for _ in entry.chunks:
        pass
    tokens.pad(size)
    tokens.expect(b")")


def _chunks(tokens: _Tokens, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = tokens.take(min(left, CHUNK))
        left -= len(chunk)
        yield chunk


def _entry_name(tokens: _Tokens, last: bytes, path: tuple[str, ...]) -> bytes:
    tokens.expect(b"(", b"name")
    name = tokens.string(_MAX_NAME, "a file name")
    if not is_name(name):
        raise NarError(f"{name!r} in {_show(path)} is no file name", position=tokens.position)
    if name <= last:
        fault = "twice" if name == last else f"behind {last!r}, out of order"
        raise NarError(f"{name!r} stands in {_show(path)} {fault}", position=tokens.position)
    tokens.expect(b"node")
    return name


def _show(path: tuple[str, ...]) -> str:
    return "/" + "/".join(path)


def unpack(stream: Readable, target: str | Path, *, trailing: bool = False) -> None:
    """Lay the archive's tree at `target`, which must not exist.

    Nothing is written outside `target`, whatever the archive says: names are checked before use
    and every file is made anew, never opened through a link.

    Raises
    ------
    NarError
        If the archive is damaged; what was laid down before that is left to the caller.
    OSError
        If `target` can not be written.
    """
    base = os.fspath(target)
    for entry in read(stream, trailing=trailing):
        place = os.path.join(base, *entry.path)
        match entry:
            case RegularEntry():
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(place, flags, 0o777 if entry.executable else 0o666), "wb") as file:
                    for chunk in entry.chunks:
                        file.write(chunk)
            case SymlinkEntry(target=link):
                os.symlink(link, place)
            case DirectoryEntry():
                os.mkdir(place)
            case EndDirectory():
                pass
