"""From a recipe to a derivation or a source object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    InputOutputs,
    Output,
    own_output,
)
from bridge.formats.derivation.json import STRUCTURED
from bridge.formats.hashes import Hash
from bridge.formats.nix_json import JSON, dumps

from .code import stage_code
from .define import host_system
from .nix_code import nix_tree, uses_packages
from .sources import SourceObject, code_object, tree_object
from .values import (
    FetchRecipe,
    GitRecipe,
    NixRecipe,
    OutputPath,
    Promise,
    PythonRecipe,
    ShellRecipe,
    Stage,
    Value,
    references,
)

__all__ = [
    "NIX_BUILDER",
    "PYTHON_BUILDER",
    "Inputs",
    "Parts",
    "Stdenv",
    "derivation_of",
    "nix_object",
]

PYTHON_BUILDER = "builtin:nixbridge-python"
"""The builder of a host-bound Python stage: nothing of a host, and refused by Nix with a clear word."""

NIX_BUILDER = "builtin:nixbridge-nix"
"""The builder of a stage written in Nix: it stands for what the code evaluates to when its inputs are chosen."""

GIT_BUILDER = "builtin:nixbridge-fetchgit"
UNPACK_BUILDER = "builtin:nixbridge-fetch-unpack"
"""Builders of fixed outputs that we fetch; Nix has none that do the same."""

_BUILTIN_SYSTEM = "builtin"


@dataclass(slots=True)
class Parts:
    """What a derivation turns out to use while its values are written down."""

    drvs: dict[str, set[str]] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)
    objects: list[SourceObject] = field(default_factory=list)

    def use(self, path: str, output: str | None) -> None:
        """Use an output of the `.drv` at `path`, or (None) the object at `path`."""
        if output is None:
            self.sources.add(path)
        else:
            self.drvs.setdefault(path, set()).add(output)


Text = Callable[[OutputPath], str | list[str]]
"""How an input is written: its path or placeholder, or several paths where several were chosen."""


@dataclass(frozen=True, slots=True, eq=False)
class Stdenv:
    """How a stdenv wires derivations.

    Parameters
    ----------
    template
        The derivation that its mkDerivation makes of a name and nothing else.
    inputs
        Of each `.drv` that it uses, the modulo, and the paths of the outputs.
    """

    template: Derivation
    inputs: Mapping[str, tuple[str, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Inputs:
    """A stage's inputs, while its derivation is written down.

    Parameters
    ----------
    text
        The path or placeholder of an input, noting it in the stage's parts.
    outputs
        The names of all outputs of a stage.
    stdenv
        What a stage is as a stdenv; None for any other.
    packages
        The locked URL of nixpkgs, where a stage written in Nix speaks of it.
    resolved
        Whether paths stand in place of derivations.
    """

    text: Text
    outputs: Callable[[Stage], Collection[str]]
    stdenv: Callable[[Stage], Stdenv | None]
    packages: str | None
    resolved: bool


def derivation_of(
    stage: Stage,
    recipe: PythonRecipe | ShellRecipe | FetchRecipe | GitRecipe | NixRecipe,
    parts: Parts,
    inputs: Inputs,
) -> Derivation:
    """The derivation of a stage, its outputs not yet filled in.

    Parameters
    ----------
    parts
        Filled with what the derivation uses.
    """
    match recipe:
        case PythonRecipe():
            return _python(stage, recipe, parts, inputs.text)
        case ShellRecipe() if recipe.stdenv is not None:
            return _stdenv(stage, recipe, parts, inputs)
        case ShellRecipe():
            return _shell(stage, recipe, parts, inputs.text)
        case NixRecipe():
            return _nix(stage, recipe, parts, inputs)
        case FetchRecipe(unpack=False):
            return _fetch(stage, recipe)
        case FetchRecipe():
            urls = {"url": recipe.urls[0], "urls": " ".join(recipe.urls)}
            return _fetched_folder(stage, UNPACK_BUILDER, recipe.hash, urls)
        case GitRecipe():
            return _fetched_folder(stage, GIT_BUILDER, recipe.hash, {"rev": recipe.rev, "url": recipe.url})


def _derivation(
    name: str,
    outputs: dict[str, Output],
    parts: Parts,
    *,
    system: str,
    builder: str,
    args: tuple[str, ...] = (),
    env: dict[str, str],
) -> Derivation:
    drvs = {path: InputOutputs(tuple(sorted(used))) for path, used in parts.drvs.items()}
    return Derivation(name, outputs, drvs, tuple(sorted(parts.sources)), system, builder, args, env)


# ----------------------------------------------------------------------------------------- Python


def _python(stage: Stage, recipe: PythonRecipe, parts: Parts, text: Text) -> Derivation:
    code = stage_code(recipe.function, recipe.decorated_at, recipe.wrapped)
    found = code_object(f"{stage.name}-code", code)
    parts.objects.append(found)
    parts.sources.add(found.path)
    attributes: JSON = {
        "builder": PYTHON_BUILDER,
        "code": found.path,
        "config": stage.config,
        "function": f"{code.module}:{code.function}",
        "inputs": _written_inputs(recipe.arguments, text),
        "name": stage.name,
        "outputHashAlgo": "sha256",
        "outputHashMode": "recursive",
        "promises": {name: promise.path for name, promise in stage.promises.items()},
        "system": _BUILTIN_SYSTEM,
    }
    return _derivation(
        stage.name,
        {"out": Floating()},
        parts,
        system=_BUILTIN_SYSTEM,
        builder=PYTHON_BUILDER,
        env={STRUCTURED: dumps(attributes)},
    )


# ------------------------------------------------------------------------------------------ shell


def _shell(stage: Stage, recipe: ShellRecipe, parts: Parts, text: Text) -> Derivation:
    builder = recipe.shell if isinstance(recipe.shell, str) else _listed(text(recipe.shell))[0]
    env = {name: _env_value(value, text) for name, value in recipe.arguments.items()}
    env |= {"builder": builder, "name": stage.name, "system": recipe.system}
    if recipe.tools:
        tools = [path for tool in recipe.tools for used in references(tool) for path in _listed(text(used))]
        env["PATH"] = ":".join(f"{path}/bin" for path in tools)
    if recipe.outputs != ("out",):
        env["outputs"] = " ".join(recipe.outputs)
    outputs = _outputs(recipe, env)
    folders = "".join(f'mkdir -p "${name}"\n' for name in recipe.outputs)
    args = ("-euc", f"{folders}{recipe.script}")
    return _derivation(stage.name, outputs, parts, system=recipe.system, builder=builder, args=args, env=env)


def _outputs(recipe: ShellRecipe, env: dict[str, str]) -> dict[str, Output]:
    """The outputs of a shell stage; what the environment says of them goes into `env`."""
    if recipe.deterministic:
        return dict.fromkeys(recipe.outputs, Deferred())
    env |= {"outputHashAlgo": "sha256", "outputHashMode": "recursive"}
    return dict.fromkeys(recipe.outputs, Floating())


# ----------------------------------------------------------------------------------------- stdenv

_TOOLS = "nativeBuildInputs"
_DEPENDENCIES = frozenset(
    f"{kind}{where}"
    for kind in ("deps", "depsPropagated", "depsBuild", "depsTarget", "depsHost")
    for where in ("BuildBuild", "BuildTarget", "HostHost", "TargetTarget", "Build", "Host", "Target")
) | {"buildInputs", _TOOLS, "propagatedBuildInputs", "propagatedNativeBuildInputs"}
"""Attributes that take packages, of which mkDerivation uses the output `dev` where there is one (`lib.getDev`)."""


def _stdenv(stage: Stage, recipe: ShellRecipe, parts: Parts, inputs: Inputs) -> Derivation:
    """What the stdenv's mkDerivation makes of the arguments: its own derivation of nothing, with these put in."""
    (used,) = references(recipe.stdenv)
    stdenv = inputs.stdenv(used.stage)
    if stdenv is None:
        raise stage.place.error(
            f"the stdenv of {stage.name} is {used.stage.name}, which has no mkDerivation",
            hint='write stdenv=flake("nixpkgs#stdenv")',
        )
    template = stdenv.template
    inputs.text(used)
    parts.sources.update(template.input_srcs)
    for path, input_outputs in template.input_drvs.items():
        for output in input_outputs.outputs:
            if inputs.resolved:
                parts.sources.add(stdenv.inputs[path][1][output])
            else:
                parts.use(path, output)

    def dependencies(value: Value) -> str:
        """Packages as mkDerivation takes them."""
        listed = value if isinstance(value, tuple) else (value,)
        return _env_value(tuple(_dev(one, inputs) for one in listed), inputs.text)

    own = {name: value for name, value in recipe.arguments.items() if name != _TOOLS}
    env = dict(template.env)
    env |= {
        name: dependencies(value)
        if name in _DEPENDENCIES and any(references(value))
        else _env_value(value, inputs.text)
        for name, value in own.items()
    }
    tools = recipe.arguments.get(_TOOLS, ())
    tools = (*recipe.tools, *(tools if isinstance(tools, tuple) else (tools,)))
    if tools:
        env[_TOOLS] = dependencies(tools)
    if recipe.script is not None:
        env["buildCommand"] = recipe.script
    for output in template.outputs:
        del env[output]
    env |= {"name": stage.name, "system": recipe.system, "outputs": " ".join(recipe.outputs)}
    outputs = _outputs(recipe, env)
    builder, args = template.builder, template.args
    return _derivation(stage.name, outputs, parts, system=recipe.system, builder=builder, args=args, env=env)


