"""What is being realized just now, and what ended badly: read from the store, without taking part.

    locks/<resolved .drv>.lock     there while a process realizes it, with who that is: a pid, a host
    logs/<resolved .drv>-…         one for each run; that of a run that came to nothing has no record

A lock is not tried, which whoever wants it would notice; a killed process leaves its file, so the process is looked
for. Of one on another machine nobody here knows more than its file says.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import Collection, Hashable, Iterator
from pathlib import Path

from bridge.formats.store_path import STORE_DIR, base_name
from bridge.store.layout import Store
from bridge.store.locks import Holder, holder

__all__ = ["last_logs", "logged", "logs_of", "running", "stamp", "tail"]

_LOCK = ".drv.lock"
_LOG = re.compile(r"(?P<drv>[^/]+\.drv)-[0-9a-f]+")
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def running(store: Store) -> dict[str, Holder]:
    """The resolved derivations that processes realize, with who does."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(store.locks) as files:
        for file in files:
            if file.name.endswith(_LOCK):
                name = file.name.removesuffix(".lock")
                by = holder(store, name)
                if by is not None and _lives(by):
                    found[f"{STORE_DIR}/{name}"] = by
    return found


def _lives(one: Holder) -> bool:
    return one.host != socket.gethostname() or os.path.exists(f"/proc/{one.pid}")


def stamp(store: Store) -> Hashable:
    """What is another value whenever there are other realizations or notes, or others are being made."""
    found: list[tuple[str, int]] = []
    with contextlib.suppress(FileNotFoundError):
        found.append(("notes", os.stat(f"{store.root}/notes").st_ctime_ns))
    for layer in store.layers:
        with contextlib.suppress(FileNotFoundError), os.scandir(layer.trace) as folders:
            for one in folders:
                with contextlib.suppress(FileNotFoundError):
                    found.append((one.name, one.stat().st_ctime_ns))
    return hash(frozenset(found)), frozenset((drv, by.pid, by.since) for drv, by in running(store).items())


def logs_of(store: Store, drv: str) -> list[Path]:
    """The logs of a resolved derivation's runs, the newest first."""
    found = [(time, file) for _, file, time in _logs(store, {base_name(drv)})]
    return [file for _, file in sorted(found, reverse=True)]


def logged(store: Store) -> set[str]:
    """The resolved derivations of which there are logs."""
    with contextlib.suppress(FileNotFoundError):
        names = map(_LOG.fullmatch, os.listdir(store.logs))
        return {f"{STORE_DIR}/{found['drv']}" for found in names if found is not None}
    return set()


def last_logs(store: Store, drvs: Collection[str]) -> dict[str, float]:
    """When the last run of each of these resolved derivations wrote its log, in seconds since the epoch."""
    last: dict[str, float] = {}
    for name, _, time in _logs(store, set(map(base_name, drvs))) if drvs else ():
        path = f"{STORE_DIR}/{name}"
        last[path] = max(time, last.get(path, 0.0))
    return last


def _logs(store: Store, wanted: Collection[str]) -> Iterator[tuple[str, Path, float]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(store.logs) as files:
        for file in files:
            found = _LOG.fullmatch(file.name)
            if found is not None and found["drv"] in wanted:
                with contextlib.suppress(FileNotFoundError):
                    yield found["drv"], Path(file.path), file.stat().st_mtime


def tail(file: Path, most: int) -> tuple[str, int]:
    """The last `most` bytes of a log, as a text without what is for terminals; and how many bytes there are before."""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        status = os.fstat(opened.fileno())
        if stat.S_ISREG(status.st_mode):
            cut = max(0, status.st_size - most)
            opened.seek(cut)
            return _TERMINAL.sub("", opened.read(most).decode(errors="replace")), cut
    return "", 0
