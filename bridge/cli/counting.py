"""How far something is, on a terminal: from the first second on, and gone in the end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["Count", "counting"]

Count = Callable[[int, int], None]
"""Takes how much is done, and how much there is in all; 0 where nobody knows."""

_FIRST = 1.0
_BETWEEN = 0.1


@contextlib.contextmanager
def counting(what: str, shown: Callable[[int], str] = str, *, quiet: bool = False) -> Iterator[Count]:
    """A function that shows `what` with two numbers: how much of it is done, and how much there is.

    Parameters
    ----------
    shown
        How a number is written.
    quiet
        Whether nothing is shown, as with `--json`.
    """
    silent = quiet or sys.stderr is None or not sys.stderr.isatty()
    due = time.monotonic() + _FIRST
    said = False

    def count(done: int, total: int) -> None:
        nonlocal due, said
        if silent or time.monotonic() < due:
            return
        due, said = time.monotonic() + _BETWEEN, True
        of = f" of {shown(total)}" if total else ""
        print(f"\r\x1b[K{what} {shown(done)}{of}", end="", file=sys.stderr, flush=True)

    try:
        yield count
    finally:
        if said:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
