"""A tree of file system objects in memory, for what is made and not read from a disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import wire

__all__ = ["Directory", "Node", "Regular", "Symlink", "dump"]


@dataclass(frozen=True, slots=True)
class Regular:
    """A file: its contents and whether it may be executed."""

    contents: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link to `target`, which need not exist."""

    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory: its entries by name."""

    entries: Mapping[str, Node] = field(default_factory=dict)


Node = Regular | Symlink | Directory


def dump(node: Node, write: Callable[[bytes], object]) -> None:
    """Write the archive of `node`."""
    write(wire.MAGIC)
    _dump(node, write)


def _dump(node: Node, write: Callable[[bytes], object]) -> None:
    match node:
        case Regular(contents, executable):
            write(wire.EXECUTABLE_HEAD if executable else wire.FILE_HEAD)
            write(wire.string(contents))
        case Symlink(target):
            write(wire.SYMLINK + wire.string(os.fsencode(target)))
        case Directory(entries):
            write(wire.DIRECTORY)
            for name, child in sorted((os.fsencode(name), child) for name, child in entries.items()):
                write(wire.ENTRY + wire.string(name) + wire.NODE)
                _dump(child, write)
                write(wire.CLOSE)
    write(wire.CLOSE)
