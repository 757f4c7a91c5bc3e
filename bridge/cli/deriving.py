"""`instantiate` and `derivation show`."""

from __future__ import annotations

import gc
import json as json_module
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from bridge.formats.derivation import (
    derivation_references,
    document,
    unparse,
)
from bridge.formats.derivation.json import LATEST, JsonFormat, format_named, format_of_nix
from bridge.formats.derivation.show import show_closure

from .derivations import find, find_derivations, reader
from .options import JsonOption, SetOption, StoreOption, Target
from .render import print_json
from .setting import find_nix, open_located, plan_of

__all__ = ["instantiate_command", "show_derivation_command"]


def instantiate_command(
    target: Target,
    add: Annotated[bool, typer.Option("--add", help="Add the derivations to the Nix store as well.")] = False,
    settings: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write the derivations of stages into the store, with the sources that they use, and print their paths.

    nixbridge instantiate stages.py:report --add
    """
    from bridge.realize.sources import add_source
    from bridge.store.objects import add_texts

    plan = plan_of(target, settings, store)
    opened = open_located(store, target)
    for node in plan.nodes:
        for source in (*node.objects, *filter(None, [node.source])):
            add_source(opened, source)
    found = [node.instantiated for node in plan.nodes if node.instantiated is not None and not node.foreign]
    add_texts(
        opened,
        ((one.path, one.aterm, tuple(sorted(derivation_references(one.derivation)))) for one in found),
    )
    if add:
        from bridge.nix.installation import require
        from bridge.realize.nix_store import NixStore
        from bridge.realize.task import Task

        nix = require()
        there = NixStore(opened, nix)
        try:
            there.prepare([Task(node, node.instantiated, ()) for node in plan.nodes if node.instantiated is not None])
        finally:
            there.close()
    if json:
        print_json([{"stage": node.name, "path": node.path} for node in plan.targets])
        return
    for node in plan.targets:
        print(node.path)


def show_derivation_command(
    target: Annotated[str, typer.Argument(metavar="TARGET|FILE.drv", help="Stages, or a .drv file or store path.")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="With all input derivations.")] = False,
    aterm: Annotated[bool, typer.Option("--aterm", help="Print the .drv itself, not JSON.")] = False,
    json_format: Annotated[
        str | None,
        typer.Option(metavar="2.8|2.15|2.18|2.23|2.30|3|4", help="The shape of JSON; what the installed Nix prints."),
    ] = None,
) -> None:
    """Show derivations as `nix derivation show` does, in the shape of any release.

    nixbridge derivation show stages.py:clean
    """
    if recursive and not aterm:
        # Printed as it is read, which takes a third of the time.
        _print_closure(target, _shape(json_format))
        return
    found = find_derivations(target, recursive)
    if aterm:
        sys.stdout.flush()
        for drv in found.values():
            sys.stdout.buffer.write(unparse(drv))
            if sys.stdout.isatty() or len(found) > 1:
                sys.stdout.buffer.write(b"\n")
    else:
        _print_utf8([json_module.dumps(document(found, _shape(json_format)), indent=2, ensure_ascii=False).encode()])


def _print_closure(target: str, shape: JsonFormat) -> None:
    """Print a closure as `nix derivation show --recursive` does; raises what `find_derivations` does."""
    # Nothing here is in a cycle, and looking for some takes a while.
    gc.disable()
    found = find(target)
    _print_utf8(show_closure(found.roots, reader(found.file), shape, {**found.known, **found.roots}))


def _print_utf8(parts: Iterable[bytes]) -> None:
    """Print JSON, which is UTF-8 whatever the terminal is."""
    sys.stdout.flush()
    sys.stdout.buffer.writelines(parts)
    sys.stdout.buffer.write(b"\n")


def _shape(name: str | None) -> JsonFormat:
    """The shape that is asked for, else what the installed Nix prints, else the newest."""
    if name is not None:
        return format_named(name)
    nix = find_nix()
    return LATEST if nix is None else format_of_nix(nix.version())
