"""`ls`, `log`, `note`: what realizations hold, asked of the store alone wherever that can be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.formats.derivation import DRV_SUFFIX
from bridge.formats.errors import BridgeError
from bridge.formats.store_path import name_part
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry
from bridge.store.layout import Store

from .completing import references
from .options import REFERENCE, BuilderOption, JsonOption, Reference, SetOption, StoreOption
from .referring import (
    TargetName,
    chosen_entries,
    ground_of,
    listed,
    one_entry,
    open_to_ask,
    planned,
    target_named,
    unless_imported,
)
from .render import age, clean, duration, number, paint, print_json, table
from .setting import open_located

if TYPE_CHECKING:
    from bridge.look.ground import Ground

__all__ = ["entry_json", "log_command", "ls_command", "note_command", "print_entries", "short"]

# --------------------------------------------------------------------------------------------- ls


def ls_command(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[REF[/PATH]]",
            autocompletion=references,
            help=f"{REFERENCE} Of a stage or target its realizations are listed, of all else, and of what has a path"
            " behind it, the files; without it the whole store.",
        ),
    ] = None,
    long: Annotated[bool, typer.Option("-l", "--long", help="Of files: kind, size, where links lead.")] = False,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List realizations, or the files of one.

    nixbridge ls; nixbridge ls stages.py:train; nixbridge ls train; nixbridge ls -l 014ycz; nixbridge ls train/shards

    A path follows the reference with a slash, as in a file system: a colon already stands before a target's stage.
    """
    if target is None:
        opened = open_located(store, create=False)
        _print_entries(opened, listed(opened, sized=json), json)
        return
    opened = open_to_ask(store, target)
    ground = ground_of(opened)
    found = target_named(ground, target)
    whole = found is not None and found.below is None and not found.output
    if found is not None and whole and _ls_target(opened, found, settings, store, builder, json):
        return
    if found is None and ("/" not in target or target.endswith(DRV_SUFFIX)) and "^" not in target:
        from bridge.look.references import named

        several = named(ground, target)
        if several.kind in ("stage", "derivation"):
            # Listed once more, by what says which records are damaged.
            ids = {one.id for one in several.entries}
            stage = several.entries[0].stage
            _print_entries(opened, [one for one in listed(opened, stage, sized=json) if one.id in ids], json)
            return
    from .files import list_files

    list_files(ground, target, settings, store, builder, long=long, json=json)


def _ls_target(
    opened: Store, name: TargetName, settings: Sequence[str] | None, store: str | None, builder: str, json: bool
) -> bool:
    """List the realizations of a target; False if it is a source, which has none."""
    try:
        plan, outcome = planned(name.target, settings, store, builder)
    except BridgeError as error:
        stage = unless_imported(opened, name, error)
        _print_entries(opened, listed(opened, stage, sized=json), json)
        return True
    from bridge.realize.choosing import matcher_of

    from .progress import candidate_table
    from .realizing import stage_json

    # A stage that is named is asked for, and not what it needs.
    nodes = [node for node in (plan.targets if name.stage else plan.nodes) if node.source is None]
    if not nodes:
        return False
    if json:
        print_json([stage_json(node, outcome) for node in nodes])
        return True
    for node in nodes:
        choice = outcome.choices.get(node)
        there = choice.candidates if choice is not None else outcome.candidates.get(node, ())
        if there:
            print(candidate_table(node, matcher_of(node), there, choice.chosen if choice is not None else ()))
        else:
            print(f"{paint(node.label, 'bold', sys.stdout)}: no realizations")
    return True


def entry_json(one: Entry) -> dict[str, Any]:
    """A realization, with the names that its record has."""
    return {
        "id": one.id,
        "stage": one.stage,
        "index": one.index,
        "result": one.result,
        "runner": one.runner,
        "started": one.started,
        "stopped": one.stopped,
        "metrics": dict(one.metrics),
        "outputs": dict(one.outputs),
        "size": one.size,
        "drv": one.drv,
        "stageDrv": one.stage_drv,
    }


def print_entries(found: Sequence[Entry], notes: dict[str, str]) -> None:
    """A table of realizations, with what people wrote about them."""
    if not found:
        return
    rows = [
        [
            one.id,
            one.stage,
            str(one.index),
            " ".join(f"{clean(name)}={clean(number(value))}" for name, value in one.metrics.items()),
            one.runner if one.result == "done" else one.result,
            duration(one.stopped - one.started),
            age(one.started),
            *([short(notes.get(one.id, ""))] if notes else []),
        ]
        for one in found
    ]
    print(table(rows, ["id", "stage", "#", "metrics", "by", "took", "when", *(["note"] if notes else [])]))


def _print_entries(store: Store, found: Sequence[Entry], json: bool) -> None:
    from bridge.store.notes import notes

    written = notes(store)
    if json:
        print_json([{**entry_json(one), "note": written.get(one.id)} for one in found])
    else:
        print_entries(found, {one.id: written[one.id] for one in found if one.id in written})


def short(text: str) -> str:
    """The first line of a note."""
    line = clean(text.partition("\n")[0])
    return line if len(line) <= 40 else f"{line[:39]}…"


# ------------------------------------------------------------------------------------- log, note


def log_command(
    reference: Reference,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print the log of a realization: of a target's chosen ones, of a stage's newest, or of the one that is named.

    nixbridge log stages.py:train; nixbridge log train; nixbridge log 014ycz
    """
    ground = ground_of(open_to_ask(store, reference))
    found = chosen_entries(ground, reference, store, settings, builder)
    logs = [(one, _log(ground, one)) for one in found]
    if json:
        print_json([{"id": one.id, "stage": one.stage, "drv": one.drv, "log": text} for one, text in logs])
        return
    for _, text in logs:
        sys.stdout.write(text)


def _log(ground: Ground, one: Entry) -> str:
    record = ground.record(one)
    if record.runner == "nix":
        from bridge.nix.build import read_log

        text = read_log(ground.nix, record.drv) if ground.nix is not None else None
    else:
        file = ground.store.log_file(record.log) if record.log else None
        text = file.read_text(errors="replace") if file is not None and file.exists() else None
    if text is None:
        raise TargetError(f"there is no log of the realization {one.id} of {name_part(one.drv)}")
    return text


def note_command(
    reference: Reference,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT|-]", help="What to write down; - is stdin.")] = None,
    remove: Annotated[bool, typer.Option("--delete", "-d", help="Remove the note.")] = False,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write down, or print, what you think of a realization; `ls` and `history` show it.

    nixbridge note 014ycz "overfits, but the baseline of the paper"
    """
    from bridge.store.notes import note_of, remove_note, write_note

    opened = open_to_ask(store, reference)
    one = one_entry(ground_of(opened), reference, store, settings, builder)
    if remove:
        remove_note(opened, one.id)
    elif text is not None:
        written = sys.stdin.read() if text == "-" else text
        if not written.strip():
            raise TargetError("the note is empty", hint=f"nixbridge note {one.id} --delete removes what is written")
        write_note(opened, one.id, written)
    note = note_of(opened, one.id)
    if json:
        print_json({"id": one.id, "stage": one.stage, "note": note})
    elif text is None and not remove:
        if note is None:
            raise TargetError(f"there is no note on {one.id}", hint=f"nixbridge note {one.id} TEXT writes one")
        print(note if not sys.stdout.isatty() else "\n".join(map(clean, note.split("\n"))))
