"""`init`: a new project from a template."""

from __future__ import annotations

import os
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


def init_command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The project's folder; made if there is none.")
    ] = Path(),
    template: Annotated[str, typer.Option(metavar="minimal|ml", help="What the project begins as.")] = "minimal",
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
    try:
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / file, "xb") as target:
                target.write((source / file).read_bytes())
    except OSError as error:
        raise TargetError(f"{folder} can not be written: {error.strerror or error}") from error
    if json:
        print_json({"folder": str(folder.absolute()), "template": template, "files": [str(file) for file in files]})
        return
    for file in files:
        print(folder / file)
    enter = "" if folder == Path() else f"cd {folder}\n"
    print(
        f"next:\n{enter}nixbridge realize stages.py\nnixbridge lock stages.py\ngit init && git add .   "
        "# Nix does not see files of a flake that Git does not track\nnix build .#report",
        file=sys.stderr,
    )
