"""Reference scanning: which store paths' digests are in a stream of bytes.

As in Nix, a reference is the 32 digits of a store path anywhere in the object's NAR (manual, "Store
object", "References").
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.formats.nix32 import ALPHABET
from bridge.formats.store_path import DIGEST_LENGTH

__all__ = ["Scanner"]

_IS_DIGIT = bytes(1 if chr(byte) in ALPHABET else 0 for byte in range(256))
_RUN = bytes([1]) * DIGEST_LENGTH
_FEW = 3
"""Up to so many digests a search for each one is faster than looking for runs of digits."""


class Scanner:
    """Looks for digests in chunks that are fed to it, also across their borders."""

    def __init__(self, digests: Iterable[str]) -> None:
        self._wanted = {digest.encode() for digest in digests}
        self._tail = b""
        self.found: set[str] = set()

    def feed(self, chunk: bytes | memoryview) -> None:
        if not self._wanted:
            return
        chunk = bytes(chunk)
        if len(chunk) >= DIGEST_LENGTH:
            if self._tail:
                self._search(self._tail + chunk[: DIGEST_LENGTH - 1])
            self._search(chunk)
            self._tail = chunk[-(DIGEST_LENGTH - 1) :]
        else:
            data = self._tail + chunk
            self._search(data)
            self._tail = data[-(DIGEST_LENGTH - 1) :]

    def _search(self, data: bytes) -> None:
        if len(self._wanted) <= _FEW:
            hits = {digest for digest in self._wanted if digest in data}
        else:
            hits = self._wanted.intersection(_windows(data))
        self.found.update(digest.decode() for digest in hits)
        self._wanted -= hits


def _windows(data: bytes) -> Iterable[bytes]:
    """Every stretch of 32 digits in `data`."""
    digits = data.translate(_IS_DIGIT)
    at = digits.find(_RUN)
    while at >= 0:
        end = digits.find(0, at)
        end = len(digits) if end < 0 else end
        for start in range(at, end - DIGEST_LENGTH + 1):
            yield data[start : start + DIGEST_LENGTH]
        at = digits.find(_RUN, end)
