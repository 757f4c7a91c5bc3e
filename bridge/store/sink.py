"""Hashing while others read and write."""

from __future__ import annotations

import hashlib
import threading
from queue import SimpleQueue

from bridge.formats.hashes import Hash
from bridge.formats.nar.writer import CHUNK

from .references import Scanner

__all__ = ["Sink"]


class Sink:
    """Hashes a NAR and looks for references; a large one is hashed in a thread of its own."""

    _THREAD_ABOVE = 8 * CHUNK
    _SLOTS = 4

    def __init__(self, scanner: Scanner) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._scanner = scanner
        self._thread: threading.Thread | None = None
        # Slots go round, each after what is in it was hashed: new memory costs more than the copying.
        self._full = SimpleQueue[tuple[bytes | memoryview, memoryview] | None]()
        self._free = SimpleQueue[memoryview]()
        self._filled = 0

    def write(self, chunk: bytes | memoryview) -> None:
        """Take in more; memory may change once this returns."""
        self.size += len(chunk)
        self._scanner.feed(chunk)
        if self._thread is None and self.size <= self._THREAD_ABOVE:
            self._hash.update(chunk)
            return
        if self._thread is None:
            for _ in range(self._SLOTS):
                self._free.put(memoryview(bytearray(CHUNK)))
            self._slot = self._free.get()
            self._thread = threading.Thread(target=self._drain, daemon=True)
            self._thread.start()
        if isinstance(chunk, bytes) and len(chunk) >= CHUNK:
            # It does not change: no copy is needed.
            self._pass_on()
            self._full.put((chunk, self._free.get()))
            return
        rest = memoryview(chunk)
        while rest:
            end = min(self._filled + len(rest), CHUNK)
            taken = end - self._filled
            self._slot[self._filled : end] = rest[:taken]
            rest = rest[taken:]
            self._filled = end
            if end == CHUNK:
                self._pass_on()

    def _pass_on(self) -> None:
        """Have what was copied hashed."""
        if self._filled:
            self._full.put((self._slot[: self._filled], self._slot))
            self._slot = self._free.get()
            self._filled = 0

    def _drain(self) -> None:
        while (task := self._full.get()) is not None:
            chunk, slot = task
            self._hash.update(chunk)
            self._free.put(slot)

    def finish(self) -> Hash:
        if self._thread is not None:
            self._pass_on()
            self._full.put(None)
            self._thread.join()
        return Hash("sha256", self._hash.digest())
