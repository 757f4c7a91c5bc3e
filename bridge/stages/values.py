"""Stages as values: what a user writes, before anything is computed from it.

A `Stage` is a name, a recipe (what makes it), a policy (how many, which matcher, where it runs: never
hashed) and the place where it was written. It never changes: calling it or giving it options makes
another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from glob import escape, has_magic
from pathlib import Path, PurePosixPath
from types import FunctionType
from typing import Any

from bridge.formats.errors import FormatError
from bridge.formats.hashes import Hash
from bridge.formats.nix_json import dumps
from bridge.formats.store_path import check_name

from .place import Place
from .policy import OPTIONS, Policy

__all__ = [
    "FetchRecipe",
    "GitRecipe",
    "HostRecipe",
    "NixRecipe",
    "OutputPath",
    "Promise",
    "PythonRecipe",
    "Recipe",
    "ShellRecipe",
    "SourceRecipe",
    "Stage",
    "TextRecipe",
    "Value",
    "check_stage_name",
    "each",
    "freeze",
    "out",
    "references",
]


@dataclass(frozen=True, slots=True)
class Promise:
    """What a stage promises to write below its output.

    Parameters
    ----------
    path
        What the stage is given, and what others use of it.
    pattern
        What must be there, where that is not `path` itself: a glob relative to the output.
    """

    path: str
    pattern: str | None = None

    def is_kept(self, output: Path) -> bool:
        """Whether the stage wrote it."""
        if self.pattern is not None:
            return any(True for _ in output.glob(self.pattern))
        return os.path.lexists(output / self.path)


def out(path: str, *, prefix: bool = False) -> Promise:
    """Promise that the stage writes `path`, relative to its output.

    A glob such as `shards/*.npz` promises one match at least; the stage is given the folder above the first
    wildcard.

    Parameters
    ----------
    prefix
        Whether names begin with `path` (TensorFlow's checkpoints): the stage is given the path, and one file
        at least must begin with it.

    Raises
    ------
    StageError
        If `path` is empty, absolute, or leaves the output.
    """
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not parts or ".." in parts or PurePosixPath(path).is_absolute() or "\0" in path:
        raise Place.caller().error(
            f"a promised output must be a path inside the stage's output, not {path!r}",
            hint='write out("model.pkl") or out("sub/folder"): relative, without ..',
        )
    if prefix:
        return Promise(str(PurePosixPath(path)), f"{escape(str(PurePosixPath(path)))}*")
    wild = next((number for number, part in enumerate(parts) if has_magic(part)), None)
    if wild is None:
        return Promise(str(PurePosixPath(path)))
    return Promise(str(PurePosixPath(*parts[:wild])), str(PurePosixPath(path)))


@dataclass(frozen=True, slots=True, eq=False)
class OutputPath:
    """A path inside what a stage makes: an output, and a path below it (empty: the output itself).

    With `each`, whoever uses it is made once for each realization that was chosen of the stage.
    """

    stage: Stage
    output: str = "out"
    path: str = ""
    each: bool = False
    named: bool = False
    """Whether the output was named, so that `out` is not the one that a package of Nix means by default."""

    def __truediv__(self, more: str) -> OutputPath:
        return replace(self, path=_join(self.path, more))

    def __repr__(self) -> str:
        output = "" if self.output == "out" else f".{self.output}"
        path = f" / {self.path!r}" if self.path else ""
        shown = f"{self.stage.name}{output}{path}"
        return f"each({shown})" if self.each else shown


def each(used: Stage | OutputPath) -> OutputPath:
    """Map over a stage: what has this as an input is made once for each realization that was chosen of it.

    Without it, several chosen realizations arrive together, as a list.

    Raises
    ------
    StageError
        For what is no stage and no path inside one.
    """
    if not isinstance(used, Stage | OutputPath):
        raise Place.caller().error(f"each() takes a stage or a path inside one, not {used!r}")
    return replace(OutputPath(used) if isinstance(used, Stage) else used, each=True)


def _join(path: str, more: str) -> str:
    joined = PurePosixPath(path, more)
    if not isinstance(more, str) or joined.is_absolute() or ".." in joined.parts:
        raise Place.caller().error(
            f"{more!r} is no path inside a stage's output", hint="use a relative path without .."
        )
    return "" if str(joined) == "." else str(joined)


# ---------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True, slots=True, eq=False)
class PythonRecipe:
    """A function: its arguments are config, inputs and promises; `run` names the one that takes the run.

    `beside` says that what it makes links to its inputs by relative paths, so that these must lie in the same store.
    """

    function: FunctionType
    decorated_at: int
    """The line of the decorator, which tells it from the decorators below it; 0 where it is none."""
    arguments: Mapping[str, Value]
    run: str | None
    beside: bool = False
    wrapped: bool = False
    """Whether the function was given inside of another one, which a decorator of it must have put around it."""


@dataclass(frozen=True, slots=True, eq=False)
class ShellRecipe:
    """A shell script that sees its arguments as environment variables.

    With a stdenv it runs after the stdenv's setup; without a script the stdenv's phases run.
    """

    script: str | None
    arguments: Mapping[str, Value]
    tools: tuple[Stage | OutputPath, ...]
    shell: str | OutputPath
    system: str
    outputs: tuple[str, ...]
    deterministic: bool
    stdenv: Stage | OutputPath | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FetchRecipe:
    """A file from the first of several URLs that gives what the hash says, or (`unpack`) the folder in it."""

    urls: tuple[str, ...]
    hash: Hash
    unpack: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class GitRecipe:
    """The files of a commit."""

    url: str
    rev: str
    hash: Hash


@dataclass(frozen=True, slots=True, eq=False)
class TextRecipe:
    """A file that is written in the stage file."""

    contents: bytes


@dataclass(frozen=True, slots=True, eq=False)
class SourceRecipe:
    """A file or folder of the project, as far as `keep` lets it in."""

    path: Path
    keep: Callable[[str], bool] | None


@dataclass(frozen=True, slots=True, eq=False)
class HostRecipe:
    """A statically linked program of this machine, as a source object."""

    program: Path


@dataclass(frozen=True, slots=True, eq=False)
class NixRecipe:
    """A derivation that Nix evaluates: exactly one of the four ways to name it.

    Parameters
    ----------
    arguments
        For the functions that the code is; where some are inputs, it is evaluated when these are chosen.
    """

    expr: str | None = None
    file: Path | None = None
    installable: str | None = None
    drv: str | None = None
    attr: str | None = None
    arguments: Mapping[str, Value] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether it is evaluated only when inputs are chosen."""
        return any(True for value in self.arguments.values() for _ in references(value))


Recipe = PythonRecipe | ShellRecipe | FetchRecipe | GitRecipe | SourceRecipe | TextRecipe | HostRecipe | NixRecipe


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A stage; see the module. Make one with `stage`, `shell`, `fetchurl`, `source`, `host`, `nix` or `flake`."""

    name: str
    recipe: Recipe
    policy: Policy
    place: Place

    def __call__(self, **arguments: Any) -> Stage:
        """The same stage with other arguments; the policy stays.

        Raises
        ------
        StageError
            For an argument that the stage does not have, or a value that it can not take.
        """
        place = Place.caller()
        recipe = self.recipe
        if not isinstance(recipe, PythonRecipe | ShellRecipe):
            raise place.error(f"the stage {self.name} takes no arguments")
        for name, value in arguments.items():
            if name not in recipe.arguments:
                have = ", ".join(recipe.arguments) or "none"
                raise place.error(f"the stage {self.name} has no argument {name!r}", hint=f"it has {have}")
            if isinstance(recipe.arguments[name], Promise) != isinstance(value, Promise):
                raise place.error(f"the argument {name} of {self.name} must stay what it is: a promised output or not")
        frozen = {name: freeze(value, place, f"{self.name}({name}=…)") for name, value in arguments.items()}
        return replace(self, recipe=replace(recipe, arguments={**recipe.arguments, **frozen}), place=place)

    def options(self, **policy: Any) -> Stage:
        """The same stage under another policy, such as `realizations` or `match`; see `Policy`."""
        if unknown := ", ".join(name for name in policy if name not in OPTIONS):
            raise Place.caller().error(f"unknown option {unknown} of a stage", hint=f"there are {', '.join(OPTIONS)}")
        return replace(self, policy=replace(self.policy, **policy))

    def __truediv__(self, path: str) -> OutputPath:
        """The path `path` inside the stage's output."""
        return OutputPath(self) / path

    def __getattr__(self, name: str) -> OutputPath:
        if name.startswith("_"):
            raise AttributeError(name)
        promises = self.promises
        if name in promises:
            path = promises[name].path
            return OutputPath(self, "out", "" if path == "." else path)
        recipe = self.recipe
        if isinstance(recipe, NixRecipe) or (isinstance(recipe, ShellRecipe) and name in recipe.outputs):
            return OutputPath(self, name, named=True)
        have = ", ".join([*promises, *getattr(recipe, "outputs", ())]) or "none"
        raise AttributeError(f"the stage {self.name} has no output {name!r} (it has {have})")

    @property
    def promises(self) -> dict[str, Promise]:
        """The promised outputs by the arguments' names."""
        arguments = getattr(self.recipe, "arguments", {})
        return {name: value for name, value in arguments.items() if isinstance(value, Promise)}

    @property
    def config(self) -> dict[str, Value]:
        """The arguments that are neither inputs nor promises."""
        arguments: Mapping[str, Value] = getattr(self.recipe, "arguments", {})
        kinds = (Stage, OutputPath, Promise, tuple)
        return {name: value for name, value in arguments.items() if not isinstance(value, kinds)}

    @property
    def uses(self) -> Iterator[OutputPath]:
        """What this stage uses of others."""
        recipe = self.recipe
        if isinstance(recipe, PythonRecipe | ShellRecipe | NixRecipe):
            for value in recipe.arguments.values():
                yield from references(value)
        if isinstance(recipe, ShellRecipe):
            for tool in (*recipe.tools, recipe.shell, recipe.stdenv):
                yield from references(tool)

    @property
    def inputs(self) -> Iterator[Stage]:
        """The stages that this one uses, once for each use."""
        return (used.stage for used in self.uses)

    def __repr__(self) -> str:
        return f"<stage {self.name} at {self.place.file}:{self.place.line}>"


Value = Any
"""A config value (JSON), a `Stage`, an `OutputPath`, a tuple of these two, or a `Promise`."""


def references(value: Value) -> Iterator[OutputPath]:
    """What of other stages is in an argument."""
    match value:
        case Stage():
            yield OutputPath(value)
        case OutputPath():
            yield value
        case tuple():
            for item in value:
                yield from references(item)


def freeze(value: Value, place: Place, what: str) -> Value:
    """An argument as it is kept: inputs as they are, lists of inputs as tuples, config checked and copied.

    Raises
    ------
    StageError
        For a value that is neither an input nor JSON.
    """
    if isinstance(value, Stage | OutputPath | Promise):
        return value
    if isinstance(value, list | tuple) and any(isinstance(item, Stage | OutputPath) for item in value):
        for item in value:
            if not isinstance(item, Stage | OutputPath):
                raise place.error(f"{what} mixes inputs with {item!r}", hint="a list of inputs holds stages only")
        return tuple(value)
    try:
        return _config(value, place, what)
    except RecursionError:
        raise place.error(f"{what} holds itself, or is nested too deep for JSON") from None


def _config(value: Value, place: Place, what: str) -> Value:
    hint = "config values are None, bool, int, float, str, lists and dicts with text keys"
    match value:
        case None | bool() | int():
            return value
        case str():
            if not _is_unicode(value):
                raise place.error(f"{what} is {value!r}, which is no Unicode text", hint=hint)
            return value
        case float():
            try:
                dumps(value)
            except FormatError:
                raise place.error(f"{what} is {value}, which JSON can not hold", hint=hint) from None
            return value
        case list() | tuple():
            return [_config(item, place, f"{what}[{number}]") for number, item in enumerate(value)]
        case dict():
            for key in value:
                if not isinstance(key, str) or not _is_unicode(key):
                    raise place.error(f"{what} has the key {key!r}, which JSON can not hold", hint=hint)
            return {key: _config(item, place, f"{what}[{key!r}]") for key, item in value.items()}
        case Stage() | OutputPath():
            raise place.error(f"{what} is an input inside a config value", hint="give inputs an argument of their own")
        case Path():
            raise place.error(
                f"{what} is a path of this machine",
                hint=f'a file becomes an input with source("{value}")',
            )
    raise place.error(f"{what} is a {type(value).__name__}, which JSON can not hold", hint=hint)


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text: no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_stage_name(name: str, place: Place) -> str:
    """Return `name` if Nix allows it for a derivation."""
    try:
        check_name(name)
    except FormatError as error:
        raise place.error(error.message, hint=error.hint) from None
    if name.startswith(".") or name.endswith(".drv"):
        raise place.error(f"a stage can not be named {name!r}", hint="no dot at the start, no .drv at the end")
    return name
