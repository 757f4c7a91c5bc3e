"""SQLite files that keep what has been found out about a store: none is truth, so that all can be done without."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from .layout import Store

__all__ = ["cache_file", "with_cache", "write"]

_BUSY = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)
"""What SQLite says of a file that there is nothing wrong with; anything else is damage."""

T = TypeVar("T")


def cache_file(store: Store, name: str) -> str:
    """Where what is known of a store is kept."""
    return f"{store.root}/cache/{name}.sqlite"


def with_cache(file: str, schema: Sequence[str], ask: Callable[[sqlite3.Connection], T]) -> T:
    """What `ask` gives with the cache in a file, made again if it is damaged; or with an empty one in memory.

    Parameters
    ----------
    schema
        Statements that make what is not there yet.
    ask
        Raises ValueError or TypeError, or what SQLite raises, for a cache that is damaged.
    """
    for _ in range(2):
        try:
            with contextlib.closing(_connected(file, schema)) as cache:
                return ask(cache)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
                break
        except (ValueError, TypeError):
            pass
        except OSError:
            break
        _forget(file)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as cache:
        for statement in schema:
            cache.execute(statement)
        return ask(cache)


def _connected(file: str, schema: Sequence[str]) -> sqlite3.Connection:
    folder = os.path.dirname(file)
    if not os.path.isdir(folder):
        os.mkdir(folder)
    cache = sqlite3.connect(file, isolation_level=None)
    try:
        for statement in schema:
            cache.execute(statement)
    except BaseException:
        cache.close()
        raise
    return cache


def _forget(file: str) -> None:
    # The journal of one file would be played back into another.
    for one in (f"{file}-journal", file):
        with contextlib.suppress(OSError):
            os.unlink(one)


def write(cache: sqlite3.Connection, *steps: tuple[str, Iterable[tuple[Any, ...]]]) -> None:
    """Run statements, each with all its rows, or none; where it can not be written, the next one finds it out again."""
    with contextlib.suppress(sqlite3.OperationalError):
        cache.execute("BEGIN IMMEDIATE")
        with cache:
            for statement, rows in steps:
                cache.executemany(statement, rows)
