"""A tree of file system objects in memory, for what is made and not read from a disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from bridge.formats.errors import NarError

from . import wire
from .wire import is_name

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
    """Write the archive of `node`.

    Raises
    ------
    NarError
        For a name or a link's target that no file system has.
    """
    write(wire.MAGIC)
    # An explicit stack, of what is left of each open directory: trees may be deeper than Python's
    # recursion limit.
    stack: list[Iterator[tuple[bytes, Node]]] = []
    while True:
        match node:
            case Regular(contents, executable):
                write(wire.EXECUTABLE_HEAD if executable else wire.FILE_HEAD)
                write(wire.string(contents) + wire.CLOSE)
            case Symlink(target):
                write(wire.SYMLINK + wire.string(_checked_target(os.fsencode(target))) + wire.CLOSE)
            case Directory(entries):
                write(wire.DIRECTORY)
                named = [(_checked_name(os.fsencode(name)), child) for name, child in entries.items()]
                stack.append(iter(sorted(named, key=lambda entry: entry[0])))
        if not isinstance(node, Directory):
            if not stack:
                return
            write(wire.CLOSE)  # the entry around the node
        while (found := next(stack[-1], None)) is None:
            stack.pop()
            write(wire.CLOSE)
            if not stack:
                return
            write(wire.CLOSE)
        name, node = found
        write(wire.ENTRY + wire.string(name) + wire.NODE)


def _checked_name(name: bytes) -> bytes:
    if not is_name(name):
        raise NarError(f"{name!r} is no file name")
    return name


def _checked_target(target: bytes) -> bytes:
    if not target or b"\0" in target:
        raise NarError(f"{target!r} is no target of a link")
    return target
