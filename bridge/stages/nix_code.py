"""The files of a Nix expression as a store object: what it names by relative paths, and what these name.

    ./file.nix     the file, and what it names        ./folder, ./.    all below it
    ../shared.nix  as well: the object's root is the folder that holds all of them

Evaluation sees this object and no other file, so that what is hashed is what can be read: a path that is computed in a
way that the text does not show is an error of Nix's, never something that goes unnoticed.

Source: Nix manual, "Path literal" (`language/syntax`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from bridge.formats import nar

from .values import NixRecipe, Stage

__all__ = ["nix_tree", "uses_packages"]

_LITERAL = re.compile(r"(?<![\w.~/>-])(\.{1,2}(?:/[\w.+-]+)*(?:/(?=\$\{))?)(?![\w])")
_EXPRESSION = "default.nix"


def nix_tree(stage: Stage, recipe: NixRecipe) -> tuple[nar.Node, str]:
    """The files that an expression may read, and which of them it is, such as `/default.nix`.

    Raises
    ------
    StageError
        If there is no such file, or one can not be read.
    """
    if recipe.expr is not None:
        return nar.Directory({_EXPRESSION: nar.Regular(recipe.expr.encode())}), f"/{_EXPRESSION}"
    assert recipe.file is not None
    start = recipe.file / _EXPRESSION if recipe.file.is_dir() else recipe.file
    if not start.is_file():
        raise stage.place.error(f"the stage {stage.name}: there is no {start}", hint="paths are relative to this file")
    try:
        found = _reached(start)
        root = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in found]))
        tree: dict[str, nar.Node] = {}
        for path in found:
            if path == root:
                return _read(root), f"/{start.relative_to(root)}"
            *folders, name = path.relative_to(root).parts
            place = tree
            for folder in folders:
                below = place.setdefault(folder, nar.Directory({}))
                # A folder that is there as a whole has this already.
                assert isinstance(below, nar.Directory)
                place = below.entries  # type: ignore[assignment]
            if name not in place or path.is_dir():
                place[name] = _read(path)
    except OSError as error:
        raise stage.place.error(
            f"the stage {stage.name}: {error.filename} can not be read: {error.strerror}"
        ) from error
    return nar.Directory(tree), f"/{start.relative_to(root)}"


def uses_packages(tree: nar.Node) -> bool:
    """Whether Nix code in a tree speaks of `pkgs` or `nixpkgs`."""
    match tree:
        case nar.Regular(contents):
            return re.search(rb"\b(nix)?pkgs\b", contents) is not None
        case nar.Directory(entries):
            return any(
                uses_packages(node)
                for name, node in entries.items()
                if isinstance(node, nar.Directory) or name.endswith(".nix")
            )
    return False


def _reached(start: Path) -> list[Path]:
    """The file, and what it and those name, folders before what is in them."""
    found: dict[Path, None] = {}
    pending = [start]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found[path] = None
        if path.is_file() and path.suffix == ".nix":
            text = path.read_text(encoding="utf-8", errors="replace")
            for literal in dict.fromkeys(_LITERAL.findall(text)):
                named = Path(os.path.normpath(path.parent / literal))
                # A text that looks like a path, such as in a script, need not be one; nor does `..` mean everything.
                if literal in (".", "..") or not os.path.lexists(named):
                    continue
                pending.append(named)
                if (named / _EXPRESSION).is_file():
                    pending.append(named / _EXPRESSION)
    return sorted(found, key=lambda path: (len(path.parts), path))


def _read(path: Path) -> nar.Node:
    if path.is_symlink():
        return nar.Symlink(os.readlink(path))
    if path.is_dir():
        return nar.Directory({one.name: _read(one) for one in path.iterdir() if one.name != ".git"})
    return nar.Regular(path.read_bytes(), os.access(path, os.X_OK))
