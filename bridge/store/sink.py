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

    def __init__(self, scanner: Scanner) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._scanner = scanner
        self._queue: SimpleQueue[bytes | None] | None = None
        self._thread: threading.Thread | None = None
        self._slots = threading.Semaphore(8)

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._queue is None and self.size > self._THREAD_ABOVE:
            self._queue = SimpleQueue()
            self._thread = threading.Thread(target=self._drain, args=(self._queue,), daemon=True)
            self._thread.start()
        if self._queue is None:
            self._hash.update(chunk)
        else:
            self._slots.acquire()
            self._queue.put(chunk)
        self._scanner.feed(chunk)

    def _drain(self, queue: SimpleQueue[bytes | None]) -> None:
        while (chunk := queue.get()) is not None:
            self._hash.update(chunk)
            self._slots.release()

    def finish(self) -> Hash:
        if self._queue is not None and self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        return Hash("sha256", self._hash.digest())
