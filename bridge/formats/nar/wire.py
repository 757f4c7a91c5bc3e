"""The tokens of a NAR: strings with their length before and zeros behind."""

from __future__ import annotations

import struct

__all__ = ["padding", "string"]

_length = struct.Struct("<Q").pack
_ZEROS = tuple(bytes(size) for size in range(8))


def padding(size: int) -> bytes:
    """The zeros that follow `size` bytes."""
    return _ZEROS[-size % 8]


def string(data: bytes) -> bytes:
    """One string of the archive."""
    return _length(len(data)) + data + _ZEROS[-len(data) % 8]


def size_field(size: int) -> bytes:
    """The length before a string."""
    return _length(size)


def is_name(name: bytes) -> bool:
    """Whether an entry of a directory may be called this."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


MAGIC = string(b"nix-archive-1")
OPEN = string(b"(") + string(b"type")
CLOSE = string(b")")
REGULAR = OPEN + string(b"regular")
EXECUTABLE = string(b"executable") + string(b"")
CONTENTS = string(b"contents")
SYMLINK = OPEN + string(b"symlink") + string(b"target")
DIRECTORY = OPEN + string(b"directory")
ENTRY = string(b"entry") + string(b"(") + string(b"name")
NODE = string(b"node")
FILE_HEAD = REGULAR + CONTENTS
EXECUTABLE_HEAD = REGULAR + EXECUTABLE + CONTENTS
