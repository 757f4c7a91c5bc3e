"""Compression around a pack: xz, and zstd where Python has it: from 3.14 on, or by the extra `zstd`."""

from __future__ import annotations

import contextlib
import lzma
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, Protocol, get_args

from .errors import PackError
from .tar import Stream

__all__ = ["Compression", "compressor", "decompressed"]

Compression = Literal["none", "xz", "zstd"]

_CHUNK = 1 << 20
_MEMORY = 1 << 28
"""Bytes that a frame may make the decompressor hold: more than the highest level of xz."""

_MAGIC: dict[bytes, Compression] = {b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LONGEST_MAGIC = max(map(len, _MAGIC))


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return import_module(name)
    raise PackError("this Python has no zstd", hint="pip install 'nixbridge[zstd]', or use xz")


def compressor(kind: str) -> _Compressor | None:
    """What compresses; None for no compression.

    Raises
    ------
    PackError
        For a kind that there is not.
    """
    match kind:
        case "none":
            return None
        case "xz":
            return lzma.LZMACompressor()
        case "zstd":
            found: _Compressor = _zstd().ZstdCompressor()
            return found
    raise PackError(f"there is no compression {kind!r}", hint=f"one of {', '.join(get_args(Compression))}")


def decompressed(stream: Stream) -> tuple[Stream, bool]:
    """The contents of a stream, whatever it is compressed by, and whether it was."""
    begin = b""
    while len(begin) < _LONGEST_MAGIC and (data := stream.read(_LONGEST_MAGIC - len(begin))):
        begin += data
    kind = next((kind for magic, kind in _MAGIC.items() if begin.startswith(magic)), None)
    if kind == "xz":
        return _Decompressed(begin, stream, lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY), lzma.LZMAError), True
    if kind == "zstd":
        zstd = _zstd()
        limit = {zstd.DecompressionParameter.window_log_max: _MEMORY.bit_length() - 1}
        return _Decompressed(begin, stream, zstd.ZstdDecompressor(options=limit), zstd.ZstdError), True
    return _Prefixed(begin, stream), False


class _Prefixed:
    """A stream with what was read of it put back."""

    def __init__(self, begin: bytes, stream: Stream) -> None:
        self._begin = begin
        self._read: Callable[[int], bytes] = stream.read

    def read(self, size: int, /) -> bytes:
        if not self._begin:
            return self._read(size)
        data, self._begin = self._begin[:size], self._begin[size:]
        return data


class _Decompressed:
    """One frame, with nothing behind it."""

    def __init__(self, begin: bytes, stream: Stream, decompressor: Any, fault: type[Exception]) -> None:
        self._begin = begin
        self._stream = stream
        self._decompressor = decompressor
        self._fault = fault

    def read(self, size: int, /) -> bytes:
        while not self._decompressor.eof:
            data, self._begin = self._begin, b""
            if not data and self._decompressor.needs_input:
                data = self._stream.read(_CHUNK)
                if not data:
                    raise PackError("its compression is cut short")
            try:
                found: bytes = self._decompressor.decompress(data, size)
            except (self._fault, MemoryError) as error:
                raise PackError(f"its compression is damaged: {error}") from None
            if found:
                return found
        if self._decompressor.unused_data or self._stream.read(1):
            raise PackError("there is something behind its end")
        return b""
