"""`develop`, `print-dev-env` and `direnvrc`: the environment of a stage or of the project, to work in."""

from __future__ import annotations

import json as json_module
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from .bash import declare, define, quote, run_bash
from .debugging import enter_target
from .options import BuilderOption, JsonOption, SetOption, StoreOption
from .setting import find_nix

if TYPE_CHECKING:
    from bridge.realize.session import PythonSession, ShellSession

__all__ = ["develop_command", "direnvrc_command", "print_dev_env_command"]

_BUILDERS_OWN = ("HOME", "PWD", "TERM", "NIX_STORE", "NIX_BUILD_CORES")
"""Variables of a builder that are no use to a user, who keeps his own."""
_SCRATCH = ("NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP")

MaybeTarget = Annotated[
    str | None, typer.Argument(metavar="[TARGET]", help="A stage, as FILE.py:STAGE; without it, the project.")
]


def develop_command(
    target: MaybeTarget = None,
    command: Annotated[
        str | None,
        typer.Option(
            "-c", "--command", metavar="COMMAND…", help="Run all that follows, and end: a line for bash, or words."
        ),
    ] = None,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
) -> None:
    """Enter the environment of a stage: its tools on PATH, its inputs and config as variables, $out a scratch folder.

    nixbridge develop stages.py:clean -c 'run_stage && ls $out'; nixbridge develop -c python -m pytest -q

    Your own environment stays around it. Without a target it is the project's: the dev shell of flake.nix through
    nix develop, or without that file the Python that runs nixbridge.
    """
    if target is None:
        _develop_project(command, store)
    with enter_target(target or "", settings, builder, store, register=False) as session:
        folder = session.folder.parent
        environ, functions = _environment(session)
        scratch = dict.fromkeys(_SCRATCH, str(session.folder))
        status = _enter(folder, {**environ, **scratch}, functions, session.label, command)
    raise typer.Exit(status)


class _CommandLast(TyperCommand):
    """A command whose option -c takes all that follows, as that of `nix develop`; of one word, bash makes the words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place = next((number for number, one in enumerate(args) if one in ("-c", "--command")), len(args))
        words = args[place + 1 :]
        if len(words) > 1:
            args = [*args[: place + 1], shlex.join(words)]
        return super().parse_args(ctx, args)


develop_command.command_class = _CommandLast  # type: ignore[attr-defined]


def print_dev_env_command(
    target: MaybeTarget = None,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print the environment that develop enters: for bash's eval, or with --json as nix print-dev-env does.

    eval "$(nixbridge print-dev-env stages.py:train)"

    $out and other outputs are folders below ./outputs, as with Nix.
    """
    functions: dict[str, str] = {}
    if target is None:
        folder = _flake_folder()
        if folder is not None:
            raise typer.Exit(_nix("print-dev-env", folder, ["--json"] * json))
        environ = _project_environment(store)
    else:
        with enter_target(target, settings, builder, store, register=False) as session:
            environ, functions = _environment(session)
            for name, path in getattr(session, "outputs", {"out": session.out}).items():
                stays = str(Path.cwd() / "outputs" / name)
                environ = {key: value.replace(str(path), stays) for key, value in environ.items()}
                functions = {key: value.replace(str(path), stays) for key, value in functions.items()}
    if json:
        environ["PATH"] = ":".join(filter(None, (environ.get("PATH"), os.environ.get("PATH"))))
        variables = {name: {"type": "exported", "value": value} for name, value in sorted(environ.items())}
        print(json_module.dumps({"bashFunctions": functions, "variables": variables}, indent=2))
        return
    path = environ.pop("PATH", None)
    prefix = "" if path is None else f"export PATH={quote(path)}${{PATH:+:$PATH}}\n"
    sys.stdout.write(declare(environ) + prefix + define(functions))


