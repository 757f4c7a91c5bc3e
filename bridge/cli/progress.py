"""Readers of the engine's events: plain lines, or a live view on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bridge.realize.events import (
    Aside,
    Chosen,
    Event,
    Failed,
    Finished,
    Line,
    Note,
    Phase,
    Retrying,
    Skipped,
    Started,
    Waiting,
)
from bridge.realize.matchers import Candidate, Matcher
from bridge.realize.matchers import shown as shown_matcher
from bridge.stages.plan import Node

from .live import Board, host_of, label_of
from .render import age, counted, dim, duration, number, paint, size, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

__all__ = ["Progress", "candidate_table"]

_TABLE_ROWS = 12


class Progress:
    """Tells on standard error what happens; a context manager.

    With `live`, on a terminal, what runs is shown live below the lines; elsewhere there are lines only. With
    `quiet`, failures and notes only.
    """

    def __init__(self, nodes: Sequence[Node], *, logs: bool = False, quiet: bool = False, live: bool = True) -> None:
        self._total = len(nodes)
        self._logs = logs
        self._quiet = quiet
        # Two locks: the live view's thread takes the first while it holds the terminal.
        self._lock = threading.Lock()
        self._printing = threading.Lock()
        self._begun = time.monotonic()
        self._board = Board(nodes)
        self._chosen = 0
        self._made = 0
        self._failed = 0
        self._downloads: list[int] = []
        self._console: Console | None = None
        self._live: Live | None = None
        terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._is_live = terminal and not quiet and live

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take one event; from any thread."""
        with self._printing:
            with self._lock:
                line = self._take(event)
            if line is not None:
                self._print(line)
            if self._is_live and self._board and self._live is None:
                self._start_live()

    def _take(self, event: Event) -> str | None:
        match event:
            case Started(node, where, index):
                self._board.start(node, index, where)
                return None if self._quiet or self._is_live else f"{label_of(node, index)} running ({where})"
            case Phase(node, name):
                self._board.phase(node, name)
            case Line(node, text):
                self._board.line(node, text)
                return f"{dim(node.label + ' │')} {text}" if self._logs and not self._quiet else None
            case Aside():
                return self._take_aside(event)
            case Finished(node, realization):
                self._board.end(node, realization.index)
                if realization.result != "done":
                    self._failed += 1
                    message = (realization.error or {"message": realization.result})["message"].splitlines()[0]
                    return (
                        f"{paint('✘', 'red')} {label_of(node, realization.index)}: {message} (kept as {realization.id})"
                    )
                self._made += 1
                if not self._quiet:
                    took = duration(realization.stopped - realization.started)
                    shown = "".join(f" {name}={number(value)}" for name, value in realization.metrics.items())
                    return f"{paint('✔', 'green')} {label_of(node, realization.index)}{shown} {dim(took)}"
            case Failed(node, error):
                self._failed += 1
                self._board.end(node)
                return f"{paint('✘', 'red')} {node.label}: {error.message.splitlines()[0]}"
            case Retrying(node, error, seconds):
                self._board.end(node)
                said = error.message.splitlines()[0]
                return f"{paint('⟳', 'yellow')} {node.label}: {said}; again in {duration(seconds)}"
            case Skipped(node, because):
                return f"{paint('⚠', 'yellow')} {node.label}: not realized, since {because.label} failed"
            case Waiting(node, holder):
                return f"{paint('⏳', 'yellow')} {node.label}: waiting for {holder}"
            case Chosen(node, matcher, candidates, chosen):
                self._chosen += 1
                if len(candidates) > 1 and not self._quiet and not node.stage.policy.deterministic:
                    return candidate_table(node, matcher, candidates, chosen)
            case Note(text):
                return f"{paint('note:', 'yellow')} {text}"
        return None

    def _take_aside(self, aside: Aside) -> str | None:
        is_new, seconds = self._board.aside(aside)
        if aside.what == "download":
            if not aside.ended:
                return None
            self._downloads.append(aside.done)
            source = f" from {host_of(aside.source)}" if aside.source else ""
            shown = f"{paint('↓', 'cyan')} {aside.name} {size(aside.done)}{source} {dim(duration(seconds))}"
            return None if self._quiet or self._is_live else shown
        if self._logs and not self._quiet and aside.line and not aside.ended:
            return f"{dim(aside.name + ' │')} {aside.line}"
        return f"{aside.name} running (nix)" if is_new and not self._quiet and not self._is_live else None

    def _print(self, line: str) -> None:
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text.from_ansi(line), soft_wrap=True)
        else:
            # Whoever reads the progress may go away; the work goes on.
            with contextlib.suppress(OSError, ValueError):
                print(line, file=sys.stderr, flush=True)

    # ---------------------------------------------------------------------------------- live view

    def _start_live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        self._live = Live(console=self._console, get_renderable=self._view, refresh_per_second=8, transient=True)
        self._live.start()

    def _view(self) -> Any:
        from rich.text import Text

        assert self._console is not None
        with self._lock:
            # The summary, and a line for the cursor.
            lines = self._board.lines(max(self._console.height - 2, 1))
            failed = f", {self._failed} failed" if self._failed else ""
            count = len(self._downloads)
            fetched = f", {count} download{'s' * (count > 1)} ({size(sum(self._downloads))})" if count else ""
            lines.append(
                dim(f"{self._chosen}/{self._total} stages, {self._made} realizations made{failed}{fetched}, ")
                + dim(duration(time.monotonic() - self._begun))
            )
        return Text.from_ansi("\n".join(f"  {line}" for line in lines), no_wrap=True, overflow="ellipsis")


def candidate_table(node: Node, matcher: Matcher, candidates: Sequence[Candidate], chosen: Sequence[Candidate]) -> str:
    """The candidates of a stage and which of them were chosen."""
    metrics = list(dict.fromkeys(name for one in candidates for name in one.metrics))
    ids = {one.id for one in chosen}
    shown = [one for one in candidates if one.id in ids]
    others = [one for one in reversed(candidates) if one.id not in ids][: max(0, _TABLE_ROWS - len(shown))]
    visible = {one.id for one in (*shown, *others)}
    rows = [
        [
            "→" if one.id in ids else "",
            one.id,
            str(one.index),
            *(number(one.metrics[name]) if name in one.metrics else "" for name in metrics),
            duration(one.stopped - one.started),
            age(one.started),
        ]
        for one in candidates
        if one.id in visible
    ]
    left = len(candidates) - len(rows)
    title = f"{paint(node.label, 'bold')}: {shown_matcher(matcher)} of {counted(len(candidates), 'realization')}"
    shown_table = table(rows, ["", "id", "#", *metrics, "took", "when"], sys.stderr)
    body = "\n".join(f"  {line}" for line in shown_table.splitlines())
    return f"{title}\n{body}" + (f"\n  {dim(f'and {left} more')}" if left else "")
