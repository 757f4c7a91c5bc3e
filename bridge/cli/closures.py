"""`derivation diff|graph|why`."""

from __future__ import annotations

import difflib
import json as json_module
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer

from bridge.formats.derivation import DRV_SUFFIX
from bridge.formats.derivation.closure import Closure, Edge, graph, graph_dot, name_of, why
from bridge.formats.derivation.diff import Change, Difference, Pair, causes, diff, to_json
from bridge.stages.errors import TargetError

from .derivations import find, find_one, is_in_store
from .options import JsonOption
from .render import paint, print_json

__all__ = ["diff_command", "graph_command", "why_command"]

DerivationArgument = Annotated[
    str, typer.Argument(metavar="TARGET|FILE.drv", help="A stage, or a .drv file or store path.")
]


# ------------------------------------------------------------------------------------------- graph


def graph_command(
    target: Annotated[str, typer.Argument(metavar="TARGET|FILE.drv", help="Stages, or a .drv file or store path.")],
    json: JsonOption = False,
) -> None:
    """Print the graph of all input derivations: in the dot language of Graphviz, or as JSON.

    nixbridge derivation graph stages.py | dot -Tsvg > graph.svg
    """
    closure = find(target).closure()
    if json:
        print_json(graph(closure))
    else:
        sys.stdout.writelines(graph_dot(closure))


# --------------------------------------------------------------------------------------------- why


def why_command(
    start: DerivationArgument,
    end: Annotated[
        str, typer.Argument(metavar="TARGET|FILE.drv|NAME|OUTPUT", help="An input, however deep; its name or output.")
    ],
    every: Annotated[bool, typer.Option("--all", help="All shortest paths, not one.")] = False,
    json: JsonOption = False,
) -> None:
    """Say why one derivation needs another: the shortest path through the inputs.

    nixbridge derivation why stages.py:report clean
    """
    root, found = find_one(start)
    closure = found.closure()
    wanted = _end(closure, start, end)
    paths = why(closure, root, wanted)
    first = next(paths, None)
    if first is None:
        raise TargetError(f"{start} does not need {end}")
    if json:
        # One by one, since there may be many.
        sys.stdout.write(f'{{"from": {json_module.dumps(root)}, "to": {json_module.dumps(wanted)}, "paths": [\n')
        sys.stdout.write(_path_json(first))
        for path in paths if every else ():
            sys.stdout.write(f",\n{_path_json(path)}")
        sys.stdout.write("\n]}\n")
        return
    print(_path_text(root, first))
    for path in paths if every else ():
        print(f"\n{_path_text(root, path)}")


def _path_json(path: tuple[Edge, ...]) -> str:
    return json_module.dumps([{"from": edge.user, "to": edge.used, "outputs": list(edge.outputs)} for edge in path])


def _path_text(root: str, path: tuple[Edge, ...]) -> str:
    lines = [root]
    for edge in path:
        outputs = paint(_printable(", ".join(edge.outputs)), "cyan", sys.stdout)
        lines.append(f"  uses {outputs} of {edge.used}")
    return "\n".join(lines)


def _end(closure: Closure, start: str, end: str) -> str:
    """The derivation in a closure that a path, a name or a target means."""
    if end in closure:
        return end
    if is_in_store(end) and not end.endswith(DRV_SUFFIX):
        store_object = "/".join(end.split("/")[:4])
        for path, drv in closure.items():
            if any(drv.output_path(output) == store_object for output in drv.outputs):
                return path
        raise TargetError(f"{start} does not need {end}: it is the output of no derivation in its closure")
    named = [path for path, drv in closure.items() if drv.name == end]
    if len(named) == 1:
        return named[0]
    if named:
        more = ", …" if len(named) > 3 else ""
        raise TargetError(
            f"{len(named)} derivations that {start} needs are called {end}",
            hint=f"name one by its path: {', '.join(named[:3])}{more}",
        )
    if end.endswith((DRV_SUFFIX, ".py")) or ":" in end:
        path, _ = find_one(end)
        if path not in closure:
            raise TargetError(f"{start} does not need {end}")
        return path
    close = difflib.get_close_matches(end, {drv.name for drv in closure.values()}, 3)
    raise TargetError(
        f"no derivation that {start} needs is called {end}",
        hint=f"there is {', '.join(close)}" if close else None,
    )


# -------------------------------------------------------------------------------------------- diff


def diff_command(
    before: DerivationArgument,
    after: DerivationArgument,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if they differ.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what differs between two derivations and, through their inputs, why.

    nixbridge derivation diff old.drv stages.py:report
    """
    left, left_found = find_one(before)
    right, right_found = find_one(after)
    found = diff(left_found.closure(), left, right_found.closure(), right)
    if json:
        print_json({"left": left, "right": right, **to_json(found)})
    else:
        for line in _shown(found):
            print(line)
    if exit_code and found:
        raise typer.Exit(1)


_DEEPEST = 20
"""So many levels are indented; what lies deeper stands below each other."""


def _shown(found: Mapping[Pair, Difference]) -> Iterator[str]:
    """The lines of a diff: the pairs as a tree, then the causes, the first one first."""
    shown: set[Pair] = set()
    pending = [(pair, 0) for pair in found][:1]
    while pending:
        pair, depth = pending.pop()
        one = found[pair]
        indent = "  " * min(depth, _DEEPEST)
        title = _names(one) if depth == 0 else f"input {_names(one)}"
        if pair in shown:
            yield indent + _dim(f"{title}: already shown")
            continue
        shown.add(pair)
        note = _dim(" (its outputs are the same)") if one.same_outputs else ""
        yield indent + (paint(title, "bold", sys.stdout) if one.changes else title) + note
        indent += "  "
        yield indent + paint(f"- {one.left}", "red", sys.stdout)
        yield indent + paint(f"+ {one.right}", "green", sys.stdout)
        if not one.changes:
            yield indent + _dim("only its inputs differ")
        for change in one.changes:
            yield indent + paint(_label(change), "yellow", sys.stdout)
            yield from (f"{indent}  {line}" for line in _values(change))
        pending += [(used, depth + 1) for used in reversed(one.inputs)]
    if found:
        yield ""
    for one in causes(found):
        told = ", ".join(dict.fromkeys(map(_label, one.changes)))
        yield f"{paint('cause:', 'bold', sys.stdout)} {_names(one)}: {told}"


def _names(one: Difference) -> str:
    old, new = name_of(one.left), name_of(one.right)
    return old if old == new else f"{old} → {new}"


_LABELS = {
    "args": "argument",
    "outputs": "output",
    "structured": "attribute",
    "sources": "source",
    "inputs": "input",
}


def _label(change: Change) -> str:
    if change.what == "args" and not change.key:
        return "arguments"
    return _printable(
        " ".join([_LABELS.get(change.what, change.what), *([".".join(change.key)] if change.key else [])])
    )


def _values(change: Change) -> Iterator[str]:
    lines = list(change.text)
    if not lines:
        for sign, value in (("-", change.before), ("+", change.after)):
            if value is not None:
                lines += [f"{sign} {line}" for line in value.split("\n")]
    for line in lines:
        style = {"-": "red", "+": "green", "@": "cyan"}.get(line[:1])
        shown = _printable(line)
        yield paint(shown, style, sys.stdout) if style else shown


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def _printable(text: str) -> str:
    """Without what a terminal would obey."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _dim(text: str) -> str:
    return paint(text, "dim", sys.stdout)
