"""Data that is walked by attribute: config, metrics, JSON, TOML.

A `Fields` is a dict, so that everything that takes one takes it. `fields.name` is `fields["name"]`, but for the
names that dicts have themselves (`keys`, `items`, `get` …): these are reached by item only.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path, PosixPath
from typing import Any

from .errors import DataError, unknown

__all__ = ["Artifact", "Fields", "fields_of"]


class Fields(dict[str, Any]):
    """A dict whose items are attributes too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise unknown("this", name, self) from None

    def __missing__(self, name: str) -> Any:
        raise unknown("this", str(name), self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if key.isidentifier())]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)


def fields_of(value: Any) -> Any:
    """`value` with each dict in it as `Fields`; lists stay lists."""
    found: list[Any] = [value]
    pending: list[tuple[Any, Any]] = [(found, 0)]
    while pending:
        holder, key = pending.pop()
        inner = holder[key]
        if isinstance(inner, dict):
            holder[key] = Fields(inner)
            pending += [(holder[key], one) for one in inner]
        elif isinstance(inner, list | tuple):
            holder[key] = list(inner)
            pending += [(holder[key], number) for number in range(len(inner))]
    return found[0]


class Artifact(PosixPath):
    """A file or folder that a stage made: a `pathlib.Path` that also reads JSON and TOML."""

    __slots__ = ()

    def json(self) -> Any:
        """The JSON in the file, its objects as `Fields`.

        Raises
        ------
        DataError
            If there is none in it.
        """
        try:
            return fields_of(json.loads(self._text()))
        except (ValueError, RecursionError) as error:
            raise DataError(f"this is not JSON: {error}", file=str(self)) from error

    def toml(self) -> Any:
        """The TOML in the file, its tables as `Fields`.

        Raises
        ------
        DataError
            If there is none in it.
        """
        try:
            return fields_of(tomllib.loads(self._text()))
        except (ValueError, RecursionError) as error:
            raise DataError(f"this is not TOML: {error}", file=str(self)) from error

    def _text(self) -> str:
        try:
            return Path(self).read_text("utf-8")
        except OSError as error:
            inside = sorted(one.name for one in self.iterdir()) if self.is_dir() else []
            hint = f"it is a folder with {', '.join(inside[:20])}" if inside else None
            raise DataError(f"this can not be read: {error.strerror}", file=str(self), hint=hint) from error
