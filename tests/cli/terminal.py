"""A real terminal for a command: what its user sees, frame by frame."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyte

_DEADLINE = 60.0


@dataclass
class Session:
    """What a command showed."""

    screen: pyte.Screen
    frames: list[str] = field(default_factory=list)
    raw: bytes = b""
    status: int = 0

    @property
    def text(self) -> str:
        """What stands on the screen at the end."""
        return _text(self.screen)

    def frame_with(self, *parts: str) -> str:
        """The first frame that shows all of it."""
        return next((frame for frame in self.frames if all(part in frame for part in parts)), "")


def in_terminal(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    columns: int = 100,
    rows: int = 30,
    type_when: Sequence[tuple[str, bytes]] = (),
) -> Session:
    """Run a command in a terminal of its own to its end.

    Parameters
    ----------
    type_when
        Keys to be typed, one after the other, and the text on the screen upon which each are.
    """
    session = Session(pyte.Screen(columns, rows))
    to_type = list(type_when)
    stream = pyte.ByteStream(session.screen)
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.chdir(cwd)
        os.execvpe(command[0], list(command), {"TERM": "xterm-256color", **env})
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not data:
            break
        session.raw += data
        stream.feed(data)
        session.frames.append(session.text)
        # What asks where the cursor is waits for the answer.
        for _ in range(data.count(b"\x1b[6n")):
            os.write(terminal, f"\x1b[{session.screen.cursor.y + 1};{session.screen.cursor.x + 1}R".encode())
        if to_type and to_type[0][0] in session.text:
            os.write(terminal, to_type.pop(0)[1])
    else:
        os.kill(child, signal.SIGKILL)
    session.status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    return session


def _text(screen: pyte.Screen) -> str:
    return "\n".join(line.rstrip() for line in screen.display).rstrip()
