"""Source objects: what a stage is, or uses, that is addressed by its contents and not built."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from bridge.formats import nar
from bridge.formats.errors import NarError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import source_path, text_path

from .code import Code
from .values import HostRecipe, SourceRecipe, Stage, TextRecipe

__all__ = ["SourceObject", "code_object", "source_object", "tree_object"]


@dataclass(frozen=True, slots=True, eq=False)
class SourceObject:
    """An object addressed by its contents that is not built.

    Parameters
    ----------
    chunks
        Gives the NAR in pieces, anew at each call.
    code
        What the object was printed from, if it is a stage's code.
    text
        The contents of one that is addressed as Nix's texts are; None for one that is addressed by its NAR.
    """

    path: str
    chunks: Callable[[], Iterator[bytes]]
    code: Code | None = None
    text: bytes | None = None


def source_object(stage: Stage, recipe: SourceRecipe | TextRecipe | HostRecipe) -> SourceObject:
    """The object that a source, a text or a host program is."""
    match recipe:
        case TextRecipe(contents):
            path = text_path(stage.name, Hash.of(contents).hex)
            return SourceObject(path, partial(_dumped, nar.Regular(contents)), text=contents)
        case SourceRecipe(path, keep):
            return _disk_object(stage, path, keep)
        case HostRecipe(program):
            return tree_object(stage.name, _host_tree(stage, program), None)


@cache
def code_object(name: str, code: Code) -> SourceObject:
    """The object of a function's code, once for all the stages that it is varied to."""
    return tree_object(name, code.tree, code)


def tree_object(name: str, tree: nar.Node, code: Code | None) -> SourceObject:
    digest = hashlib.sha256()
    nar.dump(tree, digest.update)
    return SourceObject(source_path(name, digest.hexdigest()), partial(_dumped, tree), code)


def _dumped(tree: nar.Node) -> Iterator[bytes]:
    chunks: list[bytes] = []
    nar.dump(tree, chunks.append)
    return iter(chunks)


def _disk_object(stage: Stage, path: Path, keep: Callable[[str], bool] | None) -> SourceObject:
    def kept(full: str, status: os.stat_result) -> bool:
        return keep is None or bool(keep(os.path.relpath(full, path)))

    digest = hashlib.sha256()
    try:
        for chunk in nar.pack_chunks(path, keep=kept):
            digest.update(chunk)
    except (OSError, NarError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise stage.place.error(f"the source {path} can not be read: {reason}") from error
    except Exception as error:
        raise stage.place.error(f"keep= of the source {path} raised {type(error).__name__}: {error}") from error
    return SourceObject(source_path(stage.name, digest.hexdigest()), partial(nar.pack_chunks, path, keep=kept))


_ELF_INTERPRETER = 3  # PT_INTERP: the program header of what needs a dynamic linker
_APPLET_LISTS = {"busybox": ["--list"], "toybox": []}


def _host_tree(stage: Stage, program: Path) -> nar.Node:
    found = shutil.which(str(program))
    if found is None:
        raise stage.place.error(
            f"there is no program {program} on this machine", hint=f"install it, such as with apt: {program}-static"
        )
    file = Path(found).resolve()
    try:
        contents = file.read_bytes()
    except OSError as error:
        raise stage.place.error(f"the program {file} can not be read: {error.strerror}") from error
    if not _is_static_elf(contents):
        raise stage.place.error(
            f"{file} is not statically linked, so that it would not run in Nix's sandbox",
            hint="take a static one (Debian: busybox-static, bash-static) or a package: flake(…)",
        )
    name = program.name
    entries: dict[str, nar.Node] = {name: nar.Regular(contents, executable=True)}
    if name in _APPLET_LISTS:
        try:
            command = [str(file), *_APPLET_LISTS[name]]
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        except (OSError, subprocess.CalledProcessError) as error:
            raise stage.place.error(f"the program {file} does not list its applets: {error}") from error
        entries |= {applet: nar.Symlink(name) for applet in listed if applet != name and "/" not in applet}
    return nar.Directory({"bin": nar.Directory(entries)})


def _is_static_elf(data: bytes) -> bool:
    """Whether an ELF file (either width, little endian) needs no dynamic linker."""
    if data[:4] != b"\x7fELF" or data[5:6] != b"\1":
        return False
    wide = data[4] == 2
    at, width = (32, 8) if wide else (28, 4)
    table = int.from_bytes(data[at : at + width], "little")
    size, count = (int.from_bytes(data[i : i + 2], "little") for i in ((54, 56) if wide else (42, 44)))
    headers = (data[table + size * number : table + size * number + 4] for number in range(count))
    return all(int.from_bytes(header, "little") != _ELF_INTERPRETER for header in headers)
