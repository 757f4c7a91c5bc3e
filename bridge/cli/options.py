"""Parameters that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from .completing import builders, references, targets

__all__ = [
    "BuilderOption",
    "ExecutorOption",
    "REFERENCE",
    "JsonOption",
    "Reference",
    "SetOption",
    "StoreOption",
    "Target",
]

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="FILE.py[:STAGE] or package.module[:STAGE]; without :STAGE, all that no other stage uses.",
        autocompletion=targets,
    ),
]
REFERENCE = (
    "An id or its beginning, a tag (@TAG where others are called so), a stage's name (:STAGE), FILE.py:STAGE, a store"
    " path, or a link to one."
)
Reference = Annotated[str, typer.Argument(metavar="REF", help=REFERENCE, autocompletion=references)]
"""What all commands take that ask for a realization."""
StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="DIR", help="The store; else NIXBRIDGE_STORE, pyproject.toml, XDG_DATA_HOME."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BuilderOption = Annotated[
    str,
    typer.Option(
        "--builder",
        metavar="auto|nix|local",
        help="Where deterministic stages are built.",
        autocompletion=builders,
    ),
]
ExecutorOption = Annotated[
    str,
    typer.Option(
        "--executor", metavar="NAME", help="What runs Python stages: fork, dask, dask://HOST:PORT, MODULE:FACTORY."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.PARAM=VALUE", help="Another config value (JSON, else text); repeatable."),
]