def _dev(used: Value, inputs: Inputs) -> Value:
    """The package's `dev` where it is the package itself that is named, and has one."""
    return OutputPath(used, "dev") if isinstance(used, Stage) and "dev" in inputs.outputs(used) else used


# -------------------------------------------------------------------------------------------- Nix


def _nix(stage: Stage, recipe: NixRecipe, parts: Parts, inputs: Inputs) -> Derivation:
    """What stands for a stage written in Nix until its inputs are chosen; resolved, what it was evaluated for."""
    found, file, _ = nix_object(stage, recipe)
    parts.objects.append(found)
    parts.sources.add(found.path)
    attributes: JSON = {
        "attr": recipe.attr or "",
        "builder": NIX_BUILDER,
        "code": f"{found.path}{file}",
        "config": stage.config,
        "evaluatedFor": host_system(),
        "inputs": _written_inputs(recipe.arguments, inputs.text),
        "name": stage.name,
        "nixpkgs": inputs.packages,
        "outputHashAlgo": "sha256",
        "outputHashMode": "recursive",
        "system": _BUILTIN_SYSTEM,
    }
    outputs: dict[str, Output] = {"out": Floating()}
    env = {STRUCTURED: dumps(attributes)}
    return _derivation(stage.name, outputs, parts, system=_BUILTIN_SYSTEM, builder=NIX_BUILDER, env=env)


