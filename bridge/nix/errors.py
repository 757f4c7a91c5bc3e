"""What goes wrong with an installed Nix, each with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bridge.formats.errors import BridgeError

__all__ = [
    "NixBuildError",
    "NixCancelledError",
    "NixConnectionError",
    "NixDaemonError",
    "NixError",
    "NixEvaluationError",
    "NixMissingPathError",
    "NixNotFoundError",
    "hint_for",
    "plain",
]

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")

_HINTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), hint)
    for pattern, hint in (
        (
            r"build-users-group",
            "as root Nix builds as members of a group that is missing or empty here: "
            "write `build-users-group =` into nix.conf to build as root, or create the group nixbld with users in it",
        ),
        (
            r"cannot connect to (?:socket|daemon)|Connection refused",
            "start the daemon (systemctl start nix-daemon), or set NIX_REMOTE=local if you may write to the store",
        ),
        (
            r"experimental (?:Nix )?feature '([^']+)' is disabled",
            "allow it in nix.conf, such as: experimental-features = nix-command flakes ca-derivations",
        ),
        (
            r"hash mismatch in fixed-output derivation",
            "if you trust what was fetched, write the hash behind `got:` into the fetch",
        ),
        (
            r"namespace|unshare|clone\(\)|sandbox",
            "Nix could not set its sandbox up: allow user namespaces here, or write `sandbox = false` into nix.conf",
        ),
        (
            r"No space left on device",
            "free space: nix-collect-garbage deletes what no root keeps",
        ),
        (
            r"is required to build|platform mismatch",
            "this derivation is for another system: add a remote builder for it (`builders` in nix.conf)",
        ),
        (
            r"[Pp]ermission denied|Operation not permitted|Read-only file system|creating directory",
            "this user may not write to the Nix store: start the daemon, or point NIX_REMOTE to a store of your own, "
            "such as local?root=$HOME/nix",
        ),
        (
            r"timed out after",
            "raise `timeout` or `max-silent-time` in nix.conf, or make the build say something now and then",
        ),
    )
)


def plain(text: str) -> str:
    """`text` without the terminal's colours and other escape sequences."""
    return _ANSI.sub("", text)


def hint_for(message: str, otherwise: str | None = None) -> str | None:
    """What to do about a message of Nix, if it is one that people meet."""
    for pattern, hint in _HINTS:
        if pattern.search(message):
            return hint
    return otherwise


class NixError(BridgeError):
    """Anything that an installed Nix refuses or fails at; the message is without colours."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(plain(message).strip(), hint=hint, file=file, line=line)


class NixNotFoundError(NixError):
    """There is no Nix on this machine, or a program of it is missing."""

    def __init__(self, message: str = "Nix is not installed: there is no nix-build in PATH") -> None:
        super().__init__(
            message,
            hint="install it (https://nixos.org/download, or apt-get install nix-bin), or put its bin folder into PATH",
        )


class NixConnectionError(NixError):
    """The connection to Nix could not be made, broke, or was given up; a new one is needed."""


class NixDaemonError(NixError):
    """Nix refused a request.

    Parameters
    ----------
    op
        The request in words, such as `add hello.txt`.
    level
        Nix's verbosity level of the error; 0 is an error.
    traces
        What Nix was doing, outermost first, as far as it says.
    """

    def __init__(self, message: str, *, op: str, level: int = 0, traces: Sequence[str] = ()) -> None:
        text = plain(message).strip()
        super().__init__(f"Nix can not {op}: {text}", hint=hint_for(text))
        self.op = op
        self.level = level
        self.traces = tuple(plain(trace) for trace in traces)


class NixMissingPathError(NixError):
    """A store object at `path` is needed and Nix's store does not have it."""

    def __init__(self, path: str) -> None:
        hint = "build it or copy it there first; nixbridge instantiate --add brings all that a stage needs"
        super().__init__(f"{path} is not in Nix's store", hint=hint)
        self.path = path


class NixEvaluationError(NixError):
    """A Nix expression or a flake that can not be evaluated; `file` and `line` say where, if Nix does."""


class NixBuildError(NixError):
    """nix-build failed.

    Parameters
    ----------
    failed
        The `.drv` paths that were seen failing; empty if Nix did not get so far.
    log_tail
        The last lines of the first one's log.
    command
        What shows its whole log, if there is one.
    status
        The exit status of nix-build: 100 a builder failed, 101 time, 102 wrong hash, 104 not deterministic.
    """

    def __init__(
        self,
        message: str,
        *,
        failed: Sequence[str] = (),
        log_tail: Sequence[str] = (),
        command: str | None = None,
        status: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint or (f"the whole log: {command}" if command else None))
        self.failed = tuple(failed)
        self.log_tail = list(log_tail)
        self.command = command
        self.status = status


class NixCancelledError(NixError):
    """A build that was ended because its caller asked for it."""
