"""What an object in the store looks like to `stat`, and making it look so again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.formats.nar.canonical import CANONICAL_TIME

__all__ = ["make_canonical", "wrong_status"]


def wrong_status(status: os.stat_result) -> str | None:
    """What a file, a folder or a link has that no store object has."""
    mode = stat.S_IMODE(status.st_mode)
    allowed = {stat.S_IFLNK: (mode,), stat.S_IFDIR: (0o555,)}.get(stat.S_IFMT(status.st_mode), (0o444, 0o555))
    if mode not in allowed:
        return f"its mode is {mode:o}, which no store object has"
    if status.st_mtime_ns != CANONICAL_TIME[1]:
        return "its time was changed: all of a store object is of second 1"
    return None


def make_canonical(root: Path) -> None:
    """Give an object whose contents are right the modes and times that it should have."""
    for path in _within(root):
        status = os.lstat(path)
        if wrong_status(status) is None:
            continue
        if not stat.S_ISLNK(status.st_mode):
            executable = stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IXUSR
            os.chmod(path, 0o555 if executable else 0o444)
        os.utime(path, ns=CANONICAL_TIME, follow_symlinks=False)


def _within(root: Path) -> Iterator[str]:
    """The object's files, links and folders."""
    yield str(root)
    if root.is_symlink():
        return
    for folder, folders, files in os.walk(root):
        yield from (os.path.join(folder, name) for name in (*folders, *files))
