"""Closures of derivations: everything that is built to build something, and why it is needed.

    closure    .drv path → derivation, of the roots and all that they use, inputs first
    edge       a derivation, an input derivation that it uses, the outputs that it uses of it
    why        breadth first from both ends: the edges that lie on a shortest path

Every function takes time linear in derivations and edges, and none recurses: closures may be deep.

Source: Nix manual, "Store Derivation and Deriving Path" and "Closure"; `nix-store --query --graph`;
`nix why-depends`; for dot, the Graphviz documentation, "DOT Language" and "escString".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.formats.errors import ClosureError, FormatError
from bridge.formats.store_path import name_part, parse

from .aterm import DRV_SUFFIX, parse_aterm
from .types import Deferred, Derivation, Fixed, Floating, Impure, InputAddressed, InputOutputs, Output

__all__ = [
    "KINDS",
    "Closure",
    "Edge",
    "closure_of",
    "contents",
    "cycle",
    "derivation_name",
    "graph",
    "graph_dot",
    "name_of",
    "outputs_used",
    "parsed",
    "read_closure",
    "why",
]

KINDS: Mapping[type[Output], str] = {
    InputAddressed: "input-addressed",
    Fixed: "fixed",
    Floating: "floating",
    Deferred: "deferred",
    Impure: "impure",
}
"""How each kind of output is called."""


@dataclass(frozen=True, slots=True, eq=False)
class Closure(Mapping[str, Derivation]):
    """Derivations by the path of their `.drv`, inputs before what uses them; equal to any equal mapping.

    Parameters
    ----------
    roots
        What the closure was asked for.
    derivations
        The roots and everything that they use.
    """

    roots: tuple[str, ...]
    derivations: Mapping[str, Derivation]

    def __getitem__(self, path: str) -> Derivation:
        return self.derivations[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.derivations)

    def __len__(self) -> int:
        return len(self.derivations)


@dataclass(frozen=True, slots=True)
class Edge:
    """That the derivation at `user` uses `outputs` of the one at `used`.

    The outputs of an output that is itself a derivation follow it after `^`, as in `out^dev`.
    """

    user: str
    used: str
    outputs: tuple[str, ...]


def derivation_name(path: str) -> str:
    """The name of the derivation at a store path.

    Raises
    ------
    ClosureError
        If that is not the path of a `.drv`.
    """
    try:
        _, name = parse(path)
    except FormatError as error:
        raise ClosureError(error.message, path=path, hint=error.hint) from error
    if not name.endswith(DRV_SUFFIX):
        raise ClosureError(f"{path} is no derivation: its name does not end in {DRV_SUFFIX}", path=path)
    return name.removesuffix(DRV_SUFFIX)


def name_of(path: str) -> str:
    """How people speak of the derivation at a path: by its name."""
    return name_part(path).removesuffix(DRV_SUFFIX)


def read_closure(roots: Iterable[str], read: Callable[[str], bytes], known: Mapping[str, Derivation] = {}) -> Closure:
    """The closure of the derivations at `roots`; each is read and parsed once.

    Parameters
    ----------
    read
        The contents of the `.drv` at a store path. It raises KeyError or OSError where there is none.
    known
        Derivations that need not be read.

    Raises
    ------
    ClosureError
        For a derivation that is not there, naming one that uses it, or a path that is not one of a `.drv`.
    ATermError
        For a file that is no derivation; its `file` says which.
    """
    roots = tuple(dict.fromkeys(roots))
    found: dict[str, Derivation] = {}
    user: dict[str, str | None] = dict.fromkeys(roots)
    pending = list(roots)
    while pending:
        path = pending.pop()
        drv = known[path] if path in known else parsed(path, contents(path, read, user[path]))
        found[path] = drv
        for used in drv.input_drvs:
            if used not in user:
                user[used] = path
                pending.append(used)
    return _ordered(roots, found)


def closure_of(roots: Iterable[str], derivations: Mapping[str, Derivation]) -> Closure:
    """The closure of `roots` among derivations that are all at hand.

    Raises
    ------
    ClosureError
        For a derivation that is not among them.
    """

    def missing(path: str) -> bytes:
        raise KeyError(path)

    return read_closure(roots, missing, derivations)


def contents(path: str, read: Callable[[str], bytes], user: str | None) -> bytes:
    """What `read` gives for a path, which something uses, or its error as ours."""
    try:
        return read(path)
    except (KeyError, OSError) as error:
        reason = getattr(error, "strerror", None) or "it is not there"
        whose = "" if user is None else f", an input of {user},"
        hint = None if user is None else "the whole closure brings its inputs along: derivation show --recursive"
        raise ClosureError(f"{path}{whose} can not be read: {reason}", path=path, user=user, hint=hint) from error


def parsed(path: str, data: bytes) -> Derivation:
    """The derivation in the file at a path; an error says which file."""
    name = derivation_name(path)
    try:
        return parse_aterm(data, name)
    except FormatError as error:
        error.file = path
        raise


def _ordered(roots: tuple[str, ...], found: Mapping[str, Derivation]) -> Closure:
    ordered: dict[str, Derivation] = {}
    begun: dict[str, Collection[str]] = {}
    pending = list(roots)
    while pending:
        path = pending[-1]
        if path in ordered:
            pending.pop()
            continue
        missing = [used for used in found[path].input_drvs if used not in ordered]
        if not missing:
            begun.pop(path, None)
            ordered[pending.pop()] = found[path]
        elif path in begun:
            raise cycle(path, begun)
        else:
            begun[path] = missing
            pending += missing
    return Closure(roots, ordered)


def cycle(path: str, begun: Mapping[str, Collection[str]]) -> ClosureError:
    """That derivations need each other. No store holds such; files that somebody made up may.

    Parameters
    ----------
    path, begun
        Where a walk stands that goes down to the inputs first, and what it began with: each of them uses another.
    """
    chain: list[str] = []
    while path not in chain:
        chain.append(path)
        path = next(used for used in begun[path] if used in begun)
    ring = [*chain[chain.index(path) :], path]
    shown = " uses ".join([*ring[:4], *(["…"] if len(ring) > 4 else [])])
    return ClosureError(f"derivations need each other: {shown}", path=path)


def outputs_used(used: InputOutputs) -> tuple[str, ...]:
    """The outputs used of an input, those of dynamic derivations behind `^`, as in `out^dev`."""
    names = list(used.outputs)
    pending = list(used.dynamic.items())
    while pending:
        prefix, inner = pending.pop()
        names += [f"{prefix}^{name}" for name in inner.outputs]
        pending += [(f"{prefix}^{name}", deeper) for name, deeper in inner.dynamic.items()]
    return tuple(names)


def _edges(path: str, drv: Derivation) -> Iterator[Edge]:
    for used, outputs in drv.input_drvs.items():
        yield Edge(path, used, outputs_used(outputs))


# --------------------------------------------------------------------------------------------- why


def why(closure: Mapping[str, Derivation], start: str, end: str) -> Iterator[tuple[Edge, ...]]:
    """The shortest paths from the derivation `start` down to `end`, in the order of their inputs.

    There may be very many of them: they come one by one, and the first costs no more than the closure.
    Nothing comes if `start` does not need `end`, and one path without edges if they are the same.

    Raises
    ------
    ClosureError
        If one of them is not in the closure.
    """
    for path in (start, end):
        if path not in closure:
            raise ClosureError(f"{path} is not in the closure", path=path)
    return _why(closure, start, end)


def _why(closure: Mapping[str, Derivation], start: str, end: str) -> Iterator[tuple[Edge, ...]]:
    distance = {start: 0}
    users: dict[str, list[str]] = {start: []}
    layer = [start]
    while layer and end not in distance:
        following = []
        for path in layer:
            for used in closure[path].input_drvs:
                if used not in distance:
                    distance[used] = distance[path] + 1
                    users[used] = []
                    following.append(used)
                if distance[used] > distance[path]:
                    users[used].append(path)
        layer = following
    if end not in distance:
        return
    # Only what leads to the end is gone through, so that no step of the walk is in vain.
    leading, pending = {end}, [end]
    while pending:
        for path in users[pending.pop()]:
            if path not in leading:
                leading.add(path)
                pending.append(path)

    def onward(path: str) -> Iterator[Edge]:
        deeper = distance[path] + 1
        return (
            edge
            for edge in _edges(path, closure[path])
            if edge.used in leading and distance[edge.used] == deeper and path != end
        )

    if start == end:
        yield ()
        return
    walk, trail = [onward(start)], list[Edge]()
    while walk:
        edge = next(walk[-1], None)
        if edge is None:
            walk.pop()
            if trail:
                trail.pop()
        elif edge.used == end:
            yield (*trail, edge)
        else:
            trail.append(edge)
            walk.append(onward(edge.used))


# ------------------------------------------------------------------------------------------- graph


def graph(closure: Closure) -> dict[str, Any]:
    """The closure's graph as a value for `json.dump`."""
    return {
        "roots": list(closure.roots),
        "nodes": [
            {
                "path": path,
                "name": drv.name,
                "outputs": {name: KINDS[type(output)] for name, output in drv.outputs.items()},
            }
            for path, drv in closure.items()
        ],
        "edges": [
            {"from": edge.user, "to": edge.used, "outputs": list(edge.outputs)}
            for path, drv in closure.items()
            for edge in _edges(path, drv)
        ],
    }


