"""What the shell completes: stages and tags of the store, stage files here and the stages in them. Nothing is run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bridge.formats.errors import BridgeError

if TYPE_CHECKING:
    import ast

__all__ = ["bash_words", "builders", "references", "stages", "stages_of", "tags", "targets"]

_COMPLETE = "_NIXBRIDGE_COMPLETE"
_FILE = "_NIXBRIDGE_COMPLETE_FILE"


def builders() -> list[str]:
    """What `--builder` takes."""
    return ["auto", "nix", "local"]


def targets(incomplete: str) -> list[str]:
    """Stage files of this folder; behind a file and a colon its stages."""
    if file := os.environ.get(_FILE):
        return _beginning(incomplete, stages_of(Path(file)))
    file, colon, _ = incomplete.partition(":")
    if colon and file.endswith(".py"):
        return _beginning(incomplete, (f"{file}:{name}" for name in stages_of(Path(file))))
    with contextlib.suppress(OSError):
        return _beginning(incomplete, (name for name in os.listdir() if name.endswith(".py")))
    return []


def stages(context: typer.Context, incomplete: str) -> list[str]:
    """Stages that have a realization."""
    from bridge.store.catalogue import catalogue

    from .setting import open_located

    with contextlib.suppress(BridgeError, OSError):
        found = catalogue(open_located(context.params.get("store"), create=False), on_damaged=lambda error: None)
        return _beginning(incomplete, set(found.column("stage")))
    return []


def tags(context: typer.Context, incomplete: str) -> list[str]:
    """Names of realizations."""
    from bridge.store.roots import tags as tags_of

    from .setting import open_located

    with contextlib.suppress(BridgeError, OSError):
        return _beginning(incomplete, tags_of(open_located(context.params.get("store"), create=False)))
    return []


def references(context: typer.Context, incomplete: str) -> list[str]:
    """All that commands take which ask for realizations, but for ids."""
    if ":" in incomplete or _FILE in os.environ:
        return targets(incomplete)
    return [*stages(context, incomplete), *tags(context, incomplete), *targets(incomplete)]


def _beginning(incomplete: str, names: Iterator[str] | set[str] | list[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def stages_of(file: Path) -> Iterator[str]:
    """The names of a file's stages, as far as its text tells: what is made by a name that comes from bridge."""
    import ast

    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    makers = {"bridge"}
    for statement in tree.body:
        name = ""
        if isinstance(statement, ast.ImportFrom) and statement.module == "bridge":
            makers |= {one.asname or one.name for one in statement.names}
        elif isinstance(statement, ast.FunctionDef) and any(_root(one) in makers for one in statement.decorator_list):
            name = statement.name
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            target = statement.targets[0]
            name = target.id if isinstance(target, ast.Name) and _root(statement.value) in makers else ""
        if name:
            # What another stage is made from: train.options(…).
            makers.add(name)
            yield name


def _root(expression: ast.expr) -> str | None:
    """The name that a call or an attribute begins with."""
    import ast

    while isinstance(expression, ast.Call | ast.Attribute):
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    return expression.id if isinstance(expression, ast.Name) else None


def bash_words(environ: MutableMapping[str, str]) -> None:
    """Put together what bash takes apart: for it FILE.py:STAGE is three words, of which it completes the last."""
    if environ.get(_COMPLETE) != "complete_bash" or not environ.get("COMP_CWORD", "").isdecimal():
        return
    words, at = environ.get("COMP_WORDS", "").split("\n"), int(environ["COMP_CWORD"])
    words = words[:at] + (words[at : at + 1] or [""])
    joined: list[str] = []
    for word in words:
        behind = bool(joined) and ((joined[-1].endswith(".py") and word == ":") or joined[-1].endswith(".py:"))
        joined[-1:] = [joined[-1] + word] if behind else [*joined[-1:], word]
    file, colon, stage = joined[-1].rpartition(":")
    if colon and file.endswith(".py"):
        environ[_FILE] = file
        joined[-1] = stage
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(joined), str(len(joined) - 1)
