"""Git object ids of files and folders on a disk: what Nix hashes with the method `git`.

    id         hash("blob <size>\\0" contents) of a file; of a link the same of its target
               hash("tree <size>\\0" entries) of a folder
    entry      mode " " name "\\0" digest
    mode       100644 file, 100755 executable (by its owner), 120000 link, 40000 folder
    entries    sorted by their names' bytes, a folder's with "/" behind

As in Nix, everything in a folder counts, where git itself would leave out empty folders, `.git` and what
`.gitignore` names. Whether a file is executable shows in its entry only, so not in its own id.

Source: Nix manual, "Content-Addressing File System Objects", "Git"; NixOS/nix `git.cc`; "Git Internals -
Git Objects" of the Git book; git's `hash-function-transition`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from .errors import FormatError, HashError
from .hashes import Hash
from .nar.writer import CHUNK

__all__ = ["ALGORITHMS", "check_algorithm", "object_id"]

ALGORITHMS = ("sha1", "sha256")
"""The algorithms that git has; for its store, Nix 2.26 takes sha1 only, Nix 2.34 both."""

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = b"100644"
_EXECUTABLE = b"100755"
_LINK = b"120000"
_FOLDER = b"40000"


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that is being walked: what is left of it, and its entries by what they sort by."""

    name: bytes
    left: list[os.DirEntry[str]]
    entries: dict[bytes, bytes] = field(default_factory=dict)


def check_algorithm(algorithm: str) -> str:
    """Return `algorithm` if git has it.

    Raises
    ------
    HashError
        If it has not.
    """
    if algorithm not in ALGORITHMS:
        raise HashError(f"the method git goes with {' or '.join(ALGORITHMS)} only, not {algorithm}")
    return algorithm


def object_id(path: str | Path, algorithm: str = "sha1") -> Hash:
    """The id of the blob or tree that git would make of `path`.

    A file is read in pieces; of a folder, the entries are held in memory until it is complete.

    Raises
    ------
    HashError
        For an algorithm that git has not.
    FormatError
        For an object that git can not hold (socket, device, pipe), or a file that changes while it
        is read.
    OSError
        When something can not be read.
    """
    check_algorithm(algorithm)
    root = os.fspath(path)
    mode = os.lstat(root).st_mode
    if not stat.S_ISDIR(mode):
        return Hash(algorithm, _leaf(root, mode, algorithm)[1])
    # An explicit stack: trees may be deeper than Python's recursion limit.
    stack = [_opened(b"", root)]
    while True:
        folder = stack[-1]
        while folder.left:
            entry = folder.left.pop()
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                stack.append(_opened(name, entry.path))
                break
            kind, digest = _leaf(entry.path, entry.stat(follow_symlinks=False).st_mode, algorithm)
            folder.entries[name] = _entry(kind, name, digest)
        else:
            stack.pop()
            digest = _digest(b"tree", b"".join(line for _, line in sorted(folder.entries.items())), algorithm)
            if not stack:
                return Hash(algorithm, digest)
            stack[-1].entries[folder.name + b"/"] = _entry(_FOLDER, folder.name, digest)


def _opened(name: bytes, path: str) -> _Folder:
    with os.scandir(path) as found:
        return _Folder(name, list(found))


def _entry(mode: bytes, name: bytes, digest: bytes) -> bytes:
    return b"%b %b\0%b" % (mode, name, digest)


def _digest(kind: bytes, data: bytes, algorithm: str) -> bytes:
    return hashlib.new(algorithm, b"%b %d\0%b" % (kind, len(data), data)).digest()


def _leaf(path: str, mode: int, algorithm: str) -> tuple[bytes, bytes]:
    """The mode in the tree and the digest of a file or a link."""
    if stat.S_ISLNK(mode):
        return _LINK, _digest(b"blob", os.fsencode(os.readlink(path)), algorithm)
    if not stat.S_ISREG(mode):
        raise FormatError(f"{path} is neither file, folder nor link; git holds nothing else")
    descriptor = os.open(path, _OPEN)
    try:
        status = os.fstat(descriptor)
        hashed = hashlib.new(algorithm, b"blob %d\0" % status.st_size)
        left = status.st_size
        while left >= 0 and (chunk := os.read(descriptor, CHUNK)):
            left -= len(chunk)
            hashed.update(chunk)
    finally:
        os.close(descriptor)
    if left:
        raise FormatError(f"{path} changed its size while it was read")
    return _EXECUTABLE if status.st_mode & stat.S_IXUSR else _FILE, hashed.digest()
