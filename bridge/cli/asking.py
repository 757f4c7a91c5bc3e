"""`ls`, `cat`, `tree`, `log`, `note`: what realizations hold, asked of the store alone wherever that can be."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.formats.errors import BridgeError
from bridge.formats.store_path import name_part
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry
from bridge.store.layout import Store

from .options import REFERENCE, BuilderOption, JsonOption, Reference, SetOption, StoreOption
from .referring import chosen_entries, ground_of, listed, one_entry, planned, split_target, unless_imported
from .render import age, duration, number, paint, print_json, size, table
from .setting import open_located

if TYPE_CHECKING:
    from bridge.look.files import File, Spot
    from bridge.look.ground import Ground

__all__ = [
    "cat_command",
    "ground_of",
    "is_module",
    "listed",
    "log_command",
    "ls_command",
    "note_command",
    "tree_command",
]

_CHUNK = 1 << 20

FileReference = Annotated[
    str, typer.Argument(metavar="REF[/PATH]", help=f"{REFERENCE} ID^OUTPUT is another output than out.")
]


# --------------------------------------------------------------------------------------------- ls


def ls_command(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[REF[/PATH]]",
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
        _print_entries(open_located(store), listed(open_located(store)), json)
        return
    found = split_target(target)
    if found is not None and found[2] is None:
        _ls_target(found[0], found[1], settings, store, builder, json)
        return
    opened = open_located(store, target)
    if "/" not in target and not os.path.lexists(target):
        of_stage = listed(opened, target)
        if of_stage:
            _print_entries(opened, of_stage, json)
            return
        if is_module(opened, target):
            _ls_target(target, None, settings, store, builder, json)
            return
    _ls_files(ground_of(opened), _spot(opened, target, settings, store, builder), long, json)


def is_module(store: Store, name: str) -> bool:
    """Whether a name that is neither a stage, a tag nor an id is a Python module's."""
    from bridge.store.roots import tagged

    if tagged(store, name) is not None or any(one.id.startswith(name.partition("^")[0]) for one in listed(store)):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _ls_target(
    target: str, stage: str | None, settings: Sequence[str] | None, store: str | None, builder: str, json: bool
) -> None:
    try:
        plan, outcome = planned(target, settings, store, builder)
    except BridgeError as error:
        opened = open_located(store, target)
        _print_entries(opened, listed(opened, unless_imported(opened, target, stage, error)), json)
        return
    from bridge.realize.choosing import matcher_of

    from .progress import candidate_table
    from .realizing import stage_json

    if json:
        print_json([stage_json(node, outcome) for node in plan.nodes if node.source is None])
        return
    for node in plan.nodes:
        choice = outcome.choices.get(node)
        if node.source is None:
            there = choice.candidates if choice is not None else outcome.candidates.get(node, ())
            if there:
                print(candidate_table(node, matcher_of(node), there, choice.chosen if choice is not None else ()))
            else:
                print(f"{paint(node.label, 'bold', sys.stdout)}: no realizations")


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


# ------------------------------------------------------------------------------------------ files


def _spot(store: Store, text: str, settings: Sequence[str] | None, option: str | None, builder: str) -> Spot:
    """The file that a reference or a target names."""
    from bridge.look.files import spot_in, spot_of

    ground = ground_of(store)
    found = split_target(text)
    if found is None:
        return spot_of(ground, text)
    target, stage, below = found
    target, _, output = target.partition("^")
    stage = stage and stage.partition("^")[0]
    try:
        plan, outcome = planned(target, settings, option, builder)
    except BridgeError as error:
        name = unless_imported(store, target, stage, error)
        return spot_of(ground, "/".join([f"{name}^{output}" if output else name, *([below] if below else [])]))
    if len(plan.targets) != 1:
        names = ", ".join(node.label for node in plan.targets)
        raise TargetError(f"{target} is {len(plan.targets)} stages", hint=f"name one of {names}: {target}:STAGE")
    [node] = plan.targets
    choice = outcome.choices.get(node)
    if choice is None:
        raise TargetError(f"not realized: {node.name}", hint=f"run nixbridge realize {target}")
    if not choice.resolved:
        return spot_in(ground, {"out": node.path}, output, below or "", target)
    if len(choice.chosen) != 1:
        ids = ", ".join(one.id for one in choice.chosen[:5])
        raise TargetError(f"{len(choice.chosen)} realizations were chosen of {target}", hint=f"name one: {ids}")
    return spot_in(ground, choice.chosen[0].outputs, output, below or "", target)


