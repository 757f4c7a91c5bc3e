"""Where everything of a store lies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bridge.formats.store_path import base_name

from .errors import StoreError

__all__ = ["Store", "locate", "locate_lower", "open_located", "open_store"]

_FOLDERS = ("store", "info", "trace", "roots", "logs", "tmp", "locks", "checkpoints")
_READ = ("store", "info", "trace", "logs")
"""What must be there of a store that is only read."""


@dataclass(frozen=True)
class Store:
    """A store at a folder; the folder is absolute and has no links in it.

    Parameters
    ----------
    lower
        Stores that are read through this one, and never written: those of others, each without lower ones.
    """

    root: Path
    lower: tuple[Store, ...] = ()

    @cached_property
    def own(self) -> Store:
        """This store without those below it."""
        return replace(self, lower=()) if self.lower else self

    @cached_property
    def layers(self) -> tuple[Store, ...]:
        """This store itself, then those below it, in the order in which something is looked for."""
        return (self.own, *self.lower)

    @cached_property
    def objects(self) -> Path:
        return self.root / "store"

    @cached_property
    def info(self) -> Path:
        return self.root / "info"

    @cached_property
    def trace(self) -> Path:
        return self.root / "trace"

    @cached_property
    def roots(self) -> Path:
        return self.root / "roots"

    @cached_property
    def logs(self) -> Path:
        return self.root / "logs"

    @cached_property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @cached_property
    def failed(self) -> Path:
        """What failed builds worked in; made when the first one is kept."""
        return self.root / "failed"

    @cached_property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @cached_property
    def locks(self) -> Path:
        return self.root / "locks"

    def real_path(self, store_path: str) -> Path:
        """Where the object with this store path lies in this very store, or would lie."""
        return self.objects / base_name(store_path)

    def place_of(self, store_path: str) -> Path:
        """Where the object lies, in this store or a lower one; where it would lie if it is in none."""
        if self.lower and not self.has(store_path):
            for one in self.lower:
                if one.has(store_path):
                    return one.real_path(store_path)
        return self.real_path(store_path)

    def log_file(self, name: str) -> Path:
        """Where the log lies, in this store or a lower one; where it would lie if it is in none."""
        files = [one.logs / name for one in self.layers]
        return next((file for file in files[1:] if not files[0].exists() and file.exists()), files[0])

    def info_file(self, store_path: str) -> Path:
        """Where the object's info lies in this very store, or would lie."""
        return self.info / f"{base_name(store_path)}.json"

    def is_valid(self, store_path: str) -> bool:
        """Whether the store, or a lower one, holds this object: registered, and its bytes are there."""
        return self.has(store_path) or any(one.has(store_path) for one in self.lower)

    def has(self, store_path: str) -> bool:
        """Whether this very store holds the object."""
        base = base_name(store_path)
        root = str(self.root)
        return os.path.lexists(f"{root}/info/{base}.json") and os.path.lexists(f"{root}/store/{base}")


def locate(option: str | None, environ: Mapping[str, str], project: Path) -> Path:
    """The store's folder: the option, else NIXBRIDGE_STORE, else the project's, else the user's.

    Parameters
    ----------
    option
        What the command line says.
    project
        Where to begin to look for a pyproject.toml with `[tool.nixbridge] store`, relative to itself.

    Raises
    ------
    StoreError
        If the option is empty, or the project's setting can not be read.
    """
    if option == "":
        raise StoreError("the path of the store is empty", hint="leave --store out for the store that you always have")
    if option is not None:
        return Path(option)
    if environ.get("NIXBRIDGE_STORE"):
        return Path(environ["NIXBRIDGE_STORE"])
    file, settings = _settings(project)
    configured = settings.get("store")
    if configured is not None:
        if not isinstance(configured, str):
            raise StoreError("[tool.nixbridge] store must be a path", file=str(file))
        return file.parent / configured
    data = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".local" / "share")
    return Path(data) / "nixbridge"


def locate_lower(environ: Mapping[str, str], project: Path) -> list[Path]:
    """The folders of the stores below: NIXBRIDGE_LOWER (with colons between), else the project's.

    Parameters
    ----------
    project
        Where to begin to look for a pyproject.toml with `[tool.nixbridge] lower`, a list of paths relative to itself.

    Raises
    ------
    StoreError
        If the project's setting can not be read.
    """
    if "NIXBRIDGE_LOWER" in environ:
        return [Path(one) for one in environ["NIXBRIDGE_LOWER"].split(":") if one]
    file, settings = _settings(project)
    found = settings.get("lower", [])
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise StoreError("[tool.nixbridge] lower must be a list of paths", file=str(file))
    return [file.parent / one for one in found]


def _settings(project: Path) -> tuple[Path, Mapping[str, Any]]:
    """The nearest pyproject.toml, and what is in its `[tool.nixbridge]`."""
    files = [folder / "pyproject.toml" for folder in (project, *project.parents)]
    file = next((one for one in files if one.is_file()), None)
    if file is None:
        return files[0], {}
    # Imported late: most folders have no such file.
    import tomllib

    try:
        with file.open("rb") as opened:
            found: Any = tomllib.load(opened)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"this is not TOML: {error}", file=str(file)) from error
    except OSError as error:
        raise StoreError(f"this can not be read: {error.strerror}", file=str(file)) from error
    for key in ("tool", "nixbridge"):
        found = found.get(key) if isinstance(found, dict) else None
    return file, found if isinstance(found, dict) else {}


def open_store(root: str | Path, lower: Iterable[str | Path] = ()) -> Store:
    """The store at `root`, made if there is none.

    Parameters
    ----------
    lower
        Folders of stores that are read through it and never written.

    Raises
    ------
    StoreError
        If the folder can not be made or written, or if there is no store at a lower one.
    """
    path = Path(root).expanduser().resolve()
    found = dict.fromkeys(Path(one).expanduser().resolve() for one in lower)
    # Whoever works in the shared store itself has nothing below it.
    found.pop(path, None)
    store = Store(path, tuple(map(_lower, found)))
    try:
        for folder in _FOLDERS:
            if not os.path.isdir(f"{path}/{folder}"):
                (path / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the store {path} can not be made: {error.strerror}",
            hint="name another one with --store or NIXBRIDGE_STORE",
        ) from error
    return store


def open_located(option: str | None, environ: Mapping[str, str], project: Path) -> Store:
    """The store that `locate` finds, with those below it that `locate_lower` finds.

    Raises
    ------
    StoreError
        If it can not be made, or one below it is none.
    """
    return open_store(locate(option, environ, project), locate_lower(environ, project))


def _lower(root: Path) -> Store:
    hint = "the stores below are named by NIXBRIDGE_LOWER, or by lower in the project's [tool.nixbridge]"
    for name in _READ:
        try:
            with os.scandir(root / name):
                pass
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(f"there is no store at {root}, which is to be read below", hint=hint) from error
        except OSError as error:
            raise StoreError(f"the store {root} can not be read: {error.strerror}", hint=hint) from error
    return Store(root)
