"""`instantiate`, `derivation show`, `derivation add`."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge.formats.derivation import (
    DRV_SUFFIX,
    Derivation,
    derivation_path,
    derivation_references,
    document,
    parse_aterm,
    read_document,
    unparse,
)
from bridge.formats.derivation.json import LATEST, JsonFormat, format_named, format_of_nix
from bridge.formats.errors import DerivationJSONError
from bridge.formats.store_path import DIGEST_LENGTH, STORE_DIR, base_name
from bridge.stages.errors import TargetError

from .render import print_json
from .setting import find_nix, open_located, plan_of

__all__ = ["add_derivation_command", "instantiate_command", "show_derivation_command"]


def instantiate_command(target: str, add: bool, settings: Sequence[str], store: str | None, json: bool) -> None:
    """Write a plan's derivations into the store, and into Nix's if asked; print those of the targets."""
    from bridge.store.objects import add_texts

    plan = plan_of(target, settings)
    opened = open_located(store, target)
    found = [node.instantiated for node in plan.nodes if node.instantiated is not None and not node.foreign]
    add_texts(
        opened,
        ((one.path, one.aterm, tuple(sorted(derivation_references(one.derivation)))) for one in found),
    )
    if add:
        from bridge.nix.installation import require
        from bridge.realize.build_nix import NixBuilder
        from bridge.realize.places import Places
        from bridge.realize.task import Context, Task

        nix = require()
        builder = NixBuilder(Context(opened, Places(opened, nix), lambda event: None), nix)
        try:
            builder.prepare([Task(node, node.instantiated, ()) for node in plan.nodes if node.instantiated is not None])
        finally:
            builder.close()
    if json:
        print_json([{"stage": node.name, "path": node.path} for node in plan.targets])
        return
    for node in plan.targets:
        print(node.path)


def show_derivation_command(target: str, recursive: bool, aterm: bool, json_format: str | None) -> None:
    """Print derivations as JSON, or one as ATerm."""
    found = _from_file(target, recursive) if target.endswith(DRV_SUFFIX) else _from_plan(target, recursive)
    if aterm:
        sys.stdout.flush()
        for drv in found.values():
            sys.stdout.buffer.write(unparse(drv))
            if sys.stdout.isatty() or len(found) > 1:
                sys.stdout.buffer.write(b"\n")
    else:
        print_json(document(found, _shape(json_format)))


def _shape(name: str | None) -> JsonFormat:
    """The shape that is asked for, else what the installed Nix prints, else the newest."""
    if name is not None:
        return format_named(name)
    nix = find_nix()
    return LATEST if nix is None else format_of_nix(nix.version())


def _from_plan(target: str, recursive: bool) -> dict[str, Derivation]:
    plan = plan_of(target)
    nodes = plan.nodes if recursive else plan.targets
    found = {node.path: node.derivation for node in nodes if node.instantiated is not None}
    if not found:
        raise TargetError(f"{target} is a source: it has no derivation")
    return found


def _from_file(target: str, recursive: bool) -> dict[str, Derivation]:
    found: dict[str, Derivation] = {}
    pending = [target]
    while pending:
        path = pending.pop()
        file = _drv_file(path)
        base = file.name
        name = base[DIGEST_LENGTH + 1 :] if len(base) > DIGEST_LENGTH and base[DIGEST_LENGTH] == "-" else base
        try:
            drv = parse_aterm(file.read_bytes(), name.removesuffix(DRV_SUFFIX))
        except OSError as error:
            raise TargetError(f"{path} can not be read: {error.strerror}") from error
        key = derivation_path(drv)
        if key not in found:
            found[key] = drv
            pending += drv.input_drvs if recursive else []
    return found


def _drv_file(path: str) -> Path:
    """Where a `.drv` lies: as named, or in the Nix store or the Python store."""
    file = Path(path)
    if not file.exists() and path.startswith(f"{STORE_DIR}/"):
        nix = find_nix()
        if nix is not None and nix.real_path(path).exists():
            return nix.real_path(path)
        return open_located(None).real_path(path)
    return file


def add_derivation_command(file: str) -> None:
    """Add derivations to the Nix store; inputs first, whatever their order."""
    from graphlib import TopologicalSorter

    from bridge.nix.client import connect
    from bridge.nix.installation import require

    found = {derivation_path(drv): drv for drv in _read_derivations(file)}
    graph = {path: [used for used in drv.input_drvs if used in found] for path, drv in found.items()}
    with connect(require()) as nix:
        for path in TopologicalSorter(graph).static_order():
            drv = found[path]
            added = nix.add_derivation(drv.name + DRV_SUFFIX, unparse(drv), derivation_references(drv))
            print(added.path)


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise TargetError("standard input is closed")
    return sys.stdin.buffer.read()


def _read_derivations(file: str) -> list[Derivation]:
    try:
        data = _standard_input() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise TargetError(f"{file} can not be read: {error.strerror}") from error
    if data.startswith(b"Derive"):
        base = Path(file).name
        name = base[DIGEST_LENGTH + 1 :] if len(base) > DIGEST_LENGTH and base[DIGEST_LENGTH] == "-" else base
        if file == "-":
            raise TargetError("a .drv on standard input does not tell its name", hint="give it as a file")
        return [parse_aterm(data, name.removesuffix(DRV_SUFFIX)).check()]
    try:
        value = json_module.loads(data)
    except ValueError as error:
        raise DerivationJSONError(f"{file} is neither JSON nor a .drv: {error}") from error
    derivations = read_document(value)
    for name, drv in derivations.items():
        found = base_name(derivation_path(drv.check()))
        if len(derivations) > 1 and found != name:
            raise DerivationJSONError(f"the derivation gives the path {found}", key=f"derivations.{name}")
    return list(derivations.values())
