"""`report` and `ui`: a page of a plan or a store, in a file or live."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.formats.errors import BridgeError
from bridge.stages.errors import TargetError
from bridge.store.errors import RecordError
from bridge.store.layout import Store

from .completing import references
from .counting import counting
from .options import BuilderOption, JsonOption, SetOption, StoreOption
from .referring import ground_of, open_to_ask, target_named, unless_imported
from .render import counted, dim, print_error, print_json, size
from .setting import open_located
from .writing import scratch_beside

if TYPE_CHECKING:
    from bridge.look.ground import Ground
    from bridge.look.report.page import Page

__all__ = ["report_command", "ui_command"]

Shown = Annotated[
    str | None,
    typer.Argument(
        metavar="[TARGET|STAGE|REF]",
        autocompletion=references,
        help="A target: its plan. A stage's name, an id, a store path or a link: these realizations and what they were"
        " made from. Nothing: the whole store.",
    ),
]
_TAIL = 4 << 10
_LOGS = 3

Look = Callable[["Ground | None"], "tuple[Ground, Page]"]
"""A look at what is shown: given what the last one stood on, what this one does, and the page."""


def report_command(
    target: Shown = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="Where to write it; - is stdout.")
    ] = Path("report.html"),
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write a page to look at: the graph, all realizations with plots, inputs, outputs and logs, in one file.

    nixbridge report stages.py -o report.html; nixbridge report train -o train.html; nixbridge report

    The file needs no network and no nixbridge. It holds files and logs of chosen and of new realizations, up to 24 MiB.
    """
    from bridge.look.report.detail import details_of
    from bridge.look.report.render import html_of

    opened = open_to_ask(store, target)
    ground, page = _look_of(opened, target, settings, builder, store)(None)
    with counting("realizations:", quiet=json) as count:
        shown = replace(page, details=details_of(ground, page.rows, count)).to_json()
    if json:
        print_json(shown)
        return
    text = html_of(shown)
    if str(output) == "-":
        # As bytes: with other characters the program would not be the one whose hash the page names.
        sys.stdout.buffer.write(text.encode())
        return
    _write(output, text)
    told = f"{counted(len(page.stages), 'stage')}, {counted(len(page.rows), 'realization')}, {size(len(text))}"
    print(dim(told), file=sys.stderr)
    print(output)


def ui_command(
    target: Shown = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 0,
    browse: Annotated[bool, typer.Option("--open", help="Open it in your browser.")] = False,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
) -> None:
    """Serve the page of `report` to this machine's browsers, live while runs go on, until Ctrl-C.

    nixbridge ui stages.py --open; nixbridge ui

    The address that is printed holds a secret; nobody else can read the page, and nothing can be changed by it.
    """
    from bridge.look.report.running import logs_of, running, stamp, tail
    from bridge.look.report.serve import Server, View

    opened = open_located(store, target)
    look = _look_of(opened, target, settings, builder, store)
    last: Ground | None = None

    def page() -> dict[str, Any]:
        nonlocal last
        last, found = look(last)
        return replace(found, live=True).to_json()

    def detail(identity: str) -> dict[str, Any] | None:
        from bridge.look.report.detail import Room, detail_of

        entries = last.entries() if last is not None else []
        one = next((one for one in reversed(entries) if one.id == identity), None)
        return None if one is None or last is None else detail_of(last, one, Room())

    def logs(digest: str) -> list[str]:
        from bridge.formats.store_path import hash_part

        held = (drv for drv in running(opened) if hash_part(drv) == digest)
        return [tail(file, _TAIL)[0] for drv in held for file in logs_of(opened, drv)[:_LOGS]]

    try:
        server = Server(View(page, lambda: stamp(opened), detail, logs), port)
    except OSError as error:
        raise TargetError(f"port {port} can not be had: {error.strerror}", hint="name another one, or none") from error
    # Whatever is wrong with the target is said now, not to a browser.
    server.page()
    print(server.url, flush=True)
    # Ctrl-C is how it ends, and interrupts nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        server,
        _browsing(server.url) if browse else contextlib.nullcontext(),
    ):
        server.serve_forever()


@contextlib.contextmanager
def _browsing(url: str) -> Iterator[None]:
    """Open an address in the user's browser by way of a file of his own: everybody can read a process's arguments."""
    import tempfile
    import webbrowser
    from html import escape

    with tempfile.TemporaryDirectory(prefix="nixbridge-ui-") as folder:
        file = Path(folder) / "open.html"
        file.write_text(f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={escape(url)}">\n')
        webbrowser.open(file.as_uri())
        yield


def _look_of(
    opened: Store, target: str | None, settings: Sequence[str] | None, builder: str, store: str | None
) -> Look:
    """How to look at what is named."""
    from bridge.look.report.gather import page_of_store

    if target is None:

        def whole(last: Ground | None) -> tuple[Ground, Page]:
            ground = ground_of(opened) if last is None else last.again()
            return ground, page_of_store(ground, opened.root.name, None, _damage(last))

        return whole
    ground = ground_of(opened)
    found = target_named(ground, target)
    reference = target
    if found is not None:
        try:
            return _plan_look(opened, found.target, settings, builder, store)
        except BridgeError as error:
            reference = f":{unless_imported(opened, found, error)}"

    def some(last: Ground | None) -> tuple[Ground, Page]:
        from bridge.look.references import named

        ground = ground_of(opened) if last is None else last.again()
        return ground, page_of_store(ground, reference, named(ground, reference).entries, _damage(last))

    return some


def _plan_look(opened: Store, target: str, settings: Sequence[str] | None, builder: str, store: str | None) -> Look:
    from bridge.look.report.gather import page_of_plan
    from bridge.realize.engine import realize

    from .looking import look_options
    from .setting import plan_of

    options = look_options(builder)
    plan = plan_of(target, settings, store)
    known = {node.path: node.derivation for node in plan.nodes if node.source is None}

    def look(last: Ground | None) -> tuple[Ground, Page]:
        ground = ground_of(opened) if last is None else last.again()
        ground.known.update(known)
        outcome = realize(plan, opened, nix=ground.nix, options=options)
        return ground, page_of_plan(ground, plan, outcome, target, _damage(last))

    return look


def _damage(last: Ground | None) -> Callable[[RecordError], object]:
    """What is wrong with records is said at the first look."""
    return print_error if last is None else lambda error: None


def _write(file: Path, text: str) -> None:
    """Write a file that is there as a whole, or not at all."""
    beside = scratch_beside(file)
    try:
        beside.write_text(text, "utf-8")
        os.replace(beside, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise TargetError(f"{file} can not be written: {error.strerror}") from error
