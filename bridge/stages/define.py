"""What users write: the functions that make stages."""

from __future__ import annotations

import inspect
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, overload
from urllib.parse import urlsplit

from bridge.formats.errors import FormatError
from bridge.formats.hashes import Hash

from .naming import required_name
from .place import Place
from .policy import OPTIONS, Builder, OnError, Policy
from .values import (
    FetchRecipe,
    HostRecipe,
    NixRecipe,
    OutputPath,
    Promise,
    PythonRecipe,
    ShellRecipe,
    SourceRecipe,
    Stage,
    Value,
    check_stage_name,
    freeze,
)

__all__ = ["fetchurl", "fixed_hash", "flake", "host", "host_system", "nix", "shell", "source", "stage"]

_FIXED = Policy(deterministic=True)

RUN = "run"
"""The parameter that takes the run: metrics, index, seed."""


@overload
def stage(function: Callable[..., Any], /) -> Stage: ...
@overload
def stage(
    *,
    name: str | None = None,
    deterministic: bool = False,
    realizations: int = 1,
    match: Callable[..., Any] | None = None,
    on_error: OnError = "fail",
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    cpu_time: float | None = None,
    memory: int | str | None = None,
    resources: Mapping[str, int | float | str] = ...,
    environ: Sequence[str] = (),
    previous: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Stage]: ...
def stage(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    deterministic: bool = False,
    **policy: Any,
) -> Stage | Callable[[Callable[..., Any]], Stage]:
    """Make a stage of a function.

    Its parameters with defaults are config (JSON values), inputs (stages, `stage / "file"`,
    `stage.output`, lists of them) or promised outputs (`out("file")`). One parameter without a default
    may be named `run`. When the stage runs, inputs and promised outputs are `pathlib.Path`.

    Parameters
    ----------
    name
        The function's name without it.
    deterministic
        Whether all realizations are the same; then there is one.
    realizations
        How many to have before the matcher picks.
    match
        The matcher: `best("accuracy")`, `latest()`, …, or a function of the candidates.
    on_error
        `keep` stores a run that fails as a failed realization, and goes on with the others.
    retries, backoff
        How often a run that failed is tried again; seconds before the first time, doubled each time.
    timeout, cpu_time
        Seconds of the clock, or of the processors, after which a run is ended.
    memory
        Bytes that one process of a run may take, such as `"8G"`.
    resources
        What a run takes of the machine, such as `{"gpu": 1, "mem": "8G"}`.
    environ
        Names of environment variables of the user that a run may see; else it sees few.
    previous
        A matcher that picks the earlier realization that a new one goes on from.

    Raises
    ------
    StageError
        With the place of what can not be.
    """
    place = Place.caller()
    if unknown := ", ".join(option for option in policy if option not in OPTIONS):
        raise place.error(f"unknown option {unknown} of a stage", hint=f"there are {', '.join(OPTIONS)}")
    options = Policy(deterministic=deterministic, **policy)

    def decorate(function: Callable[..., Any]) -> Stage:
        return _python_stage(function, name, options, place)

    return decorate if function is None else decorate(function)


def _python_stage(function: Callable[..., Any], name: str | None, policy: Policy, place: Place) -> Stage:
    inner = inspect.unwrap(function)
    if not isinstance(inner, FunctionType):
        raise place.error(f"a stage is made of a function, not of {function!r}")
    code = inner.__code__
    at = Place(code.co_filename, code.co_firstlineno)
    name = check_stage_name(name or inner.__name__, at)
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        raise at.error(f"the function of the stage {name} is async or a generator: calling it would run nothing")
    arguments: dict[str, Value] = {}
    run = None
    for parameter in inspect.signature(inner).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise at.error(f"the parameter {parameter} of the stage {name} has no name that it could be given by")
        if parameter.default is not parameter.empty:
            arguments[parameter.name] = freeze(parameter.default, at, f"the parameter {parameter.name} of {name}")
        elif parameter.name == RUN:
            run = parameter.name
        else:
            raise at.error(
                f"the parameter {parameter.name} of the stage {name} has no default",
                hint="give it a config value, an input or out(…); only the parameter run goes without",
            )
    for argument, value in arguments.items():
        if isinstance(value, Promise) and (argument in _RESERVED):
            raise at.error(f"an output can not be named {argument!r}: a stage has that attribute itself")
    recipe = PythonRecipe(inner, _decorated_at(code), arguments, run, wrapped=inner is not function)
    return Stage(name, recipe, policy, at)


