"""Where everything of a store lies."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.formats.store_path import base_name

from .errors import StoreError

__all__ = ["Store", "locate", "open_store"]

_FOLDERS = ("store", "info", "trace", "roots", "logs", "tmp", "locks", "checkpoints")


@dataclass(frozen=True, slots=True)
class Store:
    """A store at a folder; the folder is absolute and has no links in it."""

    root: Path

    @property
    def objects(self) -> Path:
        return self.root / "store"

    @property
    def info(self) -> Path:
        return self.root / "info"

    @property
    def trace(self) -> Path:
        return self.root / "trace"

    @property
    def roots(self) -> Path:
        return self.root / "roots"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def failed(self) -> Path:
        """What failed builds worked in; made when the first one is kept."""
        return self.root / "failed"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    def real_path(self, store_path: str) -> Path:
        """Where the object with this store path lies, or would lie."""
        return self.root / "store" / base_name(store_path)

    def info_file(self, store_path: str) -> Path:
        """Where the object's info lies, or would lie."""
        return self.root / "info" / f"{base_name(store_path)}.json"

    def is_valid(self, store_path: str) -> bool:
        """Whether the store holds this object: registered, and its bytes are there."""
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
        If the project's setting can not be read.
    """
    if option:
        return Path(option)
    if environ.get("NIXBRIDGE_STORE"):
        return Path(environ["NIXBRIDGE_STORE"])
    for folder in (project, *project.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            configured = _configured(file)
            if configured is not None:
                return folder / configured
            break
    data = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".local" / "share")
    return Path(data) / "nixbridge"


def _configured(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            found: Any = tomllib.load(opened)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"this is not TOML: {error}", file=str(file)) from error
    except OSError as error:
        raise StoreError(f"this can not be read: {error.strerror}", file=str(file)) from error
    for key in ("tool", "nixbridge", "store"):
        found = found.get(key) if isinstance(found, dict) else None
    if found is not None and not isinstance(found, str):
        raise StoreError("[tool.nixbridge] store must be a path", file=str(file))
    return found


def open_store(root: str | Path) -> Store:
    """The store at `root`, made if there is none.

    Raises
    ------
    StoreError
        If the folder can not be made or written.
    """
    path = Path(root).expanduser().resolve()
    store = Store(path)
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