def clean(text: str) -> str:
    """A text as a terminal may show it: what is not printable, or no UTF-8, as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable()
        else f"\\x{ord(char) - 0xDC00:02x}"
        if 0xDC80 <= ord(char) <= 0xDCFF
        else char.encode("unicode_escape").decode()
        for char in text
    )


def _ls_files(ground: Ground, spot: Spot, long: bool, json: bool) -> None:
    from bridge.look.files import children, status_of

    one = status_of(spot)
    found = list(children(spot)) if one.kind == "directory" else [one]
    if json:
        print_json([file_json(file) for file in found])
        return
    if long:
        rows = [[_mode(file), "" if file.kind == "directory" else str(file.size), _named(file)] for file in found]
        width = max((len(row[1]) for row in rows), default=0)
        for mode, count, name in rows:
            print(f"{mode}  {count.rjust(width)}  {name}")
        return
    for file in found:
        print(_shown_name(file))


def file_json(file: File) -> dict[str, Any]:
    """A file; a name that is no UTF-8 is escaped, as `cat` does not take it otherwise than by its bytes."""
    return {
        "path": _json_text(file.spot.store_path),
        "name": _json_text(os.path.basename(file.spot.store_path)),
        "type": file.kind,
        "size": None if file.kind == "directory" else file.size,
        "executable": file.executable,
        **({"target": _json_text(file.target), "leadsOut": file.leads_out} if file.target is not None else {}),
    }


def _json_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return text


def _mode(file: File) -> str:
    return {"directory": "d", "symlink": "l"}.get(file.kind, "-") + ("x" if file.executable else "-")


def _shown_name(file: File) -> str:
    """Its name: clean on a terminal, as it is in a pipe."""
    name = os.path.basename(file.spot.below or str(file.spot.root))
    text = clean(name) if sys.stdout.isatty() else name
    return paint(text, "blue", sys.stdout) if file.kind == "directory" else text


def _named(file: File) -> str:
    name = clean(os.path.basename(file.spot.below or str(file.spot.root)))
    if file.kind == "directory":
        return f"{paint(name, 'blue', sys.stdout)}/"
    if file.target is None:
        return name
    return f"{name} -> {clean(file.target)}{' (leads out of the object)' if file.leads_out else ''}"


def cat_command(
    reference: FileReference,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
) -> None:
    """Print a file of a realization, byte by byte.

    nixbridge cat train/model.txt; nixbridge cat 014ycz/model.txt; nixbridge cat stages.py:report/page.html > page.html

    Of a stage's name the newest whole realization is taken; of a target the one that is chosen.
    """
    from bridge.look.files import open_file

    spot = _spot(open_located(store, reference), reference, settings, store, builder)
    with os.fdopen(open_file(spot), "rb") as file:
        sys.stdout.flush()
        shutil.copyfileobj(file, sys.stdout.buffer, _CHUNK)


def tree_command(
    reference: FileReference,
    depth: Annotated[int | None, typer.Option("--depth", "-L", min=1, metavar="N", help="Folders to go into.")] = None,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print all files of a realization as a tree, with their sizes.

    nixbridge tree train; nixbridge tree 014ycz/shards --depth 1
    """
    from bridge.look.files import status_of

    spot = _spot(open_located(store, reference), reference, settings, store, builder)
    top = status_of(spot)
    if json:
        print_json([file_json(file) for _, file in walked(top, depth)])
        return
    folders = files = total = 0
    for prefix, file in walked(top, depth):
        told = "" if file.kind != "regular" else f"  {dim_out(size(file.size))}"
        print(f"{prefix}{_named(file) if prefix or file.kind != 'directory' else clean(file.spot.store_path)}{told}")
        folders += file.kind == "directory"
        files += file.kind != "directory"
        total += file.size if file.kind == "regular" else 0
    print(dim_out(f"{max(0, folders - 1)} folders, {files} files, {size(total)}"))


def dim_out(text: str) -> str:
    return paint(text, "dim", sys.stdout)


def walked(top: File, depth: int | None) -> Iterable[tuple[str, File]]:
    """A file and all below it, each with the lines before its name."""
    from bridge.look.files import children

    yield "", top
    pending = [("", 1, list(children(top.spot)))] if top.kind == "directory" else []
    while pending:
        before, level, left = pending[-1]
        if not left:
            pending.pop()
            continue
        file = left.pop(0)
        yield f"{before}{'├── ' if left else '└── '}", file
        if file.kind == "directory" and (depth is None or level < depth):
            pending.append((f"{before}{'│   ' if left else '    '}", level + 1, list(children(file.spot))))


# ------------------------------------------------------------------------------------- log, note


def log_command(
    reference: Reference,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print the log of a realization: of a target's chosen ones, of a stage's newest, or of the one that is named.

    nixbridge log stages.py:train; nixbridge log train; nixbridge log 014ycz
    """
    opened = open_located(store, reference)
    ground = ground_of(opened)
    found = chosen_entries(ground, reference, store)
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
    remove: Annotated[bool, typer.Option("--remove", help="Have no note.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write down, or print, what you think of a realization; `ls` and `history` show it.

    nixbridge note 014ycz "overfits, but the baseline of the paper"
    """
    from bridge.store.notes import note_of, remove_note, write_note

    opened = open_located(store, reference)
    one = one_entry(ground_of(opened), reference, store)
    if remove:
        remove_note(opened, one.id)
    elif text is not None:
        write_note(opened, one.id, sys.stdin.read() if text == "-" else text)
    note = note_of(opened, one.id)
    if json:
        print_json({"id": one.id, "stage": one.stage, "note": note})
    elif text is None and not remove:
        if note is None:
            raise TargetError(f"there is no note on {one.id}", hint=f"nixbridge note {one.id} TEXT writes one")
        print(note if not sys.stdout.isatty() else "\n".join(map(clean, note.split("\n"))))
