"""Resolution: a stage's derivation once its inputs are chosen."""

from __future__ import annotations

import json
from collections.abc import Callable

from bridge.formats.derivation import Derivation, Instantiated
from bridge.formats.derivation import instantiate as instantiate_derivation
from bridge.formats.derivation import resolve as resolve_derivation
from bridge.formats.derivation.json import STRUCTURED

from .plan import Node, Question, inputs_of
from .recipes import Parts, derivation_of
from .values import NixRecipe, OutputPath, PythonRecipe, ShellRecipe

__all__ = ["question", "resolve"]


def resolve(node: Node, chosen: Callable[[Node, str], str | list[str]]) -> Instantiated:
    """The resolved derivation of a node: with the chosen paths in place of derivations.

    For one path an input this is Nix's derivation resolution; where several were chosen, Python stages
    get a list and shell stages the paths with blanks between.

    Parameters
    ----------
    chosen
        The path of a node's output, or the paths of it that a matcher chose.
    """
    drv = _as_nix(node, chosen) or _written_again(node, chosen)
    return instantiate_derivation(drv, lambda path: None)


def _as_nix(node: Node, chosen: Callable[[Node, str], str | list[str]]) -> Derivation | None:
    """The derivation as Nix resolves it; None where that does not do."""
    nodes = {used.path: used for used in node.inputs}
    if len(nodes) < len(node.inputs):
        # One stage under two matchers has two choices behind one placeholder.
        return None
    paths: dict[tuple[str, ...], str] = {}
    for path, outputs in node.derivation.input_drvs.items():
        used = nodes.get(path)
        if used is None:
            # The stdenv brings it along.
            return None
        for output in outputs.outputs:
            found = chosen(used, output)
            if not isinstance(found, str):
                return None
            paths[path, output] = found
    return resolve_derivation(node.derivation, paths)


def _written_again(node: Node, chosen: Callable[[Node, str], str | list[str]]) -> Derivation:
    """The derivation that the stage's recipe gives with the chosen paths."""
    recipe = node.stage.recipe
    assert isinstance(recipe, PythonRecipe | ShellRecipe | NixRecipe)
    nodes = {used.stage: used for used in node.inputs}
    parts = Parts()

    def text(used: OutputPath) -> str | list[str]:
        source = nodes[used.stage]
        found = chosen(source, source.output_name(used))
        parts.sources.update([found] if isinstance(found, str) else found)
        return _below(found, used.path)

    inputs = inputs_of(nodes, text, node.packages, resolved=True)
    return derivation_of(node.stage, recipe, parts, inputs)


def question(node: Node, resolved: Instantiated) -> Question:
    """What Nix is asked of a stage that is written in Nix, once its inputs are chosen.

    Parameters
    ----------
    resolved
        The node's resolved derivation, which holds the paths.
    """
    recipe = node.stage.recipe
    assert isinstance(recipe, NixRecipe)
    inputs = json.loads(resolved.derivation.env[STRUCTURED])["inputs"]
    return Question(node.stage, recipe, inputs, node.packages)


def _below(found: str | list[str], path: str) -> str | list[str]:
    """The path below one object, or below each of several."""
    if isinstance(found, list):
        return [f"{one}/{path}" if path else one for one in found]
    return f"{found}/{path}" if path else found
