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

from .options import JsonOption, StoreOption
from .render import paint, print_json, size
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
    places = Places(opened, find_nix())

    def elsewhere(path: str) -> bool:
        return places.find_in_nix(path) is not None

    mended = _repair(opened, source, elsewhere, json) if repair or source is not None else []
    report = verify(opened, on_progress=_progress(json), elsewhere=elsewhere)
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
        print(
            f"{opened.root}: {report.objects} objects ({size(report.size)}), {report.records} records: {state}{rubbish}"
        )
    if report.findings:
        raise typer.Exit(1)


def _repair(opened: Store, source: Path | None, elsewhere: Callable[[str], bool], json: bool) -> list[Repaired]:
    from bridge.store.repair import repair

    other = None if source is None else Store(source.resolve())
    if other is not None and not other.info.is_dir():
        raise StoreError(f"there is no store at {source}")
    if other is not None and other.root == opened.root:
        raise StoreError(f"{source} is the store itself", hint="name another one with --from")
    return repair(opened, source=other, elsewhere=elsewhere, on_progress=_progress(json))


def _progress(json: bool) -> Callable[[int, int], None]:
    shown = sys.stderr.isatty() and not json

    def progress(done: int, count: int) -> None:
        if shown and (done % 100 == 0 or done == count):
            print(f"\r{done}/{count} objects", end="" if done < count else "\n", file=sys.stderr, flush=True)

    return progress


def optimise_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Make equal files of results one file on the disk, by hard links.

    nixbridge optimise
    """
    from bridge.store.optimise import optimise

    found = optimise(open_located(store, create=False))
    if json:
        print_json({"files": found.files, "freed": found.freed})
        return
    print(f"linked {found.files} files: {size(found.freed)}")
