"""The file `bridge.lock`, which lies beside the stages and is committed with them.

    { "version": 1, "flakes": { NAME: … }, "stages": { LABEL: … } }     JSON, sorted, one value a line

A section belongs to the module that fills it: `flakes` and `pins`. Whoever changes one holds the lock of the
file's folder meanwhile, reads again, and puts the whole file in place by a rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import LockFileError

__all__ = ["LOCK_NAME", "LockFile", "Section", "line_of", "read_lock", "update_section"]

LOCK_NAME = "bridge.lock"

Section = Literal["flakes", "stages"]

_VERSION = 1
_SECTIONS: tuple[Section, ...] = ("flakes", "stages")
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")


@dataclass(frozen=True, slots=True)
class LockFile:
    """What a lock file holds; without a file, nothing.

    Parameters
    ----------
    path
        Where it lies, or would lie.
    """

    path: Path
    flakes: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Any] = field(default_factory=dict)

    def error(self, message: str, *keys: str, hint: str | None = None) -> LockFileError:
        """An error that points at the entry that these keys lead to."""
        return LockFileError(message, hint=hint, file=str(self.path), line=line_of(self.path, *keys))


def read_lock(path: Path) -> LockFile:
    """Read a lock file; one that does not exist is empty.

    Raises
    ------
    LockFileError
        With the line of what is wrong; or if a newer nixbridge wrote it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return LockFile(path)
    except UnicodeDecodeError as error:
        raise LockFileError(f"this is no lock file: {error}", file=str(path)) from error
    except OSError as error:
        raise LockFileError(f"this can not be read: {error.strerror}", file=str(path)) from error
    value = _parsed(text, path)
    for section in _SECTIONS:
        if not isinstance(value.get(section, {}), dict):
            raise _wrong(path, f"{section} must be an object of JSON", section)
        for name, entry in value.get(section, {}).items():
            if not isinstance(entry, dict):
                raise _wrong(path, f"{name} must be an object of JSON", section, name)
    return LockFile(path, value.get("flakes", {}), value.get("stages", {}))


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_no_doubles)
    except _DoubleKeyError as error:
        line = next(number for number, line in enumerate(text.split("\n"), 1) if f'"{error.key}"' in line)
        raise LockFileError(f"{error.key!r} stands twice", file=str(path), line=line) from error
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        conflict = text.split("\n")[line - 1].startswith(_CONFLICT)
        hint = "a merge left a conflict: take one side, then nixbridge lock" if conflict else "nixbridge lock writes it"
        raise LockFileError(f"this is not JSON: {error}", file=str(path), line=line, hint=hint) from error
    version = value.get("version") if isinstance(value, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise LockFileError("this is no lock file: it has no version", file=str(path), line=1)
    if version > _VERSION:
        raise LockFileError(
            f"a newer nixbridge wrote this: it has version {version}, and this one reads up to {_VERSION}",
            hint="update nixbridge",
            file=str(path),
            line=line_of(path, "version"),
        )
    assert isinstance(value, dict)
    return value


class _DoubleKeyError(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; refuses what a merge may leave: the same key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DoubleKeyError(next(key for key in keys if keys.count(key) > 1))
    return found


def _wrong(path: Path, message: str, *keys: str) -> LockFileError:
    return LockFileError(message, file=str(path), line=line_of(path, *keys))


def line_of(path: Path, *keys: str) -> int:
    """The line of the entry that keys lead to, as far as the file has them; 1 without a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return 1
    position = 0
    for key in keys:
        found = text.find(f"{json.dumps(key, ensure_ascii=False)}:", position)
        if found < 0:
            break
        position = found
    return text.count("\n", 0, position) + 1


def update_section(path: Path, section: Section, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> LockFile:
    """Change one section of a lock file, which is made if there is none; others stay as they are now.

    Parameters
    ----------
    change
        Gets what the section holds, gives what it is to hold: JSON values. It may be asked while others
        wait, so it should do nothing slow.

    Raises
    ------
    LockFileError
        With the file as it was.
    """
    with _locked(path):
        found = read_lock(path)
        sections: dict[str, Mapping[str, Any]] = {"flakes": found.flakes, "stages": found.stages}
        new = change(dict(sections[section]))
        if new != sections[section] or not path.exists():
            sections[section] = new
            _write(path, {**sections, "version": _VERSION})
        return LockFile(path, sections["flakes"], sections["stages"])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file's folder: the file itself is replaced, and a lock beside it would be litter."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LockFileError(f"its folder can not be opened: {error.strerror}", file=str(path)) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    data = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    # A link stays one: the file that it leads to is replaced.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LockFileError(f"this can not be written: {error.strerror}", file=str(path)) from error
