"""Which modules are the project's, and where their files are."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from functools import cache
from pathlib import Path

__all__ = ["locate", "project_root"]

_PROJECT_MARKS = ("pyproject.toml", "flake.nix", ".git")


@cache
def project_root(file: Path) -> Path:
    """The folder of the project that `file` belongs to: where its pyproject.toml, flake.nix or .git is.

    Without any, the folder that its package is in.
    """
    for folder in file.resolve().parents:
        if any((folder / mark).exists() for mark in _PROJECT_MARKS):
            return folder
    folder = file.resolve().parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


_LIBRARIES = tuple(
    {str(Path(sysconfig.get_path(kind)).resolve()) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
)


@cache
def locate(name: str, root: Path) -> Path | None:
    """The file of the module `name`, if it belongs to the project at `root`."""
    head, _, inner = name.partition(".")
    live = sys.modules.get(name)
    # A file of the project may have the name of a standard module, and hide it.
    if head == "bridge" or (head in sys.stdlib_module_names and live is None):
        return None
    # To look for a.b imports a, which is not for us to do with a library.
    if live is None and inner and not _is_below(head, root):
        return None
    origin = getattr(live, "__file__", None) if live is not None else _origin(name)
    if origin is None or not origin.endswith(".py"):
        return None
    file = Path(origin).resolve()
    return file if _belongs(file, root) else None


def _is_below(head: str, root: Path) -> bool:
    """Whether the package `head` is in the project at `root`."""
    live = sys.modules.get(head)
    if live is None:
        try:
            spec = importlib.util.find_spec(head)
        except (ImportError, ValueError):
            return False
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    else:
        folders = list(vars(live).get("__path__", ()))  # a module may make up attributes
    return any(_belongs(Path(folder).resolve(), root) for folder in folders)


def _origin(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError, TypeError):
        return None
    return spec.origin if spec is not None and spec.has_location else None


def _belongs(file: Path, root: Path) -> bool:
    outside = str(file).startswith(_LIBRARIES) or "site-packages" in file.parts
    return file.is_relative_to(root) and not outside
