"""Nix expressions and flakes to store derivations: any number of them in one call of Nix.

    installable   REF [# attribute path] [^ outputs]      outputs: * | name { , name }

Evaluation is pure: an expression sees its own files, its arguments and what is pinned by a hash, so that the answer may
be kept for as long as these stay.

Source: Nix manual, `nix-instantiate`, "Installables" (`command-ref/new-cli/nix`), `pure-eval`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from .activity import ERROR, Message, Parser
from .errors import NixEvaluationError, hint_for
from .installation import Installation

__all__ = [
    "CodeItem",
    "Derived",
    "FlakeItem",
    "InStore",
    "Item",
    "ask",
    "attribute_path",
    "evaluate",
    "nix_value",
    "split_installable",
]

_LOG = ("--log-format", "internal-json")
FEATURES = ("--extra-experimental-features", "nix-command flakes")
_SHORT = 12
"""Lines of Nix's message that are shown."""

_PRELUDE = """
let
  inherit (builtins)
    any attrNames deepSeq elemAt filter foldl' functionArgs head intersectAttrs isAttrs isFunction length split tail
    toXML tryEval typeOf;

  # functionArgs does not tell `{ }:` from `{ ... }:`; a function without a pattern takes all as well.
  isOpen = function:
    let found = split "<attrspat( ellipsis=)?" (toXML function); in
    length found == 1 || head (elemAt found 1) != null;

  # What is `given` to any function only where it is named, if names are all that it has; `args` are the user's.
  call = given: args: value:
    if isFunction value then
      let wanted = functionArgs value; in
      value (
        if !isOpen value then intersectAttrs wanted (given // args)
        else if wanted == { } then given // args
        else intersectAttrs wanted given // args
      )
    else value;

  walk = value: names:
    if names == [ ] then { inherit value; }
    else if !isAttrs value then { missing = head names; inside = typeOf value; known = [ ]; }
    else if value ? ${head names} then walk value.${head names} (tail names)
    else { missing = head names; inside = "set"; known = attrNames value; };

  describe = value:
    if !isAttrs value then { type = typeOf value; }
    else if !(value ? drvPath) then { type = if value ? outPath then "source" else "set"; known = attrNames value; }
    else {
      drv = value.drvPath;
      outputs = value.outputs or [ "out" ];
      default = value.outputName or "out";
      install = value.meta.outputsToInstall or [ (value.outputName or "out") ];
      probe = if value ? mkDerivation then (value.mkDerivation { name = "probe"; }).drvPath else null;
    };

  answer = found: if found ? value then describe found.value else found;

  # The first way that leads to something; of none, what each lacks.
  first = ways:
    let hits = filter (way: way ? value) ways; in
    if hits == [ ] then { lacking = ways; } else answer (head hits);

  flake = { url, names }:
    let
      outputs = builtins.getFlake url;
      ways =
        if names == [ ] then [ [ "packages" system "default" ] [ "defaultPackage" system ] ]
        else [ ([ "packages" system ] ++ names) ([ "legacyPackages" system ] ++ names) names ];
    in
    first (map (walk outputs) ways);

  code = { source, file, names, given, args }:
    let
      start = import (source + file);
      found = walk (call given args start) names;
      functions = filter isFunction [ start found.value ];
      takes = foldl' (all: function: all // functionArgs function) { } functions;
      stray = filter (name: !(takes ? ${name} || any isOpen functions)) (attrNames args);
      # Without this, Nix would say what the function lacks, and not how it was misspelt.
      wanted = if isFunction start then functionArgs start else { };
      lacks = any (name: !wanted.${name} && !((given // args) ? ${name})) (attrNames wanted);
      misspelt = filter (name: !(wanted ? ${name})) (attrNames args);
    in
    if names == [ ] && lacks && misspelt != [ ] then { stray = misspelt; takes = attrNames wanted; }
    else if !(found ? value) then first [ found ]
    else if stray != [ ] then { inherit stray; takes = attrNames takes; }
    else first [ { value = call given args found.value; } ];

  guarded = value: let one = tryEval (deepSeq value value); in if one.success then one.value else { thrown = true; };
in
"""


@dataclass(frozen=True, slots=True)
class InStore:
    """A store path as an argument, and a path below it: Nix makes what uses it depend on the object."""

    path: str
    below: str = ""


@dataclass(frozen=True, slots=True)
class FlakeItem:
    """An attribute of a locked flake.

    Parameters
    ----------
    url
        Locked, so that pure evaluation takes it.
    fragment
        The attribute path; empty for the default package.
    """

    url: str
    fragment: str = ""

    def expression(self) -> str:
        names = nix_value([*attribute_path(self.fragment)])
        return f"flake {{ url = {nix_value(self.url)}; names = {names}; }}"