def nix_object(stage: Stage, recipe: NixRecipe) -> tuple[SourceObject, str, bool]:
    """The object with an expression's files, which of them it is, and whether they speak of nixpkgs."""
    tree, file = nix_tree(stage, recipe)
    return tree_object(f"{stage.name}-code", tree, None), file, uses_packages(tree)


def _written_inputs(arguments: Mapping[str, Value], text: Text) -> dict[str, Any]:
    """The arguments that are inputs: a path, or several as a list."""
    inputs: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, tuple):
            inputs[name] = [path for used in references(value) for path in _listed(text(used))]
        elif isinstance(value, Stage | OutputPath):
            inputs[name] = text(next(references(value)))
    return inputs


def _env_value(value: Value, text: Text) -> str:
    """A value as Nix puts it into the environment (`coerceToString`)."""
    match value:
        case Promise(path):
            return f"{own_output('out')}/{path}"
        case Stage() | OutputPath():
            return " ".join(_listed(text(next(references(value)))))
        case None | False:
            return ""
        case True:
            return "1"
        case float():
            return f"{value:f}"
        case list() | tuple():
            # As Nix does it: a blank behind each item but the last, and but empty lists.
            blanks = ["" if item == [] else " " for item in value[:-1]]
            return "".join(map("".join, zip_longest((_env_value(item, text) for item in value), blanks, fillvalue="")))
        case dict():
            return dumps(value)
    return str(value)


def _listed(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else text


# ------------------------------------------------------------------------------------------ fetch


def _fetch(stage: Stage, recipe: FetchRecipe) -> Derivation:
    """What `<nix/fetchurl.nix>` makes, with all mirrors in `urls`."""
    builder = "builtin:fetchurl"
    env = {
        "builder": builder,
        "executable": "",
        "impureEnvVars": "http_proxy https_proxy ftp_proxy all_proxy no_proxy",
        "name": stage.name,
        "outputHash": recipe.hash.sri,
        "outputHashAlgo": "",
        "outputHashMode": "flat",
        "preferLocalBuild": "1",
        "system": _BUILTIN_SYSTEM,
        "unpack": "",
        "url": recipe.urls[0],
        "urls": " ".join(recipe.urls),
    }
    outputs: dict[str, Output] = {"out": Fixed.of(stage.name, "out", "flat", recipe.hash)}
    return _derivation(stage.name, outputs, Parts(), system=_BUILTIN_SYSTEM, builder=builder, env=env)


def _fetched_folder(stage: Stage, builder: str, content: Hash, where: Mapping[str, str]) -> Derivation:
    """A fixed output that is a folder: its path is the one that any fetcher gives a folder of this name and hash."""
    env = {
        **where,
        "builder": builder,
        "name": stage.name,
        "outputHash": content.sri,
        "outputHashAlgo": "",
        "outputHashMode": "recursive",
        "preferLocalBuild": "1",
        "system": _BUILTIN_SYSTEM,
    }
    outputs: dict[str, Output] = {"out": Fixed.of(stage.name, "out", "nar", content)}
    return _derivation(stage.name, outputs, Parts(), system=_BUILTIN_SYSTEM, builder=builder, env=env)
