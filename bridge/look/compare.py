"""What differs between two derivations of a stage: its own part, and what it was given.

    own       name, config, script, promised outputs, system: by the derivation diff, with inputs and code left out
    code      file by file, as unified diffs of the normalised source
    inputs    by argument and place in its list: another object, another path in it, one more, one less

Derivations are compared as they are in the trace, resolved; the newer one may also be one that still waits for its
inputs, with placeholders for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from bridge.formats.derivation.diff import Change, diff, unified
from bridge.formats.derivation.json import STRUCTURED
from bridge.formats.derivation.types import Deferred, Derivation, InputAddressed
from bridge.formats.nix_json import dumps
from bridge.realize.check import compare

from .parts import Parts, Use, parts_of

__all__ = ["FileChange", "InputChange", "Own", "compare_derivations", "compare_trees", "read_texts", "text_changes"]

_LARGEST_TEXT = 1 << 20
_READ = 1 << 20
_LEFT, _RIGHT = (f"/nix/store/{digit * 32}-compared.drv" for digit in "01")


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that differs.

    Parameters
    ----------
    path
        Relative to what is compared; empty for itself.
    what
        contents, mode, kind, added or removed.
    before, after
        Size in bytes and SHA-256 (hexadecimal) of a file, where there is one and it is shown by no text.
    text
        The lines of a unified diff without its header, for text.
    """

    path: str
    what: str
    before: tuple[int, str] | None = None
    after: tuple[int, str] | None = None
    text: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputChange:
    """An input that differs: one of those that an argument holds; None where there is none."""

    name: str
    before: Use | None
    after: Use | None


@dataclass(frozen=True, slots=True)
class Own:
    """What differs between two derivations, but for what made their inputs."""

    changes: tuple[Change, ...]
    code: tuple[str | None, str | None] | None
    inputs: tuple[InputChange, ...]

    def __bool__(self) -> bool:
        return bool(self.changes or self.code or self.inputs)


def compare_derivations(before: Derivation, after: Derivation, chosen: Mapping[str, Sequence[str]] = {}) -> Own:
    """What differs between two derivations; `code` are the store paths of the two codes if they do.

    Parameters
    ----------
    chosen
        Placeholders in `after` to the paths that were chosen for them.
    """
    old, new = parts_of(before), parts_of(after)
    new = replace(
        new,
        inputs={
            name: tuple(Use(path, use.path) for use in uses for path in chosen.get(use.object, (use.object,)))
            for name, uses in new.inputs.items()
        },
    )
    left, right = _stripped(before, old, new), _stripped(after, new, old)
    changes: tuple[Change, ...] = ()
    if left != right:
        found = diff({_LEFT: left}, _LEFT, {_RIGHT: right}, _RIGHT)
        changes = tuple(change for one in found.values() for change in one.changes)
    code = (old.code, new.code) if old.code != new.code else None
    return Own(changes, code, tuple(_inputs(old, new)))


def _stripped(drv: Derivation, own: Parts, other: Parts) -> Derivation:
    """A derivation without its inputs, its code and the paths of its outputs."""
    inputs = {*own.inputs, *other.inputs}
    hidden = {*inputs, *drv.outputs, *(["PATH"] if "tools" in inputs else []), "builder", "name", "system"}
    env = {name: value for name, value in drv.env.items() if name not in hidden}
    if own.code is not None:
        attributes = json.loads(drv.env[STRUCTURED])
        for name in ("builder", "code", "inputs", "name", "system"):
            attributes.pop(name, None)
        env[STRUCTURED] = dumps(attributes)
    return replace(
        drv,
        outputs={
            name: Deferred() if isinstance(output, InputAddressed) else output for name, output in drv.outputs.items()
        },
        input_drvs={},
        input_srcs=(),
        builder="" if "shell" in inputs else drv.builder,
        env=env,
    )


def _inputs(old: Parts, new: Parts) -> Iterator[InputChange]:
    for name in dict.fromkeys([*new.inputs, *old.inputs]):
        for before, after in zip_longest(old.inputs.get(name, ()), new.inputs.get(name, ())):
            if before != after:
                yield InputChange(name, before, after)


# ------------------------------------------------------------------------------------------ files


def read_texts(folder: Path) -> dict[str, str]:
    """The files below a folder of code, by their paths."""
    return {
        str(file.relative_to(folder)): file.read_text("utf-8", "replace")
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def text_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[FileChange, ...]:
    """The files that differ, with their unified diffs."""
    found = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old != new:
            what = "added" if old is None else "removed" if new is None else "contents"
            text = unified((old or "").splitlines(), (new or "").splitlines())
            found.append(FileChange(path, what, text=text))
    return tuple(found)


def compare_trees(before: Path, after: Path) -> tuple[FileChange, ...]:
    """What differs between two files or folders: text as a diff, all else by size and hash."""
    words = {"only now": "added", "only before": "removed"}
    found = []
    for one in compare("", before, after):
        what = words.get(one.what, one.what)
        old, new = before / one.path if one.path else before, after / one.path if one.path else after
        found.append(_file_change(one.path, what, None if what == "added" else old, None if what == "removed" else new))
    return tuple(found)


def _file_change(path: str, what: str, old: Path | None, new: Path | None) -> FileChange:
    texts = [None if file is None else _text(file) for file in (old, new)]
    if what == "contents" and None not in texts:
        before, after = ((text or "").splitlines() for text in texts)
        if text := unified(before, after):
            return FileChange(path, what, text=text)
    return FileChange(path, what, _measured(old), _measured(new))


def _text(file: Path) -> str | None:
    """What a file holds, if that is text to be shown."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size > _LARGEST_TEXT:
        return None
    data = file.read_bytes()
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _measured(file: Path | None) -> tuple[int, str] | None:
    import hashlib

    if file is None or file.is_symlink() or not file.is_file():
        return None
    with file.open("rb") as opened:
        return file.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest()
