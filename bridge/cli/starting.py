"""`init`: a new project from a template."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bridge.stages.errors import TargetError

from .options import JsonOption
from .render import print_json

__all__ = ["init_command"]

_TEMPLATES = Path(__file__).parents[1] / "templates"
"""The flake's `templates` are the same folders."""
_GUESS = "github:nixbridge/nixbridge"
"""What stands in the templates for the URL of nixbridge's flake."""


def init_command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The project's folder; made if there is none.")
    ] = Path(),
    template: Annotated[str, typer.Option(metavar="minimal|ml", help="What the project begins as.")] = "minimal",
    flake: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Nixbridge's own flake, for flake.nix; else the checkout that runs."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start a project: stages, a flake that has their results as packages, a test.

    nixbridge init --template ml experiment
    """
    names = sorted(one.name for one in _TEMPLATES.iterdir() if (one / "flake.nix").is_file())
    if template not in names:
        raise TargetError(f"there is no template {template!r}", hint=f"there are {', '.join(names)}")
    source = _TEMPLATES / template
    files = sorted(one.relative_to(source) for one in source.rglob("*") if one.is_file() and one.suffix != ".pyc")
    there = [str(file) for file in files if os.path.lexists(folder / file)]
    if there:
        raise TargetError(
            f"{folder} has {', '.join(there)} already", hint="init overwrites nothing; name another folder"
        )
    url = flake or _checkout() or _GUESS
    if any(char in url for char in '"\\$\n'):
        raise TargetError(f"{url!r} is no URL of a flake")
    try:
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / file, "xb") as target:
                target.write((source / file).read_bytes().replace(_GUESS.encode(), url.encode()))
    except OSError as error:
        raise TargetError(f"{folder} can not be written: {error.strerror or error}") from error
    if json:
        print_json({"folder": str(folder.absolute()), "template": template, "files": [str(file) for file in files]})
        return
    for file in files:
        print(folder / file)
    if url == _GUESS:
        print("note: name nixbridge's own flake in flake.nix: there is none published", file=sys.stderr)
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))}\n"
    print(
        f"next:\n{enter}nixbridge realize stages.py\nnixbridge lock stages.py\ngit init && git add .   "
        "# Nix does not see files of a flake that Git does not track\nnix build .#report",
        file=sys.stderr,
    )


def _checkout() -> str | None:
    """The URL of the checkout that this is run from."""
    folder = _TEMPLATES.parents[1]
    if not (folder / "flake.nix").is_file():
        return None
    return f"git+file://{folder}" if (folder / ".git").exists() else f"path:{folder}"
