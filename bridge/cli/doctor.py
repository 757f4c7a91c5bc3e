"""`doctor`: what is here, and what is missing."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import typer

from bridge import __version__
from bridge.formats.errors import BridgeError
from bridge.nix.installation import Installation

from .options import JsonOption, StoreOption
from .render import paint, print_json, size
from .setting import find_nix, open_located

__all__ = ["doctor_command"]

_SIGNS = {"ok": ("✔", "green"), "warning": ("⚠", "yellow"), "problem": ("✘", "red")}
_LITTLE = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "warning", "problem"]
    found: str
    hint: str | None = None


def doctor_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Say what is here: Nix and its daemon, sandbox, features, the store, the disk.

    nixbridge doctor
    """

    checks = list(_checks(store))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        width = max(len(check.what) for check in checks)
        for check in checks:
            sign, colour = _SIGNS[check.state]
            print(f"{paint(sign, colour, sys.stdout)} {check.what.ljust(width)}  {check.found}")
            if check.hint:
                print(f"  {' ' * width}  {paint(check.hint, 'dim', sys.stdout)}")
    if any(check.state == "problem" for check in checks):
        raise typer.Exit(1)


def _checks(store: str | None) -> Iterator[Check]:
    yield Check("nixbridge", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    yield from _store_checks(store)
    nix = find_nix()
    if nix is None:
        yield Check(
            "Nix", "warning", "not installed", "deterministic stages are built by the local builder, without a sandbox"
        )
        return
    yield from _nix_checks(nix)


def _store_checks(store: str | None) -> Iterator[Check]:
    try:
        opened = open_located(store)
    except BridgeError as error:
        yield Check("store", "problem", str(error), error.hint)
        return
    yield Check("store", "ok", str(opened.root))
    usage = shutil.disk_usage(opened.root)
    state: Literal["ok", "warning"] = "ok" if usage.free > _LITTLE else "warning"
    yield Check("disk", state, f"{size(usage.free)} free of {size(usage.total)}")


def _nix_checks(nix: Installation) -> Iterator[Check]:
    try:
        yield Check("Nix", "ok", f"{nix.version_text()} in {nix.bin}")
        config = nix.config()
    except BridgeError as error:
        yield Check("Nix", "problem", str(error), error.hint)
        return
    yield from _connection_check(nix)
    sandbox = config.get("sandbox", "?")
    yield Check(
        "sandbox",
        "ok" if sandbox == "true" else "warning",
        sandbox,
        None if sandbox == "true" else "builds can see this machine; set sandbox = true in nix.conf",
    )
    features = config.get("experimental-features", "")
    yield Check(
        "features",
        "ok" if "flakes" in features else "warning",
        features or "none",
        None if "flakes" in features else "nixbridge turns on nix-command and flakes itself where it needs them",
    )
    substituters = config.get("substituters", "")
    yield Check("substituters", "ok", substituters or "none")


def _connection_check(nix: Installation) -> Iterator[Check]:
    from bridge.nix.client import connect

    try:
        with connect(nix, timeout=10) as connection:
            yield Check("daemon", "ok", repr(connection))
    except BridgeError as error:
        yield Check("daemon", "problem", str(error), error.hint or "use --builder local, or repair Nix")
