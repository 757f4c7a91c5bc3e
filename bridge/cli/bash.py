"""Shells that users are put into: variables as bash reads them, and bash itself with an environment.

    'text'        printable text; a quote in it is '\\''
    $'\\303\\n'    anything else, byte by byte

Source: Bash manual, "Quoting".
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bridge.formats.errors import BridgeError

__all__ = ["ShellError", "declare", "define", "quote", "run_bash"]


class ShellError(BridgeError):
    """A shell that can not be had."""


def quote(text: str) -> str:
    """A value for bash's `eval`, whatever bytes it has (no text: as `os.fsdecode` gives them)."""
    if text.isprintable() and "'" not in text:
        return f"'{text}'"
    if text.isprintable():
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join(map(_escaped, os.fsencode(text))) + "'"


def _escaped(byte: int) -> str:
    char = chr(byte)
    if byte == 0x0A:
        return "\\n"
    if char in "\\'":
        return f"\\{char}"
    return char if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def declare(variables: Mapping[str, str]) -> str:
    """Lines that export variables; what bash can have no variable of is left out."""
    return "".join(
        f"export {name}={quote(value)}\n"
        for name, value in sorted(variables.items())
        if _is_name(name) and value is not None
    )


def define(functions: Mapping[str, str]) -> str:
    """Lines that define functions, by name to body."""
    return "".join(f"{name} () {{\n{body}\n}}\n" for name, body in sorted(functions.items()))


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()


def run_bash(start: Path, command: str | None, *, cwd: Path | None = None, env: Mapping[str, str]) -> int:
    """Run a command in bash, or bash itself for the user; gives the exit status.

    Parameters
    ----------
    start
        A file of commands that come first.
    command
        For bash; without it, what is typed, or what comes on standard input where that is no terminal.

    Raises
    ------
    ShellError
        If there is no bash.
    """
    bash = shutil.which("bash")
    if bash is None:
        raise ShellError("there is no bash on this machine", hint="install it, such as: apt-get install bash")
    if command is not None:
        arguments = ["--norc", "-c", '. "$0"; eval "$1"', str(start), command]
    elif os.isatty(0):
        arguments = ["--rcfile", str(start), "-i"]
    else:
        arguments = ["--norc", "-c", '. "$0"; . /dev/stdin', str(start)]
    # The shell's own business; a handler, which the shell does not inherit, and not SIG_IGN, which it would.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.run([bash, *arguments], cwd=cwd, env=dict(env), check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status