@dataclass(frozen=True, slots=True)
class CodeItem:
    """A Nix file inside a store object that is addressed by its NAR.

    Parameters
    ----------
    object, nar_hash
        The store path, and `sha256-…` of its NAR.
    file
        Below the object, such as `/default.nix`.
    args
        JSON values, `InStore`, and lists of these, for the functions that the file and the attribute are.
    packages
        The locked URL of the flake whose packages are the argument `pkgs`.
    """

    object: str
    nar_hash: str
    file: str
    attr: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    packages: str | None = None

    def expression(self) -> str:
        name = self.object.rpartition("/")[2].partition("-")[2]
        pinned = f"name = {nix_value(name)}; sha256 = {nix_value(self.nar_hash)};"
        source = f"builtins.path {{ path = {nix_value(self.object)}; {pinned} }}"
        args = nix_value(dict(self.args))
        given = "{ inherit system; }"
        if self.packages is not None:
            given += f" // (let nixpkgs = builtins.getFlake {nix_value(self.packages)}; in"
            given += " { inherit nixpkgs; pkgs = nixpkgs.legacyPackages.${system}; })"
        names = nix_value([*attribute_path(self.attr or "")])
        own = f"given = {given}; args = {args};"
        return f"code {{ source = {source}; file = {nix_value(self.file)}; names = {names}; {own} }}"


Item = FlakeItem | CodeItem


@dataclass(frozen=True, slots=True)
class Derived:
    """What an item evaluated to.

    Parameters
    ----------
    drv
        The path of the `.drv`, which is in the Nix store.
    outputs
        Names of all outputs.
    default
        The output that the value itself stands for.
    install
        The outputs that the package wants installed.
    probe
        Of a stdenv, the `.drv` of an empty package that it made: how it wires derivations.
    """

    drv: str
    outputs: tuple[str, ...]
    default: str
    install: tuple[str, ...]
    probe: str | None = None


def evaluate(installation: Installation, items: Sequence[Item], system: str) -> list[Derived | NixEvaluationError]:
    """Evaluate items in one call; what fails is asked again alone, for Nix's message.

    Parameters
    ----------
    system
        As Nix names it, such as x86_64-linux.

    Returns
    -------
    list
        For each item what it evaluated to, or why it did not.
    """
    if not items:
        return []
    try:
        answers = _answers(installation, items, system)
    except NixEvaluationError as error:
        if len(items) == 1:
            return [error]
        # A missing attribute or a syntax error ends the whole call.
        return [found for item in items for found in evaluate(installation, [item], system)]
    return [_derived(installation, item, answer, system) for item, answer in zip(items, answers, strict=True)]


def _answers(installation: Installation, items: Sequence[Item], system: str, *, guard: bool = True) -> list[Any]:
    command = [installation.program("nix-instantiate"), "--eval", "--strict", "--json", "--read-write-mode"]
    command += ["--option", "pure-eval", "true", *FEATURES, *_LOG, "-"]
    one = "guarded ({})" if guard else "({})"
    listed = "\n".join(f"({one.format(item.expression())})" for item in items)
    text = f"let system = {nix_value(system)}; in {_PRELUDE}[\n{listed}\n]\n"
    answers: list[Any] = json.loads(ask(installation, command, text))
    return answers


def _derived(
    installation: Installation, item: Item, answer: dict[str, Any], system: str
) -> Derived | NixEvaluationError:
    if "thrown" in answer:
        try:
            _answers(installation, [item], system, guard=False)
        except NixEvaluationError as error:
            return error
        return NixEvaluationError("the evaluation fails, but not when it is done again")
    if "lacking" in answer:
        if isinstance(item, FlakeItem) and not item.fragment:
            return NixEvaluationError(
                "the flake has no default package", hint="name one behind #, such as nixpkgs#gzip"
            )
        return _lacking(answer["lacking"])
    if "stray" in answer:
        return _stray(answer["stray"], answer["takes"])
    if "type" in answer:
        known = [name for name in answer.get("known", ()) if not name.startswith("_")]
        return NixEvaluationError(
            f"this is {'an' if answer['type'][0] in 'aeiou' else 'a'} {answer['type']}, where a derivation is needed",
            hint=f"name one of its attributes, such as {', '.join(known[:8])}" if known else None,
        )
    outputs, install = tuple(answer["outputs"]), tuple(answer["install"])
    return Derived(answer["drv"], outputs, answer["default"], install, answer["probe"])