def _decorated_at(code: CodeType) -> int:
    """The line of the function's module that is being run; 0 where the function is given from elsewhere."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == code.co_filename and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return 0


_RESERVED = frozenset(("name", "recipe", "policy", "place", "options", "promises", "inputs"))


def shell(
    script: str | None = None,
    *,
    name: str | None = None,
    tools: Sequence[Stage | OutputPath] = (),
    shell: str | Stage | OutputPath = "/bin/sh",
    stdenv: Stage | OutputPath | None = None,
    outputs: Sequence[str] = ("out",),
    system: str | None = None,
    deterministic: bool = True,
    realizations: int = 1,
    match: Callable[..., Any] | None = None,
    builder: Builder = "auto",
    **arguments: Any,
) -> Stage:
    """Make a stage of a shell script, which Nix builds in its sandbox.

    The folder `$out` (and that of each other output) exists when the script begins. The script ends at
    the first command that fails and at a variable that is not set.

    With a stdenv the stage is what `stdenv.mkDerivation` makes of the arguments: its setup has run when the script
    begins, `$out` is the script's to make, and without a script the phases run (unpackPhase of `src`, …).

    Parameters
    ----------
    script
        For a POSIX shell; with a stdenv, for bash.
    name
        The variable's name that the stage is assigned to without it.
    tools
        Stages whose `bin` goes on PATH.
    shell
        The shell that runs the script: a path of the sandbox, or a path inside a stage.
    stdenv
        Such as `flake("nixpkgs#stdenv")`.
    outputs
        Names of the outputs; `stage.NAME` refers to one.
    system
        As Nix names it, such as x86_64-linux; this machine's without it.
    deterministic
        False for a script with many true results.
    builder
        Where it is built: auto, nix or local.
    arguments
        Environment variables: config, inputs, or `out("file")`, as Nix converts them.
    """
    place = Place.caller()
    found = check_stage_name(required_name(name, "shell"), place)
    if not isinstance(script, str) and not (script is None and stdenv is not None):
        raise place.error(f"the script of {found} is no text but {script!r}")
    if stdenv is not None and not (isinstance(stdenv, Stage | OutputPath) and shell == "/bin/sh"):
        raise place.error(
            f"the stdenv of {found} is a stage, and brings its own shell", hint='write stdenv=flake("nixpkgs#stdenv")'
        )
    if isinstance(outputs, str) or len(set(outputs)) != len(outputs) or not outputs:
        raise place.error(f"the outputs of {found} must be different names, one at least")
    for output in outputs:
        check_stage_name(output, place)
        if output in _RESERVED or output in _SHELL_RESERVED or output == "drv":
            raise place.error(f"an output of {found} can not be named {output!r}: that name means something else")
    for variable in arguments:
        if variable in _SHELL_RESERVED or variable in outputs:
            raise place.error(f"the argument {variable} of {found} has a name that Nix uses itself")
    if not deterministic and list(outputs) != ["out"]:
        raise place.error(f"the stage {found} is not deterministic, so that it may have one output only, out")
    frozen = {key: freeze(value, place, f"the argument {key} of {found}") for key, value in arguments.items()}
    for argument, value in frozen.items():
        if isinstance(value, Promise) and argument in _RESERVED:
            raise place.error(f"an output can not be named {argument!r}: a stage has that attribute itself")
    for tool in tools:
        if not isinstance(tool, Stage | OutputPath):
            raise place.error(f"a tool of {found} is {tool!r}", hint='tools are stages, such as flake("nixpkgs#gzip")')
    recipe = ShellRecipe(
        script,
        frozen,
        tuple(tools),
        OutputPath(shell, "out", "bin/sh") if isinstance(shell, Stage) else shell,
        system or host_system(),
        tuple(outputs),
        deterministic,
        stdenv,
    )
    return Stage(found, recipe, Policy(realizations, match, builder, deterministic), place)


_SHELL_RESERVED = frozenset(("PATH", "args", "builder", "system", "outputHash", "outputHashAlgo", "outputHashMode")) | {
    f"__{name}" for name in ("contentAddressed", "ignoreNulls", "impure", "json", "structuredAttrs")
}


def host_system() -> str:
    """This machine's system as Nix names it."""
    machine = platform.machine()
    return f"{ {'arm64': 'aarch64'}.get(machine, machine) }-{platform.system().lower()}"


def fetchurl(url: str | Sequence[str], *, hash: str, name: str | None = None, unpack: bool = False) -> Stage:
    """A file from the network (http, https, ftp) or from a `file://` URL, known by its hash.

    Parameters
    ----------
    url
        One URL, or mirrors in the order in which to try them. They have no part in the store path.
    hash
        Of the file, as `nix hash file` prints it; with `unpack` of the folder, as `nix hash path` does.
    name
        The last part of the first URL without it; with `unpack` without what names an archive.
    unpack
        Whether the file is an archive, and the stage what is in it; see `unpack`.
    """
    place = Place.caller()
    urls = (url,) if isinstance(url, str) else tuple(url)
    if not urls:
        raise place.error("fetchurl needs a URL")
    for one in urls:
        if urlsplit(one).scheme not in ("http", "https", "ftp", "file"):
            raise place.error(f"{one!r} is no URL that can be fetched", hint="use http, https, ftp or file")
    last = urlsplit(urls[0]).path.rstrip("/").rpartition("/")[2]
    found = check_stage_name(name or (_ARCHIVE.sub("", last) if unpack else last), place)
    content = fixed_hash(hash, found, place, folder=unpack)
    return Stage(found, FetchRecipe(urls, content, unpack), _FIXED, place)


