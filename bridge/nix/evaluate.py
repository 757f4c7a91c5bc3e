"""Nix expressions and flakes to store derivations.

    installable   REF [# attribute path] [^ outputs]      outputs: * | name { , name }

Source: Nix manual, `nix-instantiate`, "Installables" (`command-ref/new-cli/nix`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .activity import ERROR, Message, Parser
from .errors import NixEvaluationError, hint_for
from .installation import Installation

__all__ = ["flake_drv", "instantiate"]

_LOG = ("--log-format", "internal-json")
_FEATURES = ("--extra-experimental-features", "nix-command flakes")

_ASK = """d: {
  type = d.type or null;
  drv = d.drvPath;
  outputs = d.outputs or [ "out" ];
  chosen = d.meta.outputsToInstall or [ (d.outputName or "out") ];
}"""
"""Applied to what an installable names; asking for drvPath makes Nix write the `.drv`."""


def instantiate(
    installation: Installation,
    *,
    expr: str | None = None,
    file: Path | None = None,
    attr: str | None = None,
    args: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> list[str]:
    """The `.drv` paths that an expression evaluates to, written to the store.

    Parameters
    ----------
    expr, file
        Nix code, or a file (or folder with a default.nix) that holds it; one of the two.
    attr
        The attribute path within it.
    args
        Strings for the arguments of a function that the code is (`--argstr`).
    timeout
        Seconds; evaluation may fetch, so there is none unless asked for.

    Raises
    ------
    NixEvaluationError
        With Nix's message, and the place in the code if Nix names it.
    """
    if (expr is None) == (file is None):
        raise NixEvaluationError("instantiate takes an expression or a file, one of the two")
    command = [installation.program("nix-instantiate"), *_LOG]
    command += ["--expr", expr] if expr is not None else [str(Path(file or "").absolute())]
    if attr:
        command += ["-A", attr]
    for name, value in (args or {}).items():
        command += ["--argstr", name, value]
    what = f"{file or 'the expression'}{f' ({attr})' if attr else ''}"
    lines = _ask(installation, command, what, timeout).split()
    return list(dict.fromkeys(line.partition("!")[0] for line in lines))


def flake_drv(
    installation: Installation, installable: str, *, timeout: float | None = None
) -> tuple[str, tuple[str, ...]]:
    """The store derivation that an installable names, and the outputs of it that are meant.

    Parameters
    ----------
    installable
        Such as `nixpkgs#gzip` or `path:/folder#tool^out,dev`. Without `^` the outputs are those that
        the package wants installed.

    Raises
    ------
    NixEvaluationError
        If there is no such derivation, or it lacks an output.
    """
    reference, found, wanted = installable.rpartition("^")
    if not found:
        reference, wanted = installable, ""
    command = [installation.program("nix"), "eval", "--json", *_FEATURES, *_LOG, "--apply", _ASK, reference]
    answer = json.loads(_ask(installation, command, reference, timeout))
    outputs: list[str] = answer["outputs"]
    if not found:
        return answer["drv"], tuple(answer["chosen"])
    if wanted == "*":
        return answer["drv"], tuple(outputs)
    names = tuple(dict.fromkeys(name for name in wanted.split(",") if name))
    missing = [name for name in names if name not in outputs]
    if missing or not names:
        lacks = f"has no output {missing[0]!r}" if missing else "is asked for no output"
        raise NixEvaluationError(f"{reference} {lacks}", hint=f"its outputs are {', '.join(outputs)}")
    return answer["drv"], names


def _ask(installation: Installation, command: list[str], what: str, timeout: float | None) -> str:
    """The standard output of an evaluation."""
    done = installation.run(command, timeout=timeout)
    if done.returncode == 0:
        return done.stdout
    parser = Parser()
    events = (parser.parse(line) for line in done.stderr.splitlines())
    messages = [event for event in events if isinstance(event, Message)]
    errors = [
        message for message in messages if message.level <= ERROR and not message.text.startswith(("warning:", "(use "))
    ]
    # Without an event for the error, such as for a wrong option, the plain lines must do.
    text = errors[0].text if errors else "\n".join(message.text for message in messages)
    text = text.removeprefix("error:").strip() or f"status {done.returncode}"
    raise NixEvaluationError(
        f"Nix can not evaluate {what}: {text}",
        hint=hint_for(text),
        file=errors[0].file if errors else None,
        line=errors[0].line if errors else None,
    )
