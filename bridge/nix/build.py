"""Let nix-build build derivations, and tell what happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from .activity import ERROR, BuildFinished, BuildStarted, Event, Line, Message, Parser
from .errors import NixBuildError, NixCancelledError, NixError, hint_for
from .installation import Installation

__all__ = ["Cancel", "build", "log_command", "read_log"]

TAIL = 20
"""How many lines of a failed build's log an error carries."""

_POLL = 0.1
_GRACE = 5.0
_QUOTED_DRV = re.compile(r"'(/nix/store/[^'/]+\.drv)'")
_ASIDES = ("warning:", "note:", "(use ")
"""How messages begin that Nix gives as errors and that are none."""
_STATUS = {
    101: "a build took too long",
    102: "a fetch gave other contents than its hash says",
    104: "a build gave another result than before",
}


class Cancel(Protocol):
    """What another thread sets to end a build: a `threading.Event`."""

    def is_set(self) -> bool: ...


def build(
    installation: Installation,
    drvs: Sequence[str],
    *,
    on_event: Callable[[Event], None] | None = None,
    keep_going: bool = False,
    keep_failed: bool = False,
    options: Mapping[str, str] | None = None,
    cancel: Cancel | None = None,
) -> None:
    """Build derivations with nix-build; returns when they are built.

    Parameters
    ----------
    drvs
        `.drv` paths for all outputs, or `PATH!out,dev` for some.
    on_event
        Called in this thread as things happen. If it raises, the build is ended.
    keep_going
        Whether the others are built after one failed.
    keep_failed
        Whether the build directories of failed builds are kept.
    options
        Settings of Nix by name, as with `--option`.
    cancel
        Looked at ten times a second.

    Raises
    ------
    NixBuildError
        If one could not be built.
    NixCancelledError
        If `cancel` was set.
    """
    if not drvs:
        return
    command = [installation.program("nix-build"), "--no-out-link", "--log-format", "internal-json"]
    command += ["--keep-going"] * keep_going + ["--keep-failed"] * keep_failed
    for name, value in (options or {}).items():
        command += ["--option", name, value]
    story = _Story()
    try:
        process = subprocess.Popen(
            [*command, *drvs],
            env=dict(installation.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except OSError as error:
        raise NixError(f"nix-build can not be started: {error.strerror or error}") from error
    parser = Parser()
    assert process.stderr is not None
    with process.stderr as stream:
        try:
            for line in _lines(process, stream.fileno(), cancel):
                event = parser.parse(line)
                if event is not None:
                    story.take(event)
                    if on_event is not None:
                        on_event(event)
            status = process.wait()
        finally:
            _end(process)
    if status:
        raise _failure(story, drvs, status)


def _lines(process: subprocess.Popen[bytes], descriptor: int, cancel: Cancel | None) -> Iterator[bytes]:
    """The lines of nix-build's stderr as they come, until it ends."""
    rest = b""
    ended = False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        if cancel is not None and cancel.is_set():
            raise NixCancelledError("the build was cancelled")
        if not poll.poll(_POLL * 1000):
            # Something that nix-build started may hold the pipe open for ever.
            if ended:
                break
            ended = process.poll() is not None
            continue
        data = os.read(descriptor, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _end(process: subprocess.Popen[bytes]) -> None:
    """End nix-build and what it started, kindly first: it ends its builders and releases its locks."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + _GRACE
        # Not wait(timeout): its pauses grow to half a second.
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    process.wait()


class _Story:
    """What must be remembered to explain a failure."""

    def __init__(self) -> None:
        self.logs: dict[str, deque[str]] = {}
        self.errors: list[str] = []
        self.finished: set[str] = set()

    def take(self, event: Event) -> None:
        match event:
            case BuildStarted(drv=drv):
                self.logs[drv] = deque(maxlen=TAIL)
            case Line(drv=drv, text=text):
                self.logs.setdefault(drv, deque(maxlen=TAIL)).append(text)
            case BuildFinished(drv=drv):
                self.finished.add(drv)
            case Message(level=level, text=text) if level <= ERROR and not text.startswith(_ASIDES):
                self.errors.append(text.removeprefix("error:").strip())

    def failed(self) -> list[str]:
        """The derivations whose own build failed, in the order of Nix's messages.

        Nix has no event for it, so an error message tells: one that begins by naming a single
        derivation, of which we saw the build begin. Messages that name several sum up.
        """
        found = []
        for error in self.errors:
            named = set(_QUOTED_DRV.findall(error.partition("\n")[0]))
            if len(named) == 1:
                (drv,) = named
                if drv in self.logs and drv not in found:
                    found.append(drv)
        if not found and len(self.logs) == 1:
            found = list(self.logs)
        return found


def log_command(drv: str) -> str:
    """The command that shows the whole log of a derivation's build."""
    return f"nix-store --read-log {shlex.quote(drv)}"


def _failure(story: _Story, drvs: Sequence[str], status: int) -> NixBuildError:
    failed = story.failed()
    if story.errors:
        # The first is the cause; the last sums up.
        cause = next((error for error in story.errors if failed and f"'{failed[0]}'" in error), story.errors[0])
    else:
        signalled = f"nix-build was ended by signal {-status}" if status < 0 else f"nix-build ended with {status}"
        cause = _STATUS.get(status, signalled)
    more = f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else ""
    if not failed and not any(drv in cause for drv in drvs):
        cause = f"Nix could not build {drvs[0]}: {cause}"
    return NixBuildError(
        cause + more,
        failed=failed,
        log_tail=story.logs.get(failed[0], ()) if failed else (),
        command=log_command(failed[0]) if failed else None,
        status=status,
        hint=hint_for(cause) if not failed or status == 102 else None,
    )


def read_log(installation: Installation, drv: str) -> str | None:
    """The whole log of the last build of a derivation; None if Nix has none."""
    done = installation.run([installation.program("nix-store"), "--read-log", drv])
    return done.stdout if done.returncode == 0 else None
