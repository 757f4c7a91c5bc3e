"""Stages changed from outside: arguments set on the command line, and policies, wherever in the graph they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .errors import TargetError
from .plan import known, ordered
from .values import NixRecipe, OutputPath, PythonRecipe, ShellRecipe, Stage, Value, freeze, references

__all__ = ["never_run", "override"]


def override(targets: Sequence[Stage], values: Mapping[tuple[str, str], object]) -> list[Stage]:
    """The targets with arguments of stages changed, wherever in the graph they are.

    Parameters
    ----------
    values
        (stage name, argument) to the new config value.

    Raises
    ------
    TargetError
        For a stage or an argument that does not exist, or that is no config value.
    StageError
        For a value that JSON can not hold.
    """
    if not values:
        return list(targets)
    used: set[tuple[str, str]] = set()
    changed: dict[Stage, Stage] = {}
    names: set[str] = set()
    for stage in ordered(targets):
        names.add(stage.name)
        recipe = stage.recipe
        takes_none = isinstance(recipe, NixRecipe) and not recipe.arguments
        if takes_none or not isinstance(recipe, PythonRecipe | ShellRecipe | NixRecipe):
            changed[stage] = stage
            continue
        arguments = {name: _swap(value, changed) for name, value in recipe.arguments.items()}
        for (name, argument), value in values.items():
            if name != stage.name:
                continue
            if argument not in arguments:
                raise TargetError(
                    f"the stage {name} has no argument {argument!r}", hint=known(arguments) if arguments else None
                )
            if argument in stage.promises or any(references(arguments[argument])):
                raise TargetError(f"{name}.{argument} is no config value, so that it can not be set")
            arguments[argument] = freeze(value, stage.place, f"{name}.{argument}")
            used.add((name, argument))
        new: PythonRecipe | ShellRecipe | NixRecipe = replace(recipe, arguments=arguments)
        if isinstance(new, ShellRecipe):
            new = _swapped(new, changed)
        changed[stage] = replace(stage, recipe=new)
    for name, argument in values:
        if (name, argument) not in used:
            if name in names:
                raise TargetError(f"the stage {name} takes no arguments, so that {argument!r} can not be set")
            raise TargetError(f"no stage of this plan is named {name!r}", hint=known(names))
    return [changed[target] for target in targets]


def never_run(target: Stage) -> Stage:
    """The stage under a policy that never runs it, nor anything that it needs."""
    changed: dict[Stage, Stage] = {}
    for stage in ordered([target]):
        recipe = stage.recipe
        if isinstance(recipe, PythonRecipe | ShellRecipe | NixRecipe):
            recipe = replace(recipe, arguments={name: _swap(one, changed) for name, one in recipe.arguments.items()})
        if isinstance(recipe, ShellRecipe):
            recipe = _swapped(recipe, changed)
        changed[stage] = replace(stage, recipe=recipe, policy=replace(stage.policy, existing=True))
    return changed[target]


def _swapped(recipe: ShellRecipe, changed: Mapping[Stage, Stage]) -> ShellRecipe:
    """A shell recipe with its tools, shell and stdenv changed."""
    tools = tuple(_swap(tool, changed) for tool in recipe.tools)
    return replace(recipe, tools=tools, shell=_swap(recipe.shell, changed), stdenv=_swap(recipe.stdenv, changed))


def _swap(value: Value, changed: Mapping[Stage, Stage]) -> Value:
    match value:
        case Stage():
            return changed[value]
        case OutputPath():
            return replace(value, stage=changed[value.stage])
        case tuple():
            return tuple(_swap(item, changed) for item in value)
    return value
