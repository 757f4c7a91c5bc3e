"""The plan: the graph of stages, instantiated to derivations and source objects.

One pass in topological order, without recursion; each stage costs what its own derivation costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from bridge.formats.derivation import (
    DRV_SUFFIX,
    Deferred,
    Derivation,
    Floating,
    Instantiated,
    Modulo,
    modulo,
    parse_aterm,
    upstream_output,
)
from bridge.formats.derivation import instantiate as instantiate_derivation
from bridge.formats.errors import BridgeError, FormatError
from bridge.formats.store_path import name_part

from .errors import CycleError, TargetError
from .recipes import Parts, SourceObject, derivation_of, source_object
from .values import (
    FetchRecipe,
    HostRecipe,
    NixRecipe,
    OutputPath,
    PythonRecipe,
    ShellRecipe,
    SourceRecipe,
    Stage,
    Value,
    freeze,
    references,
)

__all__ = ["Evaluated", "Evaluator", "Node", "Plan", "instantiate", "override", "resolve"]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What Nix made of a `nix` or `flake` stage: a `.drv`, and the output that is meant by default."""

    drv_path: str
    output: str


class Evaluator(Protocol):
    """Nix, as far as a plan needs it."""

    def evaluate(self, recipe: NixRecipe) -> Evaluated:
        """The derivation that the recipe names."""

    def read_derivation(self, drv_path: str) -> bytes:
        """The contents of a `.drv` in the Nix store."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node:
    """A stage in a plan, with what it instantiated to.

    Parameters
    ----------
    path
        The store path: of the `.drv`, or of the object for a source.
    instantiated
        The derivation; None for a source.
    source
        The object; None for a derivation.
    objects
        Further objects that the derivation uses as sources: a Python stage's code.
    inputs
        The nodes it uses, each once, in the order of first use.
    default_output
        What the stage itself means as an input; for what Nix evaluated, maybe not `out`.
    foreign
        Whether Nix made the derivation, and its closure is in the Nix store.
    label
        The name, with the config that tells it from other stages of that name: `train(lr=0.1)`.
    mapped
        The input that the stage is mapped over: it is made for each realization that was chosen of that.
    """

    stage: Stage
    path: str
    instantiated: Instantiated | None
    source: SourceObject | None
    objects: tuple[SourceObject, ...]
    inputs: tuple[Node, ...]
    default_output: str = "out"
    foreign: bool = False
    mapped: Node | None = None
    label: str = ""

    def __repr__(self) -> str:
        return f"<node {self.name} {self.path}>"

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def derivation(self) -> Derivation:
        """The derivation of a node that has one."""
        assert self.instantiated is not None
        return self.instantiated.derivation

    @property
    def waits(self) -> bool:
        """Whether the derivation must be resolved: its outputs depend on what is chosen above it."""
        return self.instantiated is not None and any(
            isinstance(output, Floating | Deferred) for output in self.derivation.outputs.values()
        )

    def output_name(self, used: OutputPath) -> str:
        """The output that `used` means, where `out` may stand for the default one."""
        return self.default_output if used.output == "out" else used.output

    def output(self, output: str) -> str:
        """The path of an output, or the placeholder that stands for it until it is built."""
        if self.source is not None:
            return self.path
        return self.derivation.output_path(output) or upstream_output(self.path, output)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Instantiated stages: each node behind its inputs; `targets` are what was asked for."""

    nodes: tuple[Node, ...]
    targets: tuple[Node, ...]
    names: Mapping[str, list[Node]] = field(default_factory=dict)

    def named(self, name: str) -> list[Node]:
        """The nodes of that name, or the one with that label.

        Raises
        ------
        TargetError
            If there is none, saying which there are.
        """
        if name not in self.names:
            raise TargetError(f"no stage of this plan is named {name!r}", hint=_known(self.names))
        return self.names[name]


_LISTED = 20


