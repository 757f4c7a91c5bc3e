"""`verify`, `optimise`: whether the store is whole, mending it, and sharing equal files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.realize.places import Places
from bridge.store.errors import StoreError
from bridge.store.layout import Store

from .counting import counting
from .options import JsonOption, StoreOption
from .render import counted, paint, print_json, size
from .setting import find_nix, open_located

if TYPE_CHECKING:
    from bridge.store.repair import Repaired

__all__ = ["optimise_command", "verify_command"]


def verify_command(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is wrong, or drop it to be run again.")] = False,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Another store, from which to take what is good.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Check every object and record of the store, and mend it if asked to.

    nixbridge verify --repair --from /mnt/backup/nixbridge
    """
    from bridge.store.verify import verify

    opened = open_located(store, create=False)
    elsewhere = _in_nix(opened)
    mended = _repair(opened, source, elsewhere, json) if repair or source is not None else []
    with counting("checked objects:", quiet=json) as count:
        report = verify(opened, on_progress=count, elsewhere=elsewhere)
    if json:
        print_json(
            {
                "store": str(opened.root),
                "objects": report.objects,
                "bytes": report.size,
                "records": report.records,
                "findings": [{"path": o.path, "message": o.message, "kind": o.kind} for o in report.findings],
                "repaired": [
                    {"path": o.finding.path, "message": o.finding.message, "done": o.done} for o in mended if o.done
                ],
                "rubbish": report.rubbish,
                "below": sorted(report.below),
            }
        )
    else:
        for mend in mended:
            if mend.done is not None:
                said = paint("repaired:", "green", sys.stdout)
                print(f"{said} {mend.finding.path}: {mend.finding.message}: {mend.done}")
        for one in report.findings:
            print(f"{paint('wrong:', 'red', sys.stdout)} {one.path}: {one.message}")
        state = f"{len(report.findings)} wrong" if report.findings else "clean"
        rubbish = f", {len(report.rubbish)} left by dead processes" if report.rubbish else ""
        rubbish += f", {len(report.below)} objects taken from below" if report.below else ""
        there = f"{counted(report.objects, 'object')} ({size(report.size)}), {counted(report.records, 'record')}"
        print(f"{opened.root}: {there}: {state}{rubbish}")
    if report.findings:
        raise typer.Exit(1)


def _in_nix(opened: Store) -> Callable[[str], bool] | None:
    """Whether Nix has an object, where there is a Nix."""
    nix = find_nix()
    if nix is None:
        return None
    places = Places(opened, nix)
    return lambda path: places.find_in_nix(path) is not None


def _repair(opened: Store, source: Path | None, elsewhere: Callable[[str], bool] | None, json: bool) -> list[Repaired]:
    from bridge.store.repair import repair

    other = None if source is None else Store(source.resolve())
    if other is not None and not other.info.is_dir():
        raise StoreError(f"there is no store at {source}")
    if other is not None and other.root == opened.root:
        raise StoreError(f"{source} is the store itself", hint="name another one with --from")
    with counting("repairing, checked objects:", quiet=json) as count:
        return repair(opened, source=other, elsewhere=elsewhere, on_progress=count)


def optimise_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Make equal files of results one file on the disk, by hard links.

    nixbridge optimise
    """
    from bridge.store.optimise import optimise

    opened = open_located(store, create=False)
    with counting("compared sizes of files:", quiet=json) as count:
        found = optimise(opened, on_progress=count)
    if json:
        print_json({"files": found.files, "freed": found.freed})
        return
    print(f"linked {counted(found.files, 'file')}: {size(found.freed)}")