def _lacking(ways: Sequence[Mapping[str, Any]]) -> NixEvaluationError:
    """The error for an attribute that no way leads to, with those of nearly that name."""
    prefixes = ("packages", "legacyPackages", "defaultPackage")
    told = [way for way in ways if way["missing"] not in prefixes] or list(ways)
    missing = told[0]["missing"]
    known = sorted({name for way in told if way["missing"] == missing for name in way["known"]})
    near = get_close_matches(missing, known, 3, 0.6) or get_close_matches(missing.lower(), known, 3, 0.6)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known and len(known) <= 20:
        hint = f"there are {', '.join(known)}"
    else:
        hint = None
    return NixEvaluationError(f"there is no attribute {missing!r}", hint=hint)


def _stray(names: Sequence[str], takes: Sequence[str]) -> NixEvaluationError:
    """The error for arguments that no function takes."""
    near = get_close_matches(names[0], takes, 1)
    hint = f"it takes {', '.join(takes)}" if takes else "only a function takes arguments, such as { level }: …"
    return NixEvaluationError(
        f"the expression takes no argument {' or '.join(names)}", hint=f"did you mean {near[0]}?" if near else hint
    )


def split_installable(installable: str) -> tuple[str, str, tuple[str, ...]]:
    """The reference, the attribute path and the outputs (`*` for all) of an installable.

    Raises
    ------
    NixEvaluationError
        For a `^` that no outputs follow.
    """
    named, caret, wanted = installable.partition("^")
    reference, _, fragment = named.partition("#")
    outputs = tuple(dict.fromkeys(name for name in wanted.split(",") if name))
    if caret and not outputs:
        raise NixEvaluationError(f"{installable} asks for no output", hint="write them behind ^, such as ^out,dev")
    return reference, fragment, outputs


_ATTRIBUTE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."]+)')


def attribute_path(text: str) -> tuple[str, ...]:
    """The names of an attribute path, some of which may be quoted: `a."b.c".d`."""
    return tuple(found[1] if found[1] is not None else found[2] for found in _ATTRIBUTE.finditer(text))


def nix_value(value: Any) -> str:
    """A value as Nix code."""
    match value:
        case InStore(path, below):
            # Not storePath, which pure evaluation does not have.
            made = f"builtins.appendContext {nix_value(path)} {{ {nix_value(path)} = {{ path = true; }}; }}"
            return f"({made} + {nix_value(f'/{below}')})" if below else f"({made})"
        case list() | tuple():
            return f"[ {' '.join(nix_value(item) for item in value)} ]"
        case dict():
            return f"{{ {' '.join(f'{nix_value(str(name))} = {nix_value(item)};' for name, item in value.items())} }}"
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${").replace("\r", "\\r")
            return f'"{escaped}"'
        case None | bool():
            return json.dumps(value)
        case int() | float():
            # fromJSON takes what the language has no notation for: negative numbers, exponents.
            return f"(builtins.fromJSON {nix_value(json.dumps(value))})"
    raise TypeError(f"{value!r} is no value of Nix")


def ask(installation: Installation, command: list[str], stdin: str | None = None) -> str:
    """The standard output of a command that evaluates.

    Raises
    ------
    NixEvaluationError
        With Nix's message, shortened, and the place in the code if Nix names it.
    """
    done = installation.run(command, timeout=None, stdin=stdin)
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
        _short(text),
        hint=_hint(text),
        file=errors[0].file if errors else None,
        line=errors[0].line if errors else None,
    )


def _short(text: str) -> str:
    """The message without Nix's trace, and not endless."""
    lines = [line for line in text.splitlines() if line.strip()]
    causes = [number for number, line in enumerate(lines) if line.lstrip().startswith("error:")]
    if causes:
        # Later Nix tells the trace first, and the cause at the end.
        lines = lines[causes[-1] :]
        lines[0] = lines[0].lstrip().removeprefix("error:").strip()
    more = len(lines) - _SHORT
    return "\n".join(lines[:_SHORT] + ([f"… ({more} more lines)"] if more > 0 else []))


_HINTS = (
    (
        r"(?i)unable to download|could(?:n't| not) resolve host|network is unreachable|unable to fetch|cannot fetch",
        "this machine can not fetch it; a flake that was fetched before is used without the network",
    ),
    (
        r"pure eval|unlocked|restricted|locked input|attribute 'current(?:System|Time)' missing",
        "evaluation is pure: take system and pkgs as arguments ({ system, pkgs, ... }:), name files by paths such as "
        "./file, and pin what is fetched by a hash",
    ),
    (r"search path", "evaluation has no NIX_PATH: take pkgs as an argument, { pkgs, ... }:"),
    (
        r"not tracked by Git|does not exist|No such file",
        "Nix sees of a Git repository what Git tracks (git add new files), and of an expression the files that it "
        "names by paths such as ./file",
    ),
)


def _hint(text: str) -> str | None:
    return next((hint for pattern, hint in _HINTS if re.search(pattern, text)), None) or hint_for(text)