def direnvrc_command() -> None:
    """Print the direnv function `use nixbridge`, for an .envrc.

    echo 'eval "$(nixbridge direnvrc)"; use nixbridge stages.py:train' > .envrc
    """
    print(resources.files("bridge.cli").joinpath("direnvrc").read_text(), end="")


# ------------------------------------------------------------------------------------------ a stage


def _environment(session: PythonSession | ShellSession) -> tuple[dict[str, str], dict[str, str]]:
    """Variables, and functions by name to body; PATH holds the stage's tools only."""
    from bridge.realize.session import ShellSession

    if isinstance(session, ShellSession):
        dropped = (*_BUILDERS_OWN, *_SCRATCH)
        environ = {name: value for name, value in session.environ.items() if name not in dropped}
        tools = session.tools
        environ = {name: value for name, value in environ.items() if name != "PATH"}
        return environ | ({"PATH": tools} if tools else {}), {"run_stage": f"  {shlex.join(session.command)}"}
    values: dict[str, Any] = {**session.config, **session.inputs, **session.promises, "out": session.out}
    return {name: _text(value) for name, value in values.items()} | {"name": session.stage}, {}


def _text(value: Any) -> str:
    """A value of a Python stage as a variable: text as it is, paths with blanks between, all else as JSON."""
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(item, Path) for item in value):
        return " ".join(map(str, value))
    return json_module.dumps(value)


def _enter(
    folder: Path, environ: Mapping[str, str], functions: Mapping[str, str], label: str, command: str | None
) -> int:
    start = folder / "start.bash"
    own = dict(environ)
    path = own.pop("PATH", None)
    prefix = "" if path is None else f"export PATH={quote(path)}${{PATH:+:$PATH}}\n"
    # The user's own start comes first: it may set what the stage's environment is to win over.
    user = "[ -f ~/.bashrc ] && . ~/.bashrc\n" if command is None and sys.stdin.isatty() else ""
    prompt = f"PS1={quote(f'[{label}] ')}$PS1\n" if user else ""
    start.write_text(user + declare(own) + prefix + define(functions) + prompt)
    return run_bash(start, command, env=os.environ)


# --------------------------------------------------------------------------------------- the project


def _flake_folder() -> Path | None:
    """The folder of the flake.nix here or above; None without one, or without Nix."""
    here = Path.cwd()
    found = next((folder for folder in (here, *here.parents) if (folder / "flake.nix").is_file()), None)
    return found if find_nix() is not None else None


def _develop_project(command: str | None, store: str | None) -> None:
    folder = _flake_folder()
    if folder is not None:
        raise typer.Exit(_nix("develop", folder, [] if command is None else ["-c", "bash", "-c", command]))
    with tempfile.TemporaryDirectory(prefix="nixbridge-") as scratch:
        raise typer.Exit(_enter(Path(scratch), _project_environment(store), {}, Path.cwd().name, command))


def _project_environment(store: str | None) -> dict[str, str]:
    """The Python that runs nixbridge, with what is installed beside it."""
    environ = {"PATH": str(Path(sys.executable).parent)}
    if sys.prefix != sys.base_prefix:
        environ["VIRTUAL_ENV"] = sys.prefix
    return environ | ({"NIXBRIDGE_STORE": str(Path(store).absolute())} if store else {})


def _nix(what: str, folder: Path, arguments: list[str]) -> int:
    nix = find_nix()
    assert nix is not None
    features = ["--extra-experimental-features", "nix-command flakes"]
    status = subprocess.run([nix.program("nix"), *features, what, str(folder), *arguments], check=False).returncode
    if status:
        _tell_untracked(folder / "flake.nix")
    return status


def _tell_untracked(file: Path) -> None:
    """Say so, if Git does not track a file that Nix did not find."""
    from bridge.lock.folders import Folder, untracked

    folder = Folder(file.parent)
    if folder.repository is not None and file.resolve() in [folder.repository / one for one in untracked(folder)]:
        print(f"hint: Nix does not see files that Git does not track: git add {file}", file=sys.stderr)
