"""The primitives of the worker protocol.

    int      64 bits, little endian              bool    an int, 0 or 1
    string   int length, bytes, zeros to 8       path    a string; "" for none
    list     int count, items                    map     int count, key and value in turn
    frames   { int length, bytes } int 0         (no padding)

Source: NixOS/nix `src/libutil/serialise.cc`, `src/libstore/common-protocol.cc`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Protocol

from bridge.formats.nar.wire import string as packed

from .errors import NixConnectionError

__all__ = ["EMPTY", "FRAME", "Readable", "Reader", "boolean", "frames", "integer", "string", "strings"]

FRAME = 1 << 20
"""The largest frame that we send, in bytes: the daemon holds each in memory."""

EMPTY = 8
"""The size of the frame that ends an upload."""

_SMALL = 1 << 16
_PIECE = 1 << 20  # what is read at once: a length that lies takes no more memory than what comes
_MAX_STRING = 1 << 28
_MAX_COUNT = 1 << 26
_uint64 = struct.Struct("<Q")


class Readable(Protocol):
    """A stream of bytes; an empty answer is its end."""

    def read(self, size: int, /) -> bytes: ...


def integer(value: int) -> bytes:
    """A number on the wire."""
    return _uint64.pack(value)


def boolean(value: bool) -> bytes:
    """A truth value on the wire."""
    return _uint64.pack(1 if value else 0)


def string(value: str | bytes) -> bytes:
    """A string on the wire."""
    return packed(value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value)


def strings(values: Iterable[str]) -> bytes:
    """A list or a set of strings on the wire."""
    items = [string(value) for value in values]
    return integer(len(items)) + b"".join(items)


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """`chunks` cut and joined into frames, with the empty one that ends them."""
    pending = bytearray()
    for chunk in chunks:
        if len(pending) + len(chunk) <= _SMALL:
            pending += chunk
            continue
        pending += chunk
        view = memoryview(bytes(pending))
        pending = bytearray()
        for start in range(0, len(view), FRAME):
            part = view[start : start + FRAME]
            yield integer(len(part)) + part
    if pending:
        yield integer(len(pending)) + bytes(pending)
    yield integer(0)


class Reader:
    """Values from a stream of the protocol."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        """Exactly `size` bytes.

        Raises
        ------
        NixConnectionError
            If the stream ends before.
        """
        data = self._stream.read(min(size, _PIECE)) if size else b""
        if len(data) == size:
            return data
        parts = [data]
        left = size - len(data)
        while left:
            if not parts[-1]:
                raise NixConnectionError("Nix closed the connection")
            parts.append(self._stream.read(min(left, _PIECE)))
            left -= len(parts[-1])
        return b"".join(parts)

    def integer(self) -> int:
        value: int = _uint64.unpack(self.read(8))[0]
        return value

    def boolean(self) -> bool:
        return self.integer() != 0

    def data(self) -> bytes:
        size = self.integer()
        if size > _MAX_STRING:
            raise NixConnectionError(f"Nix announces a string of {size} bytes: this is not the worker protocol")
        data = self.read(size)
        if any(self.read(-size % 8)):
            raise NixConnectionError("the padding of a string is not zero: this is not the worker protocol")
        return data

    def string(self) -> str:
        return self.data().decode("utf-8", "surrogateescape")

    def count(self) -> int:
        count = self.integer()
        if count > _MAX_COUNT:
            raise NixConnectionError(f"Nix announces a list of {count} items: this is not the worker protocol")
        return count

    def strings(self) -> list[str]:
        return [self.string() for _ in range(self.count())]
