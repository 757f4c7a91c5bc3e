"""`nar pack|unpack|ls|cat`."""

from __future__ import annotations

import contextlib
import json as json_module
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from bridge.formats import nar
from bridge.formats.nar.listing import listing
from bridge.stages.errors import TargetError
from bridge.store.objects import remove_tree

from .options import JsonOption
from .render import clean

__all__ = ["cat_command", "ls_nar_command", "pack_command", "unpack_command"]

Archive = Annotated[str, typer.Argument(metavar="FILE|-", help="An archive; - is standard input.")]


@dataclass(frozen=True, slots=True)
class _Stream:
    """An archive that is read; what goes wrong there is told from what goes wrong where it is written to."""

    file: str
    opened: BinaryIO

    def read(self, size: int) -> bytes:
        try:
            return self.opened.read(size)
        except OSError as error:
            raise _unreadable(self.file, error) from error


@contextlib.contextmanager
def _opened(file: str) -> Iterator[_Stream]:
    """The archive's stream; - is standard input."""
    if file == "-":
        yield _Stream("standard input", sys.stdin.buffer)
        return
    try:
        stream = open(file, "rb")  # noqa: SIM115
    except OSError as error:
        raise _unreadable(file, error) from error
    with stream:
        yield _Stream(file, stream)


def _unreadable(file: str, error: OSError) -> TargetError:
    return TargetError(f"{file} can not be read: {error.strerror}")


def pack_command(path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or folder.")]) -> None:
    """Write the archive of a path to standard output, as `nix nar pack` does.

    nixbridge nar pack docs > docs.nar
    """
    try:
        nar.pack(path, sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
    except OSError as error:
        if error.filename is None:
            raise  # of the output, which has no name
        raise _unreadable(os.fsdecode(error.filename), error) from error


def unpack_command(file: Archive, target: Annotated[Path, typer.Argument(metavar="PATH", help="Where to.")]) -> None:
    """Lay an archive down at a path that does not exist yet.

    nixbridge nar unpack docs.nar copy-of-docs
    """
    if target.exists() or target.is_symlink():
        raise TargetError(f"{target} exists already", hint="name a path that does not")
    with _opened(file) as stream:
        try:
            nar.unpack(stream, target)
        except BaseException as error:
            remove_tree(target)
            if isinstance(error, OSError):
                raise TargetError(f"{target} can not be written: {error.strerror}") from error
            raise


def _listing_text(file: str, found: dict[str, Any]) -> str:
    hint = "without --json all is listed"
    try:
        text = json_module.dumps(found, indent=2, ensure_ascii=False)
        text.encode()
    except RecursionError as error:
        raise TargetError(f"{file} nests folders too deep for JSON", hint=hint) from error
    except UnicodeEncodeError as error:
        raise TargetError(f"{file} holds a name that is not UTF-8, which JSON can not hold", hint=hint) from error
    return text


def ls_nar_command(file: Archive, json: JsonOption = False) -> None:
    """List an archive; with --json as the .ls files of binary caches.

    nixbridge nar ls docs.nar
    """
    with _opened(file) as stream:
        found = listing(stream)
    if json:
        print(_listing_text(file, found))
        return
    shown = clean if sys.stdout.isatty() else str
    stack: list[tuple[str, dict[str, Any]]] = [("", found["root"])]
    while stack:
        path, node = stack.pop()
        match node:
            case {"type": "directory", "entries": entries}:
                print(f"{'dr-xr-xr-x':<12}{'':>12}  {shown(path) or '.'}/")
                stack.extend((f"{path}/{name}".lstrip("/"), inner) for name, inner in reversed(entries.items()))
            case {"type": "symlink", "target": target}:
                print(f"{'lrwxrwxrwx':<12}{'':>12}  {shown(path) or '.'} -> {shown(target)}")
            case {"size": size}:
                mode = "-r-xr-xr-x" if node.get("executable") else "-r--r--r--"
                print(f"{mode:<12}{size:>12}  {shown(path) or '.'}")


def cat_command(
    file: Archive, path: Annotated[str, typer.Argument(metavar="PATH", help="Inside the archive.")]
) -> None:
    """Print one file of an archive.

    nixbridge nar cat docs.nar /store.md
    """
    wanted = tuple(part for part in os.path.normpath(f"/{path}").split("/") if part)
    with _opened(file) as stream:
        for entry in nar.read(stream):
            if entry.path != wanted or isinstance(entry, nar.EndDirectory):
                continue
            if not isinstance(entry, nar.RegularEntry):
                raise TargetError(f"{path} is no file in this archive", hint="nixbridge nar ls shows what is")
            for chunk in entry.chunks:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
    raise TargetError(f"there is no {path} in this archive", hint="nixbridge nar ls shows what there is")
