"""The files of a folder, archived many at a time by the extension: in several threads where they are very many."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

from .canonical import Canonical, changed

try:
    from bridge.formats import _native
except ImportError:  # there was no compiler: `writer` does the same in Python
    _native = None  # type: ignore[assignment]

__all__ = ["AT_ONCE", "Buffer", "Files"]

AT_ONCE = 256
"""How many files are given to `Files.archive`, at most."""

_PART = 20
"""How many of them are archived in one call where two threads share them: the work of a tenth of a millisecond."""

_MANY = 3 * _PART
"""From how many on they do."""

_Files = Sequence[os.DirEntry[bytes]]
_View = bytes | memoryview
_Part = tuple[_Files, int, memoryview]
"""Files, how many of the first of them were archived, and their archive."""


class Buffer:
    """The next piece of an archive, in memory that is used again and again: new memory costs as much as the reading.

    Parameters
    ----------
    size
        From how many bytes on it is full. As many more fit behind them, with the tokens of an entry.
    """

    __slots__ = ("_memory", "size", "used")
    _TOKENS = 8192

    def __init__(self, size: int) -> None:
        self._memory = memoryview(bytearray(2 * size + self._TOKENS))
        self.size = size
        self.used = 0

    @property
    def is_full(self) -> bool:
        return self.used >= self.size

    @property
    def free(self) -> memoryview:
        """What is not used yet."""
        return self._memory[self.used :]

    def add(self, data: bytes) -> None:
        end = self.used + len(data)
        self._memory[self.used : end] = data
        self.used = end

    def take(self) -> memoryview:
        """What was added: there until something is added again."""
        taken, self.used = self.used, 0
        return self._memory[:taken]


class Files:
    """Archives files, and makes them canonical where that is asked for."""

    def __init__(self, buffer: Buffer, canonical: Canonical | None) -> None:
        self._buffer = buffer
        self._canonical = canonical
        self._helper: _Helper | None = None

    def archive(
        self, folder: int, files: _Files, other: Callable[[os.DirEntry[bytes]], Iterator[_View]]
    ) -> Iterator[_View]:
        """Add files that follow each other in a folder to the buffer; gives pieces as it fills.

        Parameters
        ----------
        folder
            Its descriptor.
        other
            Adds a file that is large or has more than one name.

        Raises
        ------
        NarError
            For a file that changes while it is read.
        OSError
            When one can not be read.
        """
        if len(files) < _MANY:
            yield from self._archive(folder, files, other)
            return
        if self._helper is None:
            self._helper = _Helper(self._buffer.size, canonical=self._canonical is not None)
        parts = deque(files[start : start + _PART] for start in range(0, len(files), _PART))
        self._helper.start(folder, parts)
        while (part := _popped(parts.popleft)) is not None:
            yield from self._archive(folder, part, other)
        for part, count, view in self._helper.finish():
            if count:
                self._note(part[:count])
                yield self._buffer.take()
                yield view
            yield from self._archive(folder, part[count:], other)

    def _archive(
        self, folder: int, files: _Files, other: Callable[[os.DirEntry[bytes]], Iterator[_View]]
    ) -> Iterator[_View]:
        while files:
            count, used = _read(folder, files, self._buffer.free, canonical=self._canonical is not None)
            self._note(files[:count])
            self._buffer.used += used
            if not count:
                yield from other(files[0])
            if self._buffer.is_full:
                yield self._buffer.take()
            files = files[count or 1 :]

    def _note(self, files: _Files) -> None:
        if self._canonical is not None:
            self._canonical.files += [entry.path for entry in files]

    def close(self) -> None:
        """End the thread: whoever closes a folder before could see its descriptor used for another one."""
        if self._helper is not None:
            self._helper.close()


class _Helper:
    """A thread that archives parts of a folder's files from the last one on, while another does from the first one."""

    def __init__(self, size: int, *, canonical: bool) -> None:
        self._room = memoryview(bytearray(size))
        self._canonical = canonical
        self._tasks = SimpleQueue[tuple[int, deque[_Files]] | None]()
        self._results = SimpleQueue[list[_Part] | Exception]()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def start(self, folder: int, parts: deque[_Files]) -> None:
        """Take from the end of `parts` until none is left."""
        self._tasks.put((folder, parts))

    def finish(self) -> list[_Part]:
        """The parts that were taken, in the order of the folder."""
        found = self._results.get()
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._results.put(self._take(*task))
            except Exception as error:
                self._results.put(error)

    def _take(self, folder: int, parts: deque[_Files]) -> list[_Part]:
        taken: list[_Part] = []
        free = self._room
        while (part := _popped(parts.pop)) is not None:
            count, used = _read(folder, part, free, canonical=self._canonical)
            taken.append((part, count, free[:used]))
            free = free[used:]
        return taken[::-1]


def _popped(pop: Callable[[], _Files]) -> _Files | None:
    """What is left at an end, or None: to ask before would be too early, since the other thread takes some too."""
    try:
        return pop()
    except IndexError:
        return None


def _read(folder: int, files: _Files, room: memoryview, *, canonical: bool) -> tuple[int, int]:
    """Archive files as far as `room` goes, up to one that is large or has more names: how many, in how many bytes."""
    names = b"".join([entry.name + b"\0" for entry in files])
    try:
        count, used, why = _native.archive_files(folder, names, room, canonical)
    except OSError as error:
        above = os.path.dirname(os.fsdecode(files[0].path))
        raise OSError(error.errno, error.strerror, os.path.join(above, error.filename)) from error
    if why == _native.CHANGED:
        raise changed(os.fsdecode(files[count].path))
    return count, used
