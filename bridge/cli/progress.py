"""Readers of the engine's events: plain lines, or a live view on a terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bridge.realize.events import (
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

from .render import age, dim, duration, number, paint, table

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Progress", "candidate_table"]

_TABLE_ROWS = 12


class Progress:
    """Tells on standard error what happens; a context manager.

    With `live`, on a terminal, what runs is shown live below the lines; elsewhere there are lines only. With
    `quiet`, failures and notes only.
    """

    def __init__(self, total: int, *, logs: bool = False, quiet: bool = False, live: bool = True) -> None:
        self._total = total
        self._logs = logs
        self._quiet = quiet
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._running: dict[tuple[Node, int], tuple[float, str]] = {}
        self._chosen = 0
        self._made = 0
        self._failed = 0
        self._live: Live | None = None
        self._is_live = sys.stderr is not None and sys.stderr.isatty() and not quiet and live

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take one event; from any thread."""
        with self._lock:
            line = self._take(event)
            if line is not None:
                self._print(line)
            if self._is_live and self._running and self._live is None:
                self._start_live()

    def _take(self, event: Event) -> str | None:
        match event:
            case Started(node, where, index):
                self._running[node, index] = (time.monotonic(), where)
                return None if self._quiet or self._is_live else f"{_label(node, index)} running ({where})"
            case Phase(node, name):
                for key, (begun, _) in self._running.items():
                    if key[0] is node:
                        self._running[key] = (begun, name)
            case Line(node, text):
                return f"{dim(node.label + ' │')} {text}" if self._logs and not self._quiet else None
            case Finished(node, realization):
                self._running.pop((node, realization.index), None)
                if realization.result != "done":
                    self._failed += 1
                    message = (realization.error or {"message": realization.result})["message"].splitlines()[0]
                    return (
                        f"{paint('✘', 'red')} {_label(node, realization.index)}: {message} (kept as {realization.id})"
                    )
                self._made += 1
                if not self._quiet:
                    took = duration(realization.stopped - realization.started)
                    shown = "".join(f" {name}={number(value)}" for name, value in realization.metrics.items())
                    return f"{paint('✔', 'green')} {_label(node, realization.index)}{shown} {dim(took)}"
            case Failed(node, error):
                self._failed += 1
                self._drop(node)
                return f"{paint('✘', 'red')} {node.label}: {error.message.splitlines()[0]}"
            case Retrying(node, error, seconds):
                self._drop(node)
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

    def _drop(self, node: Node) -> None:
        for key in [key for key in self._running if key[0] is node]:
            del self._running[key]

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

        self._live = Live(console=Console(stderr=True), get_renderable=self._view, refresh_per_second=8, transient=True)
        self._live.start()

    def _view(self) -> Any:
        from rich.text import Text

        now = time.monotonic()
        lines = [
            f"  {paint('⏵', 'blue')} {_label(node, index)} {dim(where)} {duration(now - begun)}"
            for (node, index), (begun, where) in list(self._running.items())
        ]
        failed = f", {self._failed} failed" if self._failed else ""
        lines.append(
            dim(f"  {self._chosen}/{self._total} stages, {self._made} realizations made{failed}, ")
            + dim(duration(now - self._begun))
        )
        return Text.from_ansi("\n".join(lines))


def _label(node: Node, index: int) -> str:
    return f"{node.label}[{index}]" if node.stage.policy.realizations > 1 or index else node.label


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
    title = f"{paint(node.label, 'bold')}: {shown_matcher(matcher)} of {len(candidates)} realizations"
    shown_table = table(rows, ["", "id", "#", *metrics, "took", "when"], sys.stderr)
    body = "\n".join(f"  {line}" for line in shown_table.splitlines())
    return f"{title}\n{body}" + (f"\n  {dim(f'and {left} more')}" if left else "")
