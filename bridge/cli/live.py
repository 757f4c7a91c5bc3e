"""What is going on now, as lines for a terminal: one tree of stages that run and of what Nix does for them.

report › train          stages that wait, those that only pass on in one line
├─ ⏵ train[0] python 3.2 s
└─ ⏵ clean nix: buildPhase 1.0 s │ the log's last line
Nix
└─ ↓ zlib-1.3 1.2 MiB of 3.4 MiB cache.example.org
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.realize.events import Aside
from bridge.stages.plan import Node

from .render import dim, duration, paint, size

__all__ = ["Board", "host_of", "label_of"]

_NAMES = 3
"""How many stages of a chain that wait for each other are named."""


def label_of(node: Node, index: int) -> str:
    """A run of a stage; its number where there are several."""
    return f"{node.label}[{index}]" if node.stage.policy.realizations > 1 or index else node.label


@dataclass(slots=True)
class _Run:
    begun: float
    where: str
    phase: str = ""
    line: str = ""


class Board:
    """What runs now. The caller sees to it that one thread at a time is in here."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._runs: dict[tuple[Node, int], _Run] = {}
        self._asides: dict[str, tuple[float, Aside]] = {}
        self._waiting_for: dict[Node, Node] | None = None

    def __bool__(self) -> bool:
        return bool(self._runs or self._asides)

    def start(self, node: Node, index: int, where: str) -> None:
        # Nix tells late that a build ended: what uses it has started, so that it has.
        for used in node.inputs:
            self.end(used)
        self._runs[node, index] = _Run(time.monotonic(), where)

    def phase(self, node: Node, name: str) -> None:
        for run in self._of(node):
            run.phase, run.line = name, ""

    def line(self, node: Node, text: str) -> None:
        for run in self._of(node):
            run.line = text

    def aside(self, aside: Aside) -> tuple[bool, float]:
        """Take what Nix does besides; whether it is new, and for how many seconds it has been going on."""
        now = time.monotonic()
        is_new = aside.key not in self._asides
        begun = now if is_new else self._asides[aside.key][0]
        if aside.ended:
            self._asides.pop(aside.key, None)
        else:
            self._asides[aside.key] = begun, aside
        return is_new, now - begun

    def end(self, node: Node, index: int | None = None) -> None:
        """A run is over; without its number, all of the stage."""
        for key in [key for key in self._runs if key[0] is node and index in (None, key[1])]:
            del self._runs[key]

    def lines(self, height: int) -> list[str]:
        """The tree in at most so many lines; what waits goes first where there are too few, then what runs."""
        now = time.monotonic()
        asides = [_aside_line(aside, now - begun) for begun, aside in self._asides.values()]
        below = ["Nix", *_branches([[line] for line in asides])] if asides else []
        found = [*self._tree(now), *below]
        if len(found) > height:
            found = [*(self._run_line(key, now) for key in self._runs), *below]
        if len(found) > height:
            cut = max(height - 1, 0)
            found = [*found[:cut], dim(f"… and {len(found) - cut} more")][:height]
        return found

    # ------------------------------------------------------------------------------------- the tree

    def _of(self, node: Node) -> list[_Run]:
        return [run for key, run in self._runs.items() if key[0] is node]

    def _run_line(self, key: tuple[Node, int], now: float) -> str:
        run = self._runs[key]
        what = f"{run.where}: {run.phase}" if run.phase else run.where
        return f"{paint('⏵', 'blue')} {label_of(*key)} {dim(what)} {duration(now - run.begun)}{_last(run.line)}"

    def _tree(self, now: float) -> list[str]:
        below: dict[Node | None, list[tuple[Node, int] | Node]] = {}
        seen: set[Node] = set()
        for key in self._runs:
            child: tuple[Node, int] | Node = key
            node = key[0]
            while True:
                above = self._consumer(node)
                below.setdefault(above, []).append(child)
                if above is None or above in seen:
                    break
                seen.add(above)
                child = node = above
        return [line for top in below.get(None, ()) for line in self._rows(top, below, now)]

    def _rows(
        self, top: tuple[Node, int] | Node, below: dict[Node | None, list[tuple[Node, int] | Node]], now: float
    ) -> Iterator[str]:
        if isinstance(top, tuple):
            yield self._run_line(top, now)
            return
        names = [top.label]
        while len(below[top]) == 1 and isinstance(only := below[top][0], Node):
            names.append(only.label)
            top = only
        if len(names) > _NAMES:
            names = [names[0], "…", *names[-_NAMES + 2 :]]
        yield dim(" › ".join(names))
        yield from _branches([list(self._rows(child, below, now)) for child in below[top]])

    def _consumer(self, node: Node) -> Node | None:
        """The first stage that waits for this one."""
        if self._waiting_for is None:
            self._waiting_for = {}
            for one in self._nodes:
                for used in one.inputs:
                    self._waiting_for.setdefault(used, one)
        return self._waiting_for.get(node)


def _branches(children: Sequence[Sequence[str]]) -> Iterator[str]:
    """Children below their parent, each with its own lines below it."""
    for number, lines in enumerate(children):
        last = number == len(children) - 1
        for line_number, line in enumerate(lines):
            first, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield dim(rest if line_number else first) + line


def _aside_line(aside: Aside, seconds: float) -> str:
    source = dim(f" {host_of(aside.source)}") if aside.source else ""
    if aside.what == "download":
        amount = size(aside.done) + (f" of {size(aside.expected)}" if aside.expected else "")
        return f"{paint('↓', 'cyan')} {aside.name} {amount}{source}"
    phase = f" {dim(aside.phase)}" if aside.phase else ""
    return f"{paint('⏵', 'blue')} {aside.name}{phase}{source} {duration(seconds)}{_last(aside.line)}"


def _last(line: str) -> str:
    return dim(f" │ {line.strip()}") if line.strip() else ""


def host_of(source: str) -> str:
    """A store's URL, short."""
    parts = urlsplit(source)
    return parts.hostname or parts.path or source