_SHAPES = {"fixed": "box", "floating": "diamond", "impure": "octagon"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def graph_dot(closure: Closure) -> Iterator[str]:
    """The lines of the closure's graph as dot: from each derivation to those that it uses.

    Fixed-output derivations are boxes, floating ones diamonds, impure ones octagons; an edge is labelled
    where it uses anything but `out`.
    """
    yield "digraph derivations {\n"
    yield "  node [shape=ellipse];\n"
    for path, drv in closure.items():
        kinds = {KINDS[type(output)] for output in drv.outputs.values()}
        shape = next((f", shape={_SHAPES[kind]}" for kind in sorted(kinds) if kind in _SHAPES), "")
        yield f"  {_id(path)} [label={_label(drv.name)}{shape}];\n"
    for path, drv in closure.items():
        for edge in _edges(path, drv):
            label = "" if edge.outputs == ("out",) else f" [label={_label(', '.join(edge.outputs))}]"
            yield f"  {_id(edge.user)} -> {_id(edge.used)}{label};\n"
    yield "}\n"


def _id(text: str) -> str:
    """A quoted ID, of which dot reads back nothing but the quotation marks' escapes."""
    visible = _visible(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{visible}"'


def _label(text: str) -> str:
    """A quoted label, in which dot reads escapes and HTML entities too."""
    return _id(text.replace("&", "&amp;"))


def _visible(text: str) -> str:
    """What no file of dot can hold, as its code."""
    return _CONTROL.sub(lambda found: f"<{ord(found[0]) & 0xFF:02x}>", text)
