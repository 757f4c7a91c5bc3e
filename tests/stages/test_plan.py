"""The plan: order, sharing, cycles, names, overrides, and what Nix evaluated."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    InputAddressed,
    InputOutputs,
    instantiate,
)
from bridge.formats.derivation.json import STRUCTURED
from bridge.formats.hashes import Hash
from bridge.stages.define import fetchurl, flake, nix, shell, source, stage
from bridge.stages.errors import CycleError, StageError, TargetError
from bridge.stages.override import override
from bridge.stages.plan import Evaluated
from bridge.stages.plan import instantiate as plan_of
from bridge.stages.values import NixRecipe, out

HASH = "sha256-" + "A" * 43 + "="


def made(name, *inputs, **arguments):
    if inputs:
        arguments["inputs_"] = list(inputs)
    return shell("true", name=name, system="x86_64-linux", **arguments)


# ------------------------------------------------------------------------------------------ order


def test_inputs_stand_before_what_uses_them():
    bottom = made("bottom")
    left, right = made("left", bottom), made("right", bottom)
    top = made("top", left, right)
    plan = plan_of([top, right])
    assert [node.name for node in plan.nodes] == ["bottom", "left", "right", "top"]
    assert [node.name for node in plan.targets] == ["top", "right"]
    assert [node.name for node in plan.nodes[3].inputs] == ["left", "right"]


def test_an_input_used_twice_is_one_input():
    bottom = made("bottom", file=out("x"))
    node = plan_of([made("top", bottom, bottom.file, tools=[bottom])]).targets[0]
    assert [one.name for one in node.inputs] == ["bottom"]
    assert len(node.derivation.input_drvs) == 1


def test_a_target_named_twice_is_one_node():
    one = made("one")
    plan = plan_of([one, one])
    assert plan.targets[0] is plan.targets[1]
    assert len(plan.nodes) == 1


def test_no_targets_are_an_empty_plan():
    assert plan_of([]).nodes == ()


def test_a_tower_of_diamonds_is_instantiated_once_for_each_stage():
    top = made("top")
    for level in range(30):
        top = made("join", made(f"left{level}", top), made(f"right{level}", top))
    assert len(plan_of([top]).nodes) == 91


def test_a_long_chain_needs_no_recursion():
    top = made("start")
    for number in range(10_000):
        top = made("link", top, number=number)
    assert sys.getrecursionlimit() < 10_000
    assert len(plan_of([top]).nodes) == 10_001


# ----------------------------------------------------------------------------------------- cycles


def use(stage, **arguments):
    """What nobody can write: a stage changed after it was made."""
    stage.recipe.arguments.update(arguments)


def test_a_cycle_is_refused_with_its_stages_and_places():
    one = made("one", x=1)
    two = made("two", one)
    three = made("three", two)
    use(one, x=three)
    with pytest.raises(CycleError, match="these stages need each other: one → three → two → one") as caught:
        plan_of([made("above", one)])
    assert caught.value.file == __file__
    assert caught.value.line
    for name in ("one", "two", "three"):
        assert f"{name} is at {__file__}:" in caught.value.hint
    assert "above" not in caught.value.hint


def test_a_stage_that_uses_itself_is_refused():
    one = made("one", x=1)
    use(one, x=one)
    with pytest.raises(CycleError, match="one → one"):
        plan_of([one])
    with pytest.raises(CycleError):
        override([one], {("one", "y"): 1})


def test_a_cycle_through_tools_is_refused():
    one = made("one")
    two = made("two", tools=[one])
    object.__setattr__(one, "recipe", replace(one.recipe, shell=two / "bin/sh"))
    with pytest.raises(CycleError, match="two → one → two"):
        plan_of([two])


# ------------------------------------------------------------------------------------------ names


def test_nodes_are_found_by_name():
    plan = plan_of([made("a", made("b")), made("b", x=1)])
    assert [len(plan.named(name)) for name in "ab"] == [1, 2]
    with pytest.raises(TargetError, match="no stage of this plan is named 'c'") as caught:
        plan.named("c")
    assert caught.value.hint == "there are a, b, b(x=1)"


def test_the_same_stage_under_two_policies_gives_two_nodes_of_one_derivation():
    one = shell("date", name="noise", deterministic=False)
    plan = plan_of([one, one.options(realizations=5)])
    assert len(plan.nodes) == len(plan.named("noise")) == 2
    assert plan.nodes[0].path == plan.nodes[1].path
    assert [node.stage.policy.realizations for node in plan.nodes] == [1, 5]


# ------------------------------------------------------------------------------------ nodes' kinds


def test_what_waits_and_what_does_not():
    floating = shell("date", name="noise", deterministic=False)
    plain = made("plain")
    deferred = made("deferred", floating)
    twice = made("twice", deferred)
    fetch = fetchurl("file:///a", hash=HASH)
    plan = plan_of([twice, plain, fetch, source(__file__)])
    waits = {node.name: node.waits for node in plan.nodes}
    assert waits == {
        "noise": True,
        "deferred": True,
        "twice": True,
        "plain": False,
        "a": False,
        "test_plan.py": False,
    }
    kinds = {node.name: type(node.derivation.outputs["out"]) for node in plan.nodes if node.instantiated}
    assert kinds == {
        "noise": Floating,
        "deferred": Deferred,
        "twice": Deferred,
        "plain": InputAddressed,
        "a": Fixed,
    }


def test_a_source_is_an_input_by_its_own_path():
    here = source(__file__)
    plan = plan_of([made("top", here, x=here / "a")])
    path = plan.nodes[0].path
    assert plan.nodes[0].source.path == path
    assert plan.targets[0].derivation.input_srcs == (path,)
    assert plan.targets[0].derivation.env["x"] == f"{path}/a"


def test_what_the_formats_refuse_names_the_stage_and_its_place():
    long = "x" * 208
    with pytest.raises(StageError, match=f"the stage {long}: ") as caught:
        plan_of([made(long)])
    assert caught.value.file == __file__


def test_an_output_that_does_not_exist_is_refused_where_it_is_used():
    foreign = nix(expr="x", name="foreign")
    top = made("top", foreign.nothing)
    with pytest.raises(StageError, match=r"the stage top: the derivation foreign has no output 'nothing'") as caught:
        plan_of([top], Store())
    assert caught.value.file == __file__


# -------------------------------------------------------------------------------- what Nix evaluates


class Store:
    """Derivations as Nix would have written them, a chain of them below `foreign`."""

    def __init__(self, depth=3, output="out"):
        self.drvs = {}
        self.output = output
        modulos = {}
        used = {}
        for number in reversed(range(depth)):
            name = f"dep{number}" if number else "foreign"
            outputs = {"out": Deferred(), "bin": Deferred()}
            drv = Derivation(name, outputs, used, (), "x86_64-linux", "/bin/sh", (), {"name": name})
            found = instantiate(drv, modulos.__getitem__)
            modulos[found.path] = found.modulo
            self.drvs[found.path] = found
            self.path = found.path
            used = {found.path: InputOutputs(("out",))}

        self.asked = []

    def evaluate(self, questions):
        assert all(isinstance(one.recipe, NixRecipe) for one in questions)
        self.asked.append([one.stage.name for one in questions])
        return [Evaluated(self.drvs[self.path], self.output) for _ in questions]


def test_nix_is_asked_once_for_all_stages_of_a_plan():
    store = Store(depth=5)
    plan = plan_of([made("top", tools=[flake("nixpkgs#gzip"), flake("nixpkgs#tar"), nix(expr="x", name="x")])], store)
    assert store.asked == [["gzip", "tar", "x"]]
    assert plan.targets[0].derivation.input_drvs.keys() == {store.path}


def test_what_nix_evaluated_is_an_input_by_its_path():
    store = Store(depth=5)
    plan = plan_of([made("top", tools=[flake("nixpkgs#gzip")])], store)
    node = plan.nodes[0]
    assert node.foreign
    assert node.path == store.path
    assert node.instantiated == store.drvs[store.path]
    top = plan.targets[0].derivation
    assert isinstance(top.outputs["out"], InputAddressed)
    assert top.env["PATH"] == f"{node.derivation.output_path('out')}/bin"


def test_the_default_output_of_what_nix_evaluated_stands_for_the_stage():
    store = Store(output="bin")
    gzip = flake("nixpkgs#gzip")
    plan = plan_of([made("top", gzip / "x", gzip.out)], store)
    drv = plan.nodes[0].derivation
    paths = f"{drv.output_path('bin')}/x {drv.output_path('out')}"
    assert plan.targets[0].derivation.env["inputs_"] == paths
    assert plan.targets[0].derivation.input_drvs[store.path].outputs == ("bin", "out")


def test_without_nix_a_nix_stage_is_refused_where_it_stands():
    with pytest.raises(StageError, match="the stage gzip needs Nix to be evaluated, and there is none") as caught:
        plan_of([flake("nixpkgs#gzip")])
    assert caught.value.file == __file__
    assert "host" in caught.value.hint


def test_the_hash_of_a_fetch_is_what_its_output_has():
    node = plan_of([fetchurl("file:///a", hash=HASH)]).targets[0]
    assert node.derivation.outputs["out"].hash == Hash.parse(HASH, None)


def test_config_is_in_the_derivation_as_it_was_given(project):
    node = project.node("from bridge import stage\n@stage\ndef train(run, x={'b': [1.5, None]}, y='é'): pass\n")
    assert json.loads(node.derivation.env[STRUCTURED])["config"] == {"x": {"b": [1.5, None]}, "y": "é"}


@stage
def train(lr=0.1, layers=[1, 2], model=out("model")):  # noqa: B006, B008
    pass


@stage
def end(models=[train, train(lr=0.2), train(lr=0.2, layers=list(range(99)))], x=out("x")):  # noqa: B006, B008
    pass


@stage
def copied(given=train, y=out("y")):  # noqa: B008
    pass


def test_variants_are_told_apart_by_the_config_that_differs():
    plan = plan_of([end])
    assert [node.label for node in plan.nodes] == [
        "train(lr=0.1, layers=[1, 2])",
        "train(lr=0.2, layers=[1, 2])",
        "train(lr=0.2, layers=[0, 1, 2, 3, 4, 5, 6, 7…)",
        "end",
    ]
    assert len(plan.named("train")) == 3
    assert plan.named("train(lr=0.2, layers=[1, 2])") == [plan.nodes[1]]


def test_stages_that_differ_by_their_inputs_only_keep_their_name():
    assert [node.label for node in plan_of([copied, copied(given=copied)]).nodes] == ["train", "copied", "copied"]
