"""The frame of a pack: a tar of plain files with nothing in it that could differ.

tar       { header contents zeros to a multiple of 512 } 1024 zeros
header    GNU's, with mode 0444, mtime 1, no owner; the size above 8 GiB in base 256
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.formats.store_path import hash_part

from .errors import PackError

__all__ = ["END", "Member", "Reader", "header", "nar_name", "padding"]

_BLOCK = 512
_CHUNK = 1 << 20
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
}

END = bytes(2 * _BLOCK)


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def header(name: str, size: int) -> bytes:
    """The header of a plain file."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o444, 1
    return member.tobuf(tarfile.GNU_FORMAT)


def nar_name(path: str) -> str:
    """The member that an object's archive is."""
    return f"nar/{hash_part(path)}.nar"


def padding(size: int) -> bytes:
    """The zeros behind contents of this size."""
    return bytes(-size % _BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    size: int


class Reader:
    """Members one after the other; `read` gives the contents of the one that came last.

    Parameters
    ----------
    skip
        Moves the stream on without reading it, where that can be done.
    """

    def __init__(self, stream: Stream, skip: Callable[[int], object] | None = None) -> None:
        self._stream = stream
        self._skip = skip
        self._left = 0
        self._name: str | None = None
        self._padding = b""
        self.position = 0

    def next(self) -> Member | None:
        """The next member, or None behind the last; what was not read of the one before is passed over.

        Raises
        ------
        PackError
            For what is not the header of a plain file, as `header` makes it; for a pack that ends too early, and
            for anything behind its end.
        """
        self._pass_over()
        block = self._take(_BLOCK)
        if not any(block):
            if any(self._take(_BLOCK)) or self._stream.read(1):
                raise PackError("there is something behind its end")
            return None
        try:
            found = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
            if self.position == _BLOCK:
                hint = "nixbridge pack writes one; of a binary cache or an archive, nix copy and nixbridge nar unpack"
                raise PackError(f"its beginning is no member of a tar: {error}", hint=hint) from None
            raise PackError(f"at byte {self.position - _BLOCK} there is no member of a tar: {error}") from None
        name = found.name
        if found.type != tarfile.REGTYPE:
            raise PackError(f"it is {_KINDS.get(found.type, 'no plain file')}", member=repr(name))
        if found.size < 0:
            raise PackError(f"it has {found.size} bytes", member=repr(name))
        if block != header(name, found.size):
            raise PackError(
                f"its header is not that of a pack (mode {found.mode:o}, time {found.mtime}, owner {found.uid})",
                member=repr(name),
            )
        self._name, self._left, self._padding = name, found.size, padding(found.size)
        return Member(name, found.size)

    def read(self, size: int, /) -> bytes:
        """At most so much of the member's contents; nothing at its end."""
        if not self._left:
            return b""
        data = self._stream.read(min(size, self._left))
        if not data:
            raise self._cut_short()
        self.position += len(data)
        self._left -= len(data)
        return data

    def _take(self, size: int) -> bytes:
        parts = []
        while size:
            data = self._stream.read(size)
            if not data:
                raise self._cut_short()
            self.position += len(data)
            size -= len(data)
            parts.append(data)
        return b"".join(parts)

    def _pass_over(self) -> None:
        if self._skip is not None and self._left > _CHUNK:
            # The last byte is read, so that a pack that is cut short is seen.
            self._skip(self._left - 1)
            self.position += self._left - 1
            self._left = 1
        while self.read(_CHUNK):
            pass
        if any(self._take(len(self._padding))):
            raise PackError("there is something where zeros must be", member=self._name)
        self._padding = b""

    def _cut_short(self) -> PackError:
        return PackError(
            f"it is cut short at byte {self.position}", hint="get the rest of it and run the same command again"
        )
