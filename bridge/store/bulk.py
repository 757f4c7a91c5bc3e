"""Reading a hundred thousand small JSON files: together, since each alone takes longer to begin than to do.

What is read together is as good as what is read alone, or it is refused: whoever asks looks at each alone then, and
says what is wrong.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from bridge.formats import nix32
from bridge.formats.store_path import DIGEST_LENGTH, MAX_NAME_LENGTH, STORE_DIR

__all__ = ["AT_ONCE", "are_store_paths", "batches", "contents", "parsed_together", "read_all"]

AT_ONCE = 1000
"""Files that are parsed together: one long text is read faster than many, but takes more room."""

_CHUNK = 1 << 16
_BETWEEN = json.dumps(secrets.token_hex(16))
"""Stands between two texts that are parsed together; no file has it, or knows it."""

# A name that begins with a dot is for the one who knows which of them Nix allows.
_PATHS = re.compile(
    rf"(?:{STORE_DIR}/[{nix32.ALPHABET}]{{{DIGEST_LENGTH}}}-(?!\.)[0-9a-zA-Z+\-._?=]{{1,{MAX_NAME_LENGTH}}}\n)*"
)

T = TypeVar("T")


def contents(name: str, folder: int) -> bytes:
    """What is in a file below an open folder.

    Raises
    ------
    OSError
    """
    # Opening a hundred thousand files by `open` takes twice as long.
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return read_all(descriptor)
    finally:
        os.close(descriptor)


def read_all(descriptor: int) -> bytes:
    """What is left in an open file, with one call where it is small."""
    data = os.read(descriptor, _CHUNK)
    while data and len(data) % _CHUNK == 0 and (more := os.read(descriptor, _CHUNK)):
        data += more
    return data


def batches(
    items: Iterable[T], count: int, on_progress: Callable[[int, int], object] = lambda done, count: None
) -> Iterator[list[T]]:
    """Some items after the other, with word of how many of `count` are done."""
    left, done = iter(items), 0
    while some := list(islice(left, AT_ONCE)):
        on_progress(done, count)
        yield some
        done += len(some)
    if done:
        on_progress(count, count)


def parsed_together(texts: Sequence[bytes]) -> list[Any]:
    """The JSON value of each text.

    Raises
    ------
    ValueError, RecursionError
        If one of them is none; which one it is, only parsing each alone tells.
    """
    if not texts:
        return []
    found: list[Any] = json.loads(b"[%s]" % f",{_BETWEEN},".encode().join(texts))
    between = json.loads(_BETWEEN)
    # What stands between is there once for each gap: if all of it is on the top, so is all else, a value for each text.
    if len(found) != 2 * len(texts) - 1 or any(one != between for one in found[1::2]):
        raise ValueError("a text is no value, or more than one")
    return found[::2]


def are_store_paths(paths: Iterable[str]) -> bool:
    """Whether all of them surely are store paths."""
    lines = [f"{path}\n" for path in paths]
    text = "".join(lines)
    # A text that holds several is none.
    return text.count("\n") == len(lines) and _PATHS.fullmatch(text) is not None
