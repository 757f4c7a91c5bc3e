"""`debug`: stop before a stage runs, and take over."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bridge.realize.errors import BuildError, RealizeError
from bridge.stages.errors import TargetError

from .bash import declare, define, run_bash
from .completing import targets
from .options import BuilderOption, SetOption, StoreOption
from .referring import ground_of
from .render import dim
from .setting import builder_named, find_nix, open_located, plan_of

if TYPE_CHECKING:
    from bridge.realize.failed import FailedBuild
    from bridge.realize.session import PythonSession, Session, ShellSession

__all__ = ["debug_command", "enter_target"]

_TERMINAL = ("TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR")


def debug_command(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="FILE.py[:STAGE] or package.module[:STAGE].", autocompletion=targets),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option("-c", "--command", metavar="CODE", help="Python for a Python stage, bash for a shell stage."),
    ] = None,
    failed: Annotated[
        str | None,
        typer.Option(metavar="STAGE|FOLDER", help="Enter what a failed build left under realize --keep-failed."),
    ] = None,
    index: Annotated[int | None, typer.Option(min=0, help="Which realization it is to be; the next one.")] = None,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
) -> None:
    """Stop before a stage runs: its inputs are realized, its output folder is there, and you take over.

    nixbridge debug stages.py:train

    A Python stage gives a Python prompt with inputs, config, run, call(), step(), accept() and cancel(); a shell
    stage gives bash in its environment, with run_stage, accept and cancel. Only accept records a result. Without a
    terminal, what to do is read from standard input.
    """
    from bridge.realize.session import PythonSession

    if (target is None) == (failed is None):
        raise TargetError("debug takes a TARGET or --failed, one of the two", hint="nixbridge debug stages.py:train")
    if failed is not None:
        _enter_failed(failed, command, store)
    assert target is not None
    with enter_target(target, settings, builder, store, index=index) as session:
        if isinstance(session, PythonSession):
            status = _python(_names(session), command, str(session))
        else:
            status = _shell(session, command)
        if session.state == "open" and command is None and sys.stdin.isatty():
            # Control-D at the question is a no.
            try:
                if typer.confirm("accept the result", err=True):
                    session.accept()
            except typer.Abort:
                pass
        session.cancel()
        _tell(session, target, store)
        if status and session.realization is None:
            raise typer.Exit(status)


def enter_target(
    target: str,
    settings: list[str] | None,
    builder: str,
    store: str | None,
    *,
    index: int | None = None,
    register: bool = True,
) -> PythonSession | ShellSession:
    """A session of the stage that a target names, its inputs realized."""
    from bridge.realize.debug import debug
    from bridge.realize.engine import Options

    from .progress import Progress

    plan = plan_of(target, settings or (), store)
    opened = open_located(store, target)
    nix = None if builder == "local" and not any(node.needs_nix for node in plan.nodes) else find_nix()
    options = Options(builder=builder_named(builder))
    with Progress(plan.nodes) as progress:
        return debug(plan, store=opened, nix=nix, options=options, index=index, register=register, report=progress)


def _tell(session: Session, target: str, store: str | None) -> None:
    if session.realization is not None:
        ground = ground_of(open_located(store, target))
        for path in session.realization.outputs.values():
            print(ground.find(path) or path)
        print(f"accepted {session.label} as {session.realization.id}", file=sys.stderr)
    else:
        print(f"cancelled {session.label}: nothing is recorded", file=sys.stderr)


# ----------------------------------------------------------------------------------------- Python


def _names(session: PythonSession) -> dict[str, Any]:
    return {
        **session.arguments,
        "accept": session.accept,
        "call": session.call,
        "cancel": session.cancel,
        "config": session.config,
        "inputs": session.inputs,
        "out": session.out,
        "run": session.run,
        "session": session,
        "step": lambda: _step(session.call),
    }


def _step(call: Any) -> Any:
    """Run the stage's function in Python's debugger, from its first line."""
    import pdb

    return call(lambda function, **arguments: pdb.Pdb().runcall(function, **arguments))


def _python(names: Mapping[str, Any], command: str | None, shown: str) -> int:
    """A Python prompt on a terminal; else the code of an option, or of standard input, with what it exits with."""
    if command is None and sys.stdin.isatty():
        _prompt(dict(names), shown)
        return 0
    text, file = (sys.stdin.read(), "<stdin>") if command is None else (command, "<command>")
    try:
        exec(compile(text, file, "exec"), dict(names))
    except SystemExit as end:
        return _status(end)
    except Exception as error:
        trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
        lines = "".join(traceback.format_exception(type(error), error, trace)).splitlines()
        raise BuildError(f"{file} raised {type(error).__name__}: {error}", stage="", log_tail=lines) from error
    return 0


def _status(end: SystemExit) -> int:
    """What Python would end with; a text it prints."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _prompt(names: dict[str, Any], shown: str) -> None:
    banner = f"{shown}\ncall() runs it, step() in the debugger; accept() records the result, cancel() leaves nothing"
    try:
        from IPython import start_ipython
    except ImportError:
        import code
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
        # Python's own exit() closes standard input, and the question comes after it.
        names |= {"exit": sys.exit, "quit": sys.exit}
        with contextlib.suppress(SystemExit):
            code.interact(banner, local=names, exitmsg="")
    else:
        print(banner, file=sys.stderr)
        # Jedi, where it is installed, looks no further than the first dot of what is walked over.
        options = ["--no-banner", "--no-confirm-exit", "--IPCompleter.use_jedi=False"]
        start_ipython(argv=options, user_ns=names)