def _known(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return "there are " + ", ".join(known[:_LISTED]) + more


def _ordered(targets: Sequence[Stage]) -> list[Stage]:
    """The targets and all they use, inputs first.

    Raises
    ------
    CycleError
        With the stages of the cycle and where they were written.
    """
    done: dict[Stage, None] = {}
    walking: dict[Stage, None] = {}
    for target in targets:
        stack: list[tuple[Stage, Iterator[Stage]]] = [(target, iter(target.inputs))]
        if target in done:
            continue
        walking[target] = None
        while stack:
            stage, inputs = stack[-1]
            for used in inputs:
                if used in walking:
                    circle = list(walking)[list(walking).index(used) :]
                    names = " → ".join(one.name for one in [*circle, used])
                    raise used.place.error(
                        f"these stages need each other: {names}",
                        hint="; ".join(f"{one.name} is at {one.place.file}:{one.place.line}" for one in circle),
                        kind=CycleError,
                    )
                if used not in done:
                    walking[used] = None
                    stack.append((used, iter(used.inputs)))
                    break
            else:
                stack.pop()
                del walking[stage]
                done[stage] = None
    return list(done)


def instantiate(targets: Sequence[Stage], evaluator: Evaluator | None = None) -> Plan:
    """Instantiate stages and everything they use.

    Parameters
    ----------
    evaluator
        Nix, needed only where a stage is a `nix` or a `flake`.

    Raises
    ------
    StageError
        With file and line, for a stage that can not be instantiated.
    """
    nodes: dict[Stage, Node] = {}
    modulos: dict[str, Modulo] = {}
    foreign = _Foreign(evaluator, modulos)
    stages = _ordered(targets)
    labels = _labels(stages)
    for stage in stages:
        inputs = tuple(dict.fromkeys(nodes[used] for used in stage.inputs))
        try:
            node = _node(stage, inputs, nodes, modulos.__getitem__, foreign)
            node = replace(node, label=labels[stage])
        except FormatError as error:
            raise stage.place.error(f"the stage {stage.name}: {error.message}", hint=error.hint) from error
        if node.instantiated is not None:
            modulos[node.path] = node.instantiated.modulo
        nodes[stage] = node
    names: dict[str, list[Node]] = {}
    for node in nodes.values():
        for name in dict.fromkeys((node.name, node.label)):
            names.setdefault(name, []).append(node)
    return Plan(tuple(nodes.values()), tuple(nodes[target] for target in targets), names)


_LONGEST_VALUE = 24


def _labels(stages: Sequence[Stage]) -> dict[Stage, str]:
    """A name for each stage that tells it from variants, as far as its config does."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(stage.name, []).append(stage)
    labels: dict[Stage, str] = {}
    for name, group in groups.items():
        if len(group) == 1:
            labels[group[0]] = name
            continue
        shown = {stage: {key: _shown(value) for key, value in stage.config.items()} for stage in group}
        first = shown[group[0]]
        differing = {key for config in shown.values() for key in config if config[key] != first.get(key)}
        for stage, config in shown.items():
            told = ", ".join(f"{key}={config[key]}" for key in config if key in differing)
            labels[stage] = f"{name}({told})" if told else name
    return labels


def _shown(value: Value) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _node(
    stage: Stage,
    inputs: tuple[Node, ...],
    nodes: Mapping[Stage, Node],
    input_modulo: Callable[[str], Modulo],
    foreign: _Foreign,
) -> Node:
    match stage.recipe:
        case SourceRecipe() | HostRecipe() as recipe:
            found = source_object(stage, recipe)
            return Node(stage, found.path, None, found, (), ())
        case NixRecipe() as recipe:
            evaluated, instantiated = foreign.read(stage, recipe)
            return Node(stage, evaluated.drv_path, instantiated, None, (), (), evaluated.output, foreign=True)
        case PythonRecipe() | ShellRecipe() | FetchRecipe() as recipe:
            parts = Parts()

            def text(used: OutputPath) -> str:
                node = nodes[used.stage]
                output = node.output_name(used)
                parts.use(node.path, None if node.source is not None else output)
                path = node.output(output)
                return f"{path}/{used.path}" if used.path else path

            drv = derivation_of(stage, recipe, parts, text)
            instantiated = instantiate_derivation(drv, input_modulo)
            return Node(
                stage,
                instantiated.path,
                instantiated,
                None,
                tuple(parts.objects),
                inputs,
                mapped=_mapped(stage, nodes),
            )


def _mapped(stage: Stage, nodes: Mapping[Stage, Node]) -> Node | None:
    """The one node that `each` names in a stage's arguments, if there is any."""
    found = dict.fromkeys(nodes[used.stage] for used in stage.uses if used.each)
    if len(found) > 1:
        names = " and ".join(node.name for node in found)
        raise stage.place.error(
            f"the stage {stage.name} is mapped over {names} at once", hint="each() goes with one stage"
        )
    return next(iter(found), None)


def resolve(node: Node, chosen: Callable[[Node, str], str | list[str]]) -> Instantiated:
    """The resolved derivation of a node: written down again with the chosen paths in place of derivations.

    For one path an input this is Nix's derivation resolution; where several were chosen, Python stages
    get a list and shell stages the paths with blanks between.

    Parameters
    ----------
    chosen
        The path of a node's output, or the paths of it that a matcher chose.
    """
    recipe = node.stage.recipe
    assert isinstance(recipe, PythonRecipe | ShellRecipe)
    nodes = {used.stage: used for used in node.inputs}
    parts = Parts()

    def text(used: OutputPath) -> str | list[str]:
        source = nodes[used.stage]
        found = chosen(source, source.output_name(used))
        paths = [found] if isinstance(found, str) else found
        parts.sources.update(paths)
        full = [f"{path}/{used.path}" if used.path else path for path in paths]
        return full[0] if isinstance(found, str) else full

    return instantiate_derivation(derivation_of(node.stage, recipe, parts, text), lambda path: None)


class _Foreign:
    """Derivations that Nix made: read from its store with all they need for their modulo."""

    def __init__(self, evaluator: Evaluator | None, modulos: dict[str, Modulo]) -> None:
        self._evaluator = evaluator
        self._modulos = modulos
        self._read: dict[str, Instantiated] = {}

    def read(self, stage: Stage, recipe: NixRecipe) -> tuple[Evaluated, Instantiated]:
        if self._evaluator is None:
            raise stage.place.error(
                f"the stage {stage.name} needs Nix to be evaluated, and there is none",
                hint="install Nix, or use host(…) or source(…) in its place",
            )
        try:
            return self._closure(self._evaluator, self._evaluator.evaluate(recipe))
        except BridgeError as error:
            raise stage.place.error(f"the stage {stage.name}: {error}", hint=error.hint) from error

    def _closure(self, evaluator: Evaluator, evaluated: Evaluated) -> tuple[Evaluated, Instantiated]:
        """Read the derivation and all that its modulo needs."""
        pending = [evaluated.drv_path]
        while pending:
            path = pending[-1]
            if path in self._read:
                pending.pop()
                continue
            aterm = evaluator.read_derivation(path)
            drv = parse_aterm(aterm, name_part(path).removesuffix(DRV_SUFFIX))
            # A fixed output's modulo needs nothing of its inputs.
            missing = [] if drv.is_fixed else [used for used in drv.input_drvs if used not in self._read]
            if missing:
                pending.extend(missing)
                continue
            pending.pop()
            self._modulos[path] = modulo(drv, self._modulos.__getitem__)
            self._read[path] = Instantiated(drv, path, aterm, self._modulos[path])
        return evaluated, self._read[evaluated.drv_path]


# ---------------------------------------------------------------------------------------- overrides


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
    for stage in _ordered(targets):
        names.add(stage.name)
        recipe = stage.recipe
        if not isinstance(recipe, PythonRecipe | ShellRecipe):
            changed[stage] = stage
            continue
        arguments = {name: _swap(value, changed) for name, value in recipe.arguments.items()}
        for (name, argument), value in values.items():
            if name != stage.name:
                continue
            if argument not in arguments:
                raise TargetError(
                    f"the stage {name} has no argument {argument!r}", hint=_known(arguments) if arguments else None
                )
            if argument in stage.promises or any(references(arguments[argument])):
                raise TargetError(f"{name}.{argument} is no config value, so that it can not be set")
            arguments[argument] = freeze(value, stage.place, f"{name}.{argument}")
            used.add((name, argument))
        new: PythonRecipe | ShellRecipe = replace(recipe, arguments=arguments)
        if isinstance(new, ShellRecipe):
            tools = tuple(_swap(tool, changed) for tool in new.tools)
            new = replace(new, tools=tools, shell=_swap(new.shell, changed))
        changed[stage] = replace(stage, recipe=new)
    for name, argument in values:
        if (name, argument) not in used:
            if name in names:
                raise TargetError(f"the stage {name} takes no arguments, so that {argument!r} can not be set")
            raise TargetError(f"no stage of this plan is named {name!r}", hint=_known(names))
    return [changed[target] for target in targets]


def _swap(value: Value, changed: Mapping[Stage, Stage]) -> Value:
    match value:
        case Stage():
            return changed[value]
        case OutputPath():
            return replace(value, stage=changed[value.stage])
        case tuple():
            return tuple(_swap(item, changed) for item in value)
    return value
