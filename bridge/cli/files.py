"""`cat`, `tree`, and `ls` of files: what is in a realization, asked of the store alone wherever that can be."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.formats.errors import BridgeError
from bridge.stages.errors import TargetError

from .completing import references
from .options import REFERENCE, BuilderOption, JsonOption, SetOption, StoreOption
from .referring import ground_of, open_to_ask, planned, refuse_unrealized, target_named, unless_imported
from .render import clean, counted, paint, print_json, size

if TYPE_CHECKING:
    from bridge.look.files import File, Spot
    from bridge.look.ground import Ground

__all__ = ["cat_command", "list_files", "spot_named", "tree_command"]

_CHUNK = 1 << 20

FileReference = Annotated[
    str,
    typer.Argument(
        metavar="REF[/PATH]",
        help=f"{REFERENCE} ID^OUTPUT is another output than out.",
        autocompletion=references,
    ),
]


def list_files(
    ground: Ground,
    text: str,
    settings: Sequence[str] | None,
    store: str | None,
    builder: str,
    *,
    long: bool,
    json: bool,
) -> None:
    """Print the files of what a reference or a target names: of a folder those in it."""
    from bridge.look.files import children, status_of

    spot = spot_named(ground, text, settings, store, builder)
    one = status_of(spot)
    found = list(children(spot)) if one.kind == "directory" else [one]
    if json:
        print_json([_file_json(file) for file in found])
        return
    if long:
        rows = [[_mode(file), "" if file.kind == "directory" else str(file.size), _named(file)] for file in found]
        width = max((len(row[1]) for row in rows), default=0)
        for mode, count, name in rows:
            print(f"{mode}  {count.rjust(width)}  {name}")
        return
    for file in found:
        print(_shown_name(file))


def _file_json(file: File) -> dict[str, Any]:
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


def spot_named(ground: Ground, text: str, settings: Sequence[str] | None, option: str | None, builder: str) -> Spot:
    """The file that a reference or a target names."""
    from bridge.look.files import spot_in, spot_of

    found = target_named(ground, text)
    if found is None:
        return spot_of(ground, text)
    target, output, below = found.target, found.output, found.below or ""
    try:
        plan, outcome = planned(target, settings, option, builder)
    except BridgeError as error:
        name = f":{unless_imported(ground.store, found, error)}" + (f"^{output}" if output else "")
        return spot_of(ground, f"{name}/{below}" if below else name)
    if len(plan.targets) != 1:
        names = ", ".join(node.label for node in plan.targets)
        raise TargetError(f"{target} is {len(plan.targets)} stages", hint=f"name one of {names}: {target}:STAGE")
    [node] = plan.targets
    refuse_unrealized(plan.targets, outcome, target)
    choice = outcome.choices[node]
    if not choice.resolved:
        return spot_in(ground, {"out": node.path}, output, below, target)
    if len(choice.chosen) != 1:
        ids = ", ".join(one.id for one in choice.chosen[:5])
        raise TargetError(f"{len(choice.chosen)} realizations were chosen of {target}", hint=f"name one: {ids}")
    return spot_in(ground, choice.chosen[0].outputs, output, below, target)


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

    spot = spot_named(ground_of(open_to_ask(store, reference)), reference, settings, store, builder)
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

    spot = spot_named(ground_of(open_to_ask(store, reference)), reference, settings, store, builder)
    top = status_of(spot)
    if json:
        print_json([_file_json(file) for _, file in _walked(top, depth)])
        return
    folders = files = total = 0
    for prefix, file in _walked(top, depth):
        told = "" if file.kind != "regular" else f"  {_dim(size(file.size))}"
        print(f"{prefix}{_named(file) if prefix or file.kind != 'directory' else clean(file.spot.store_path)}{told}")
        folders += file.kind == "directory"
        files += file.kind != "directory"
        total += file.size if file.kind == "regular" else 0
    print(_dim(f"{counted(max(0, folders - 1), 'folder')}, {counted(files, 'file')}, {size(total)}"))


def _dim(text: str) -> str:
    return paint(text, "dim", sys.stdout)


def _walked(top: File, depth: int | None) -> Iterable[tuple[str, File]]:
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
