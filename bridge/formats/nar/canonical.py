"""Making a tree canonical while it is archived.

    files       0444, or 0555 if the owner may execute them; one name each
    folders     0555
    all         modified at 1, one second after the epoch

Source: Nix manual, "File System Object"; NixOS/nix `canonicalisePathMetaData`.
"""

from __future__ import annotations

import os
import shutil
import stat

from bridge.formats.errors import NarError

__all__ = ["CANONICAL_TIME", "Canonical"]

CANONICAL_TIME = (0, 10**9)
"""Access and modification in nanoseconds."""


class Canonical:
    """A `Visit` that makes each object canonical once it was read.

    The top folder stays writable until it was moved: renaming one changes its `..`.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.files: list[bytes] = []
        """The paths of the files that were visited."""

    def __call__(self, path: str, status: os.stat_result, handle: str | int) -> None:
        mode = status.st_mode
        if stat.S_ISREG(mode):
            if os.stat(handle).st_mtime_ns != status.st_mtime_ns:
                raise changed(path)
            if status.st_nlink > 1:
                _unlink_hard(path)
                handle = path
            wanted = 0o555 if mode & stat.S_IXUSR else 0o444
            self.files.append(os.fsencode(path))
        elif stat.S_ISLNK(mode):
            os.utime(path, ns=CANONICAL_TIME, follow_symlinks=False)
            return
        else:
            wanted = 0o755 if path == self._root else 0o555
        if stat.S_IMODE(mode) != wanted:
            os.chmod(handle, wanted)
        os.utime(handle, ns=CANONICAL_TIME)


def changed(path: str) -> NarError:
    """That a file is not what it was when its reading began: something that was left running writes to it."""
    return NarError(f"{path} changed while it was read")


def _unlink_hard(path: str) -> None:
    """Give a file that has other names a copy of its own: they stay as they are."""
    # A name of its own: `path` with something behind it may be longer than a name can be.
    copy = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}")
    shutil.copyfile(path, copy)
    shutil.copymode(path, copy)
    os.replace(copy, path)
