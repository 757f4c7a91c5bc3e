"""All commands by name, and what every one of them ends with: errors, signals, the output's end."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from bridge import __version__
from bridge.formats.errors import BridgeError

from .completing import bash_words
from .lazy import Group, group

__all__ = ["app", "main"]

COMMANDS = Group(
    "Nix for stages that are not deterministic: derivations in Python, many realizations, a matcher that picks.",
    {
        "Realize": {
            "realize": "realizing:realize_command",
            "check": "checking:check_command",
            "adopt": "checking:adopt_command",
            "run-md": "literate:run_md_command",
        },
        "Enter": {
            "debug": "debugging:debug_command",
            "develop": "developing:develop_command",
            "print-dev-env": "developing:print_dev_env_command",
            "direnvrc": "developing:direnvrc_command",
        },
        "Ask": {
            "show": "looking:show_command",
            "path": "looking:path_command",
            "ls": "asking:ls_command",
            "cat": "files:cat_command",
            "tree": "files:tree_command",
            "find": "searching:find_command",
            "history": "searching:history_command",
            "log": "asking:log_command",
            "note": "asking:note_command",
            "diff": "comparing:diff_command",
            "why": "comparing:why_command",
            "report": "reporting:report_command",
            "ui": "reporting:ui_command",
        },
        "Keep": {
            "link": "keeping:link_command",
            "tag": "keeping:tag_command",
            "keep": "keeping:keep_command",
            "du": "keeping:du_command",
            "gc": "dropping:gc_command",
            "rm": "dropping:rm_command",
            "verify": "mending:verify_command",
            "optimise": "mending:optimise_command",
        },
        "Move": {
            "pack": "moving:pack_command",
            "unpack": "moving:unpack_command",
            "copy": "moving:copy_command",
        },
        "Nix": {
            "init": "starting:init_command",
            "lock": "locking:lock_command",
            "push-nix": "pushing:push_nix_command",
            "push-cache": "pushing:push_cache_command",
            "instantiate": "deriving:instantiate_command",
            "derivation": Group(
                "Read and write store derivations.",
                {
                    "": {
                        "show": "deriving:show_derivation_command",
                        "add": "adding:add_derivation_command",
                        "diff": "closures:diff_command",
                        "graph": "closures:graph_command",
                        "why": "closures:why_command",
                    }
                },
            ),
            "hash": Group(
                "Compute hashes as Nix does.",
                {
                    "": {
                        "path": "hashing:hash_path_command",
                        "file": "hashing:hash_file_command",
                        "convert": "hashing:convert_command",
                    }
                },
            ),
            "store-path": "hashing:store_path_command",
            "nar": Group(
                "Pack and unpack Nix archives.",
                {
                    "": {
                        "pack": "archives:pack_command",
                        "unpack": "archives:unpack_command",
                        "ls": "archives:ls_nar_command",
                        "cat": "archives:cat_command",
                    }
                },
            ),
            "key": Group(
                "Make the keys that sign binary caches.",
                {"": {"generate": "keys:generate_command", "public": "keys:public_command"}},
            ),
        },
        "Help": {
            "doctor": "doctor:doctor_command",
        },
    },
)
"""Heading to command to "module:function": a module is imported when its command is called, or help is asked for."""


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"nixbridge {__version__}")
        raise typer.Exit


app = group(COMMANDS, name="nixbridge", callback=_root)


def main() -> NoReturn:
    """Run the command line; errors of the user's become one message and exit status 1."""
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    _open_streams()
    _tolerate_any_text()
    # Plans and records are many objects that live as long as the command: looking for garbage among them finds none.
    gc.set_threshold(100_000, 20, 20)
    bash_words(os.environ)
    try:
        try:
            app(prog_name="nixbridge")
        finally:
            _flush()
    except BridgeError as error:
        from .render import print_error

        print_error(error)
        sys.exit(1)
    except _Ended as ended:
        what = "interrupted" if ended.signal == signal.SIGINT else "terminated"
        print(f"nixbridge: {what}; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + ended.signal)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        _drop(1)
        sys.exit(1)
    except OSError as error:
        _drop(1)
        what = "the output can not be written" if error.filename is None else os.fsdecode(error.filename)
        print(f"error: {what}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _open_streams() -> None:
    """Have streams that were closed lead nowhere, lest the next file that is opened gets what was meant for them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is given.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _tolerate_any_text() -> None:
    """Print paths that are no text as their bytes, and what the terminal can not show as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            unicode = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if unicode else "backslashreplace")


def _flush() -> None:
    """Write out what is left; nobody reading the progress is no fault."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _drop(2)
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop(descriptor: int) -> None:
    """Have nothing left to be written there when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class _Ended(BaseException):
    """A signal asked us to end; not KeyboardInterrupt, which Typer takes for its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise _Ended(number)
