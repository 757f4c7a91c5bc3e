"""The plan: the graph of stages, instantiated to derivations and source objects.

One pass in topological order, without recursion; each stage costs what its own derivation costs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Floating,
    Instantiated,
    Modulo,
    upstream_output,
)
from bridge.formats.derivation import instantiate as instantiate_derivation
from bridge.formats.errors import BridgeError, FormatError

from .errors import CycleError, TargetError
from .recipes import Inputs, Parts, Stdenv, derivation_of, nix_object
from .sources import SourceObject, source_object
from .values import (
    FetchRecipe,
    GitRecipe,
    HostRecipe,
    NixRecipe,
    OutputPath,
    PythonRecipe,
    ShellRecipe,
    SourceRecipe,
    Stage,
    TextRecipe,
    Value,
)

__all__ = [
    "Evaluated",
    "Evaluator",
    "Node",
    "Plan",
    "Question",
    "inputs_of",
    "instantiate",
    "known",
    "needs_evaluation",
    "ordered",
]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A stage that Nix is to evaluate.

    Parameters
    ----------
    inputs
        The store paths, with what is below them, of the arguments that are inputs.
    packages
        The locked URL of nixpkgs, where the code speaks of it.
    """

    stage: Stage
    recipe: NixRecipe
    inputs: Mapping[str, str | list[str]] = field(default_factory=dict)
    packages: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What Nix made of a stage: a derivation, the output that is meant by default, and what it is as a stdenv."""

    instantiated: Instantiated
    output: str
    stdenv: Stdenv | None = None


class Evaluator(Protocol):
    """Nix, as far as a plan needs it."""

    def evaluate(self, questions: Sequence[Question]) -> Sequence[Evaluated | BridgeError]:
        """The derivations that stages name, or why there is none; asked once for all stages of a plan."""

    def packages(self) -> str:
        """The locked URL of the flake nixpkgs."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node:
    """A stage in a plan, with what it instantiated to.

    Parameters
    ----------
    label
        The name, with the config that tells it from other stages of that name: `train(lr=0.1)`.
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
    mapped
        The input that the stage is mapped over: it is made for each realization that was chosen of that.
    stdenv
        How it wires derivations, if it is a stdenv.
    packages
        The locked URL of nixpkgs, where a stage written in Nix speaks of it.
    """

    stage: Stage
    label: str
    path: str
    instantiated: Instantiated | None
    source: SourceObject | None
    objects: tuple[SourceObject, ...] = ()
    inputs: tuple[Node, ...] = ()
    default_output: str = "out"
    foreign: bool = False
    mapped: Node | None = None
    stdenv: Stdenv | None = None
    packages: str | None = None

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
        # What Nix evaluated, Nix resolves itself.
        return (
            self.instantiated is not None
            and not self.foreign
            and any(isinstance(output, Floating | Deferred) for output in self.derivation.outputs.values())
        )

    @property
    def evaluated_late(self) -> bool:
        """Whether it is written in Nix and evaluated when its inputs are chosen."""
        return isinstance(self.stage.recipe, NixRecipe) and not self.foreign

    @property
    def needs_nix(self) -> bool:
        """Whether nobody but Nix can build it."""
        return self.foreign or self.evaluated_late

    def output_name(self, used: OutputPath) -> str:
        """The output that `used` means: the default one where it names none."""
        return used.output if used.named or used.output != "out" else self.default_output

    def output(self, output: str) -> str:
        """The path of an output, or the placeholder that stands for it until it is built."""
        if self.source is not None:
            return self.path
        # Which outputs a stage written in Nix has, its evaluation will say.
        known = None if self.evaluated_late else self.derivation.output_path(output)
        return known or upstream_output(self.path, output)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Instantiated stages: each node behind its inputs; `targets` are what was asked for.

    Parameters
    ----------
    evaluator
        For the stages that are evaluated when their inputs are chosen.
    """

    nodes: tuple[Node, ...]
    targets: tuple[Node, ...]
    names: Mapping[str, list[Node]] = field(default_factory=dict)
    evaluator: Evaluator | None = None

    def named(self, name: str) -> list[Node]:
        """The nodes of that name, or the one with that label.

        Raises
        ------
        TargetError
            If there is none, saying which there are.
        """
        if name not in self.names:
            raise TargetError(f"no stage of this plan is named {name!r}", hint=known(self.names))
        return self.names[name]


_LISTED = 20


def known(names: Iterable[str]) -> str:
    """The names that there are, as a hint says it."""
    known = sorted(names)
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return "there are " + ", ".join(known[:_LISTED]) + more


def ordered(targets: Sequence[Stage]) -> dict[Stage, tuple[OutputPath, ...]]:
    """The targets and all they use, inputs first; each with what it uses.

    Raises
    ------
    CycleError
        With the stages of the cycle and where they were written.
    """
    done: dict[Stage, tuple[OutputPath, ...]] = {}
    walking: dict[Stage, tuple[OutputPath, ...]] = {}
    stack: list[tuple[Stage, Iterator[OutputPath]]] = []

    def walk(stage: Stage) -> None:
        walking[stage] = uses = tuple(stage.uses)
        stack.append((stage, iter(uses)))

    for target in targets:
        if target in done:
            continue
        walk(target)
        while stack:
            stage, uses = stack[-1]
            for used in (one.stage for one in uses):
                if used in walking:
                    circle = list(walking)[list(walking).index(used) :]
                    names = " → ".join(one.name for one in [*circle, used])
                    raise used.place.error(
                        f"these stages need each other: {names}",
                        hint="; ".join(f"{one.name} is at {one.place.file}:{one.place.line}" for one in circle),
                        kind=CycleError,
                    )
                if used not in done:
                    walk(used)
                    break
            else:
                stack.pop()
                done[stage] = walking.pop(stage)
    return done


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
    stages = ordered(targets)
    foreign = _evaluated(stages, evaluator)
    labels = _labels(stages)
    for stage, uses in stages.items():
        try:
            node = _node(stage, labels[stage], uses, nodes, modulos.__getitem__, foreign, evaluator)
        except FormatError as error:
            raise stage.place.error(f"the stage {stage.name}: {error.message}", hint=error.hint) from error
        if node.instantiated is not None:
            modulos[node.path] = node.instantiated.modulo
        if node.stdenv is not None:
            modulos |= {path: found for path, (found, _) in node.stdenv.inputs.items()}
        nodes[stage] = node
    names: dict[str, list[Node]] = {}
    for node in nodes.values():
        for name in dict.fromkeys((node.name, node.label)):
            names.setdefault(name, []).append(node)
    return Plan(tuple(nodes.values()), tuple(nodes[target] for target in targets), names, evaluator)


def needs_evaluation(targets: Sequence[Stage]) -> bool:
    """Whether Nix must be asked before, or while, these stages are realized."""
    return any(isinstance(stage.recipe, NixRecipe) for stage in ordered(targets))


_LONGEST_VALUE = 24


def _labels(stages: Iterable[Stage]) -> dict[Stage, str]:
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
    label: str,
    uses: Sequence[OutputPath],
    nodes: Mapping[Stage, Node],
    input_modulo: Callable[[str], Modulo],
    foreign: Mapping[Stage, Evaluated],
    evaluator: Evaluator | None,
) -> Node:
    match stage.recipe:
        case SourceRecipe() | TextRecipe() | HostRecipe() as recipe:
            found = source_object(stage, recipe)
            return Node(stage, label, found.path, None, found)
        case NixRecipe() if stage in foreign:
            made = foreign[stage]
            drv = made.instantiated
            return Node(stage, label, drv.path, drv, None, default_output=made.output, foreign=True, stdenv=made.stdenv)
        case PythonRecipe() | ShellRecipe() | FetchRecipe() | GitRecipe() | NixRecipe() as recipe:
            parts = Parts()

            def text(used: OutputPath) -> str:
                node = nodes[used.stage]
                output = node.output_name(used)
                parts.use(node.path, None if node.source is not None else output)
                path = node.output(output)
                return f"{path}/{used.path}" if used.path else path

            packages = _packages(stage, recipe, evaluator) if isinstance(recipe, NixRecipe) else None
            written = derivation_of(stage, recipe, parts, inputs_of(nodes, text, packages, resolved=False))
            instantiated = instantiate_derivation(written, input_modulo)
            return Node(
                stage,
                label,
                instantiated.path,
                instantiated,
                None,
                tuple(parts.objects),
                tuple(dict.fromkeys([nodes[used.stage] for used in uses])),
                mapped=_mapped(stage, uses, nodes),
                packages=packages,
            )


def inputs_of(
    nodes: Mapping[Stage, Node],
    text: Callable[[OutputPath], str | list[str]],
    packages: str | None,
    *,
    resolved: bool,
) -> Inputs:
    """What a recipe is told of the nodes that it uses."""

    def outputs(stage: Stage) -> Collection[str]:
        return () if nodes[stage].source is not None else nodes[stage].derivation.outputs

    return Inputs(text, outputs, lambda stage: nodes[stage].stdenv, packages, resolved)


def _packages(stage: Stage, recipe: NixRecipe, evaluator: Evaluator | None) -> str | None:
    """The locked URL of nixpkgs, if the stage's code speaks of it."""
    if not nix_object(stage, recipe)[2]:
        return None
    with _blamed(stage):
        return _required(evaluator, stage).packages()