_ARCHIVE = re.compile(r"(?<=.)(\.(tar|tgz|tbz2?|txz|zip|gz|bz2|xz|zst))+$")
"""What the name of an archive ends with."""


def fixed_hash(text: str, name: str, place: Place, *, folder: bool) -> Hash:
    """The hash that what is fetched must have.

    Raises
    ------
    StageError
        For one that is none, and of a folder for one that is no sha256.
    """
    try:
        found = Hash.parse(text, None if "-" in text or ":" in text else "sha256")
    except FormatError as error:
        raise place.error(f"the hash of {name}: {error.message}", hint=error.hint) from None
    if folder and found.algorithm != "sha256":
        raise place.error(f"the hash of {name} is a {found.algorithm}, and of a folder it is a sha256")
    return found


def source(path: str | Path, *, name: str | None = None, keep: Callable[[str], bool] | None = None) -> Stage:
    """A file or folder of the project.

    Parameters
    ----------
    path
        Relative to the file that calls this.
    name
        The last part of `path` without it.
    keep
        Given a path relative to the folder, whether it goes in; a folder that does not go in hides all
        below it.
    """
    place = Place.caller()
    full = _beside(place, path)
    if not full.exists():
        raise place.error(f"there is no {full}")
    # Of a symbolic link, the name is its own and the contents are what it points to.
    return Stage(check_stage_name(name or Path(path).name or full.name, place), SourceRecipe(full, keep), _FIXED, place)


def host(program: str, *, name: str | None = None) -> Stage:
    """A statically linked program of this machine, such as busybox, as an input.

    For machines without nixpkgs. The program itself is what is hashed. A multi-call program that can
    list its applets (busybox) brings them along, `sh` among them.
    """
    place = Place.caller()
    return Stage(check_stage_name(name or Path(program).name, place), HostRecipe(Path(program)), _FIXED, place)


def nix(
    file: str | Path | None = None,
    *,
    expr: str | None = None,
    drv: str | None = None,
    attr: str | None = None,
    args: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Stage:
    """A derivation of Nix's: a file (with an attribute), an expression, or a `.drv`.

    Evaluation is pure: it sees the files that the code names by relative paths, and its arguments.

    Parameters
    ----------
    file
        A Nix file, relative to the file that calls this.
    expr
        A Nix expression.
    drv
        The store path of a `.drv`.
    attr
        The attribute to take, such as `packages.gzip`.
    args
        Arguments of the function that the file or the attribute is: config values and inputs. With inputs, it is
        evaluated when these are chosen, and gets their store paths. A function that takes `system`, `pkgs` or
        `nixpkgs` gets these without being given them: pkgs is of the flake that `nixpkgs` is locked to.
    """
    place = Place.caller()
    if sum(way is not None for way in (file, expr, drv)) != 1:
        raise place.error("nix takes one of a file, expr= and drv=")
    found = check_stage_name(required_name(name, "nix"), place)
    if drv is not None and (attr or args):
        raise place.error(f"the stage {found} is a derivation, which has no attributes and takes no arguments")
    given = {key: freeze(value, place, f"the argument {key} of {found}") for key, value in (args or {}).items()}
    for key, value in given.items():
        if isinstance(value, Promise):
            raise place.error(f"the argument {key} of {found} must be a config value or an input")
    recipe = NixRecipe(expr, None if file is None else _beside(place, file), None, drv, attr, given)
    return Stage(found, recipe, _FIXED, place)


def flake(installable: str, *, name: str | None = None) -> Stage:
    """A package of a flake: `nixpkgs#gzip`, `.#tool`, `github:owner/repo#attr^out,dev`.

    A folder is relative to the file that calls this; every other flake is locked in `bridge.lock`.
    """
    place = Place.caller()
    reference, _, fragment = installable.partition("#")
    last = fragment.partition("^")[0].rpartition(".")[2] or "default"
    if reference.startswith((".", "/")):
        installable = f"{_beside(place, reference)}#{fragment}"
    found = check_stage_name(name or last, place)
    return Stage(found, NixRecipe(installable=installable), _FIXED, place)


def _beside(place: Place, path: str | Path) -> Path:
    return Path(place.file).resolve().parent.joinpath(path).resolve()