# ------------------------------------------------------------------------------------------ shell


def _shell(session: ShellSession, command: str | None) -> int:
    """Bash; what it ends with, where nobody sees it and nothing is accepted."""
    answer = session.folder.parent / "answer"
    functions = {
        "accept": f"  echo accept > {answer}; exit 0",
        "cancel": f"  echo cancel > {answer}; exit 0",
        "run_stage": f"  /bin/sh {session.folder.parent}/run_stage",
    }
    (session.folder.parent / "run_stage").write_text(session.script)
    status = _bash(session.folder.parent, session.folder, session.environ, functions, session.label, command, session)
    if answer.exists() and answer.read_text().strip() == "accept":
        session.accept()
        return 0
    return status if command is not None or not sys.stdin.isatty() else 0


def _bash(
    folder: Path,
    work: Path,
    environ: Mapping[str, str],
    functions: Mapping[str, str],
    label: str,
    command: str | None,
    shown: object,
) -> int:
    """Bash in the environment of a stage; `folder` takes the file that it begins with."""
    start = folder / "start.bash"
    prompt = f"PS1={_prompt_of(label)}\n"
    start.write_text(declare(environ) + define(functions) + prompt)
    if command is None and sys.stdin.isatty():
        told = ", ".join(sorted(functions))
        print(f"{shown}\n{dim(f'bash in the environment of the stage; there are {told}')}", file=sys.stderr)
    terminal = {name: os.environ[name] for name in _TERMINAL if name in os.environ}
    return run_bash(start, command, cwd=work, env={**terminal, **environ})


def _prompt_of(label: str) -> str:
    from .bash import quote

    return quote(f"[{label}] \\w $ ")


# ----------------------------------------------------------------------------------------- failed


def _enter_failed(name: str, command: str | None, store: str | None) -> NoReturn:
    """Enter what a failed build left."""
    from bridge.realize.failed import find_failed

    found = find_failed(open_located(store), name)
    shown = f"<failed {found.stage} in {found.folder}>\n  {found.facts['message']}"
    if "job" in found.facts:
        raise typer.Exit(_failed_python(found, command, shown))
    build = found.facts["build"]
    functions = {"run_stage": f"  {shlex.join([build['builder'], *build['args']])}"}
    work = found.folder / "work"
    raise typer.Exit(_bash(found.folder, work, build["environ"], functions, found.stage, command, shown))


def _failed_python(found: FailedBuild, command: str | None, shown: str) -> int:
    from bridge.realize.here import Here

    job = found.facts["job"]
    if not Path(job["code"]).is_dir():
        raise RealizeError(f"the code that failed is not in the store any more: {job['code']}")
    here = Here(job)
    names = {
        **here.arguments,
        "call": here.call,
        "out": here.run.out,
        "run": here.run,
        "step": lambda: _step(here.call),
    }
    return _python(names, command, shown)
