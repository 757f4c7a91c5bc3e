"""`derivation add`: derivations in any format, made whole and added to the Nix store."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from bridge.formats.derivation import (
    DRV_SUFFIX,
    Derivation,
    Instantiated,
    complete_closure,
    derivation_path,
    derivation_references,
    read_document,
)
from bridge.formats.errors import DerivationJSONError, FormatError
from bridge.formats.store_path import STORE_DIR, parse
from bridge.nix.errors import NixMissingPathError
from bridge.stages.errors import TargetError

from .derivations import in_file, reader
from .options import JsonOption
from .render import print_json

__all__ = ["add_derivation_command"]


def add_derivation_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON of any release, or a .drv; - is standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute and check the paths only.")] = False,
    json: JsonOption = False,
) -> None:
    """Add derivations to the Nix store and print their paths.

    nixbridge derivation show stages.py | nixbridge derivation add -

    One derivation or many, in any order; outputs without a path get the computed one.
    """
    made = complete_closure(_known(file, _read(file)), reader(None))
    if not dry_run:
        _add(made)
    if json:
        print_json([{"given": given, "name": one.derivation.name, "path": one.path} for given, one in made.items()])
        return
    for one in made.values():
        print(one.path)


def _add(made: Mapping[str, Instantiated]) -> None:
    from bridge.nix.client import connect
    from bridge.nix.installation import require

    paths = {one.path for one in made.values()}
    needed = {path for one in made.values() for path in derivation_references(one.derivation)} - paths
    with connect(require()) as nix:
        missing = sorted(needed - nix.query_valid_paths(needed))
        if missing:
            raise NixMissingPathError(missing[0])
        for one in made.values():
            nix.add_derivation(one.derivation.name + DRV_SUFFIX, one.aterm, derivation_references(one.derivation))


def _known(file: str, found: Mapping[str, Derivation]) -> dict[str, Derivation]:
    """The derivations by the path that they are known by: that of a document, else the one that they have."""
    known = {}
    for name, drv in found.items():
        try:
            parse(f"{STORE_DIR}/{name}")
            known[f"{STORE_DIR}/{name}"] = drv
        except FormatError:
            if len(found) > 1:
                raise DerivationJSONError(
                    f"{file}: {name!r} is no base name of a store path", hint="derivations are given by their paths"
                ) from None
            known[derivation_path(drv)] = drv
    return known


def _read(file: str) -> dict[str, Derivation]:
    """The derivations in a file, by base name."""
    place = "standard input" if file == "-" else file
    try:
        data = _standard_input() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise TargetError(f"{file} can not be read: {error.strerror}") from error
    if data.startswith((b"Derive", b"DrvWithVersion")):
        if file == "-":
            raise TargetError("a .drv on standard input does not tell its name", hint="give it as a file")
        return {Path(file).name: in_file(file, data)}
    try:
        value = json_module.loads(data)
    except (ValueError, RecursionError) as error:
        raise DerivationJSONError(f"{place} is neither JSON nor a .drv: {error}") from error
    try:
        return read_document(value)
    except FormatError as error:
        error.file = place
        raise


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise TargetError("standard input is closed")
    return sys.stdin.buffer.read()
