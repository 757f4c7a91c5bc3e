"""`derivation diff|graph|why`, and what a target of the derivation commands names."""

from __future__ import annotations

import contextlib
import difflib
import gc
import json as json_module
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import typer

from bridge.formats.derivation import DRV_SUFFIX, Derivation, derivation_path, parse_aterm
from bridge.formats.derivation.closure import Closure, Edge, graph, graph_dot, name_of, read_closure, why
from bridge.formats.derivation.diff import Change, Difference, Pair, causes, diff, to_json
from bridge.formats.derivation.json import JsonFormat
from bridge.formats.derivation.show import show_closure
from bridge.formats.store_path import DIGEST_LENGTH, STORE_DIR, base_name
from bridge.stages.errors import TargetError
from bridge.store.errors import StoreError

from .render import paint, print_json
from .setting import find_nix, open_located, plan_of

__all__ = ["diff_command", "find_derivations", "graph_command", "print_closure", "why_command"]


# ----------------------------------------------------------------------------------------- targets


@dataclass(frozen=True, slots=True)
class _Found:
    """What a target names: derivations by path, more of them that are at hand, and the file it was read from."""

    roots: Mapping[str, Derivation]
    known: Mapping[str, Derivation] = field(default_factory=dict)
    file: Path | None = None

    def closure(self) -> Closure:
        return read_closure(self.roots, _reader(self.file), {**self.known, **self.roots})


def find_derivations(target: str, recursive: bool) -> Mapping[str, Derivation]:
    """The derivations of stages or of a `.drv`, with all that they use if asked.

    Raises
    ------
    TargetError
        If there are none.
    ClosureError
        For an input derivation that is in no store.
    """
    found = _find(target)
    return found.closure() if recursive else found.roots


def _file_name(file: Path) -> str:
    """The name of the derivation in a file: without a digest before it and `.drv` behind it."""
    base = file.name
    if len(base) > DIGEST_LENGTH and base[DIGEST_LENGTH] == "-":
        base = base[DIGEST_LENGTH + 1 :]
    return base.removesuffix(DRV_SUFFIX)


def print_closure(target: str, shape: JsonFormat) -> None:
    """Print a closure as `nix derivation show --recursive` does; raises what `find_derivations` does."""
    # Nothing here is in a cycle, and looking for some takes a while.
    gc.disable()
    found = _find(target)
    parts = show_closure(found.roots, _reader(found.file), shape, {**found.known, **found.roots})
    sys.stdout.flush()
    # JSON is UTF-8 whatever the terminal is.
    sys.stdout.buffer.writelines(parts)
    sys.stdout.buffer.write(b"\n")


def _find(target: str) -> _Found:
    if not target.endswith(DRV_SUFFIX):
        plan = plan_of(target)
        known = {node.path: node.derivation for node in plan.nodes if node.instantiated is not None}
        roots = {node.path: known[node.path] for node in plan.targets if node.path in known}
        if not roots:
            raise TargetError(f"{target} is a source: it has no derivation")
        return _Found(roots, known)
    file = Path(target)
    try:
        data = _reader(None)(target) if _is_in_store(target) and not file.exists() else file.read_bytes()
    except OSError as error:
        raise TargetError(f"{target} can not be read: {error.strerror}") from error
    drv = parse_aterm(data, _file_name(file))
    return _Found({derivation_path(drv): drv}, file=file)


def _find_one(target: str) -> tuple[str, _Found]:
    found = _find(target)
    if len(found.roots) > 1:
        names = ", ".join(drv.name for drv in found.roots.values())
        raise TargetError(
            f"{target} names {len(found.roots)} derivations: {names}", hint="name one of them, as in FILE.py:STAGE"
        )
    return next(iter(found.roots)), found


def _is_in_store(path: str) -> bool:
    return path.startswith(f"{STORE_DIR}/")


def _reader(beside: Path | None) -> Callable[[str], bytes]:
    """Reads a `.drv` of the Nix store, of the Python store, or that lies beside another file.

    It raises OSError for one that is nowhere.
    """
    nix = find_nix()
    folders = [] if nix is None else [str(nix.real_path(STORE_DIR))]
    if beside is not None:
        folders.append(str(beside.parent))
    # Where there is no store yet, there is nothing in it.
    with contextlib.suppress(StoreError):
        folders.append(str(open_located(None, create=False).objects))

    def read(path: str) -> bytes:
        base = base_name(path)
        for folder in folders[:-1]:
            try:
                return _contents(f"{folder}/{base}")
            except FileNotFoundError:
                continue
        return _contents(f"{folders[-1] if folders else STORE_DIR}/{base}")

    return read


def _contents(file: str) -> bytes:
    """The bytes of a file; without Python's file objects, which cost more than the reading."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = 1 << 16
        data = os.read(descriptor, size)
        if len(data) < size:
            return data
        parts = [data]
        while data := os.read(descriptor, 1 << 20):
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------- graph


def graph_command(target: str, json: bool) -> None:
    """Print the graph of a closure, as dot or as JSON."""
    closure = _find(target).closure()
    if json:
        print_json(graph(closure))
    else:
        sys.stdout.writelines(graph_dot(closure))


# --------------------------------------------------------------------------------------------- why


def why_command(start: str, end: str, every: bool, json: bool) -> None:
    """Print by which inputs one derivation needs another."""
    root, found = _find_one(start)
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
    if _is_in_store(end) and not end.endswith(DRV_SUFFIX):
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
        path, _ = _find_one(end)
        if path not in closure:
            raise TargetError(f"{start} does not need {end}")
        return path
    close = difflib.get_close_matches(end, {drv.name for drv in closure.values()}, 3)
    raise TargetError(
        f"no derivation that {start} needs is called {end}",
        hint=f"there is {', '.join(close)}" if close else None,
    )


# -------------------------------------------------------------------------------------------- diff


def diff_command(before: str, after: str, exit_code: bool, json: bool) -> None:
    """Print what differs between two derivations, and why."""
    left, left_found = _find_one(before)
    right, right_found = _find_one(after)
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
