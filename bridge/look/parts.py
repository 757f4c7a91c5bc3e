"""A derivation in the words of the stage that it came from: config, inputs, code, promised outputs.

    Python stage    structured attributes: `config`, `inputs`, `code`, `promises`
    shell stage     the environment: a variable with store paths is an input, one that begins with the own
                    output's placeholder a promise, the rest config; PATH holds the tools, the builder is the shell
    any other       (what Nix evaluated) as a shell stage

So results can be asked for without the file that their stage was written in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.formats import nix32
from bridge.formats.derivation.json import STRUCTURED
from bridge.formats.derivation.placeholders import own_output
from bridge.formats.derivation.types import Derivation
from bridge.formats.store_path import STORE_DIR, STORE_PATH

__all__ = ["Parts", "Use", "parts_of"]

SHELL, TOOLS = "shell", "tools"
"""What the inputs are called that no variable of a shell stage names."""

_PLACEHOLDER = rf"/[{nix32.ALPHABET}]{{52}}"
_OBJECT = re.compile(rf"{STORE_PATH.pattern}|{_PLACEHOLDER}")
_USE = re.compile(rf"({_OBJECT.pattern})(?:/(\S*))?")
_OWN = own_output("out")
_NIX_OWN = frozenset(
    ("builder", "name", "system", "outputs", "outputHash", "outputHashAlgo", "outputHashMode", "preferLocalBuild")
)
"""Variables that say what the derivation's other fields say."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a stage uses: an object, or the placeholder of an output that is not built, and a path below it."""

    object: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.object}/{self.path}" if self.path else self.object


@dataclass(frozen=True, slots=True)
class Parts:
    """What a stage was given.

    Parameters
    ----------
    config
        Arguments that are neither inputs nor promises; of a shell stage, texts.
    inputs
        Argument to what it holds; several for a list.
    promises
        Argument to the path below the output.
    code
        The store path of a Python stage's code.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, tuple[Use, ...]] = field(default_factory=dict)
    promises: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None


def parts_of(drv: Derivation) -> Parts:
    """What the stage of a derivation was given."""
    if STRUCTURED in drv.env:
        try:
            attributes = json.loads(drv.env[STRUCTURED])
            if attributes.keys() >= {"code", "config", "inputs", "promises"}:
                inputs = {name: _listed(value) for name, value in attributes["inputs"].items()}
                return Parts(attributes["config"], inputs, attributes["promises"], attributes["code"])
        except (ValueError, AttributeError, TypeError, RecursionError):
            # Of another program, which may have any structured attributes.
            pass
    return _environment(drv)


def _listed(value: str | list[str]) -> tuple[Use, ...]:
    """The uses in a Python stage's input, whose texts are paths as a whole."""
    return tuple(_use(text) for text in ([value] if isinstance(value, str) else value))


def _use(text: str) -> Use:
    if text.startswith(f"{STORE_DIR}/"):
        base, _, below = text[len(STORE_DIR) + 1 :].partition("/")
        return Use(f"{STORE_DIR}/{base}", below)
    found = _OBJECT.match(text)
    return Use(text) if found is None else Use(found[0], text[found.end() :].removeprefix("/"))


def _environment(drv: Derivation) -> Parts:
    config: dict[str, Any] = {}
    inputs: dict[str, tuple[Use, ...]] = {}
    promises: dict[str, str] = {}
    for name, value in drv.env.items():
        if name in _NIX_OWN or name in drv.outputs:
            continue
        if value.startswith(f"{_OWN}/"):
            promises[name] = value.removeprefix(f"{_OWN}/")
        elif name == "PATH" and "/" in value:
            inputs[TOOLS] = tuple(_use(text) for text in value.split(":"))
        elif found := tuple(Use(one[1], one[2] or "") for one in _USE.finditer(value)):
            inputs[name] = found
        else:
            config[name] = value
    if _OBJECT.match(drv.builder):
        inputs.setdefault(SHELL, (_use(drv.builder),))
    return Parts(config, inputs, promises)