def _evaluated(stages: Iterable[Stage], evaluator: Evaluator | None) -> dict[Stage, Evaluated]:
    """What Nix makes of those stages that wait for nothing, asked in one go.

    Raises
    ------
    StageError
        For the first that can not be evaluated.
    """
    asked = [
        Question(stage, stage.recipe)
        for stage in stages
        if isinstance(stage.recipe, NixRecipe) and not stage.recipe.waits
    ]
    if not asked:
        return {}
    answers = _required(evaluator, asked[0].stage).evaluate(asked)
    found: dict[Stage, Evaluated] = {}
    for one, answer in zip(asked, answers, strict=True):
        with _blamed(one.stage):
            if isinstance(answer, BridgeError):
                raise answer
        found[one.stage] = answer
    return found


def _required(evaluator: Evaluator | None, stage: Stage) -> Evaluator:
    if evaluator is None:
        raise stage.place.error(
            f"the stage {stage.name} needs Nix to be evaluated, and there is none",
            hint="install Nix (https://nixos.org/download, or apt-get install nix-bin), or use host(…) or source(…) "
            "in its place; stages without flake(…) and nix(…) work without Nix",
        )
    return evaluator


@contextlib.contextmanager
def _blamed(stage: Stage) -> Iterator[None]:
    """Errors inside are the stage's, and point to where it was written."""
    try:
        yield
    except BridgeError as error:
        raise stage.place.error(f"the stage {stage.name}: {error}", hint=error.hint) from error


def _mapped(stage: Stage, uses: Iterable[OutputPath], nodes: Mapping[Stage, Node]) -> Node | None:
    """The one node that `each` names in a stage's arguments, if there is any."""
    found = dict.fromkeys([nodes[used.stage] for used in uses if used.each])
    if len(found) > 1:
        names = " and ".join(node.name for node in found)
        raise stage.place.error(
            f"the stage {stage.name} is mapped over {names} at once", hint="each() goes with one stage"
        )
    return next(iter(found), None)
