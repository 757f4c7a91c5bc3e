"""Overrides: arguments of stages that are set from outside, wherever in the graph they are."""

from __future__ import annotations

import pytest

from bridge.stages.define import host, shell, source
from bridge.stages.errors import StageError, TargetError
from bridge.stages.override import override
from bridge.stages.plan import instantiate as plan_of
from bridge.stages.values import out

HASH = "sha256-" + "A" * 43 + "="


def made(name, *inputs, **arguments):
    if inputs:
        arguments["inputs_"] = list(inputs)
    return shell("true", name=name, system="x86_64-linux", **arguments)


def test_an_override_changes_a_config_value_wherever_it_is():
    low = made("low", x=1, y=2)
    mid = made("mid", low, tools=[low], shell=low / "bin/sh")
    top = made("top", low / "a", mid.out)
    untouched = made("untouched")
    changed = override([top, untouched], {("low", "x"): [5]})
    before, after = plan_of([top, untouched]), plan_of(changed)
    assert [node.name for node in after.nodes] == [node.name for node in before.nodes]
    assert after.named("low")[0].derivation.env["x"] == "5"
    assert after.named("low")[0].derivation.env["y"] == "2"
    assert after.named("top")[0].path != before.named("top")[0].path
    assert after.named("untouched")[0].path == before.named("untouched")[0].path
    assert low.recipe.arguments["x"] == 1


def test_an_override_is_the_variant_that_a_user_would_write(project):
    module = project.load("from bridge import stage\n@stage\ndef train(run, lr=1): pass\nother = train(lr=7)\n")
    (changed,) = override([module.train], {("train", "lr"): 7})
    assert plan_of([changed]).targets[0].path == plan_of([module.other]).targets[0].path


def test_an_override_reaches_all_stages_of_the_name():
    changed = override([made("a", x=1), made("a", x=2)], {("a", "x"): 3})
    assert {node.path for node in plan_of(changed).nodes} == {plan_of([made("a", x=3)]).targets[0].path}


def test_no_override_gives_the_very_stages():
    one = made("one")
    assert override([one], {}) == [one]


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({("nothing", "x"): 1}, "no stage of this plan is named 'nothing'", "there are data, low, tool, top"),
        ({("low", "z"): 1}, "the stage low has no argument 'z'", "there are file, x"),
        ({("tool", "z"): 1}, "the stage tool takes no arguments", None),
        ({("low", "file"): 1}, "low.file is no config value", None),
        ({("top", "data"): 1}, "top.data is no config value", None),
        ({("low", "x"): 1, ("nothing", "x"): 1}, "no stage of this plan is named 'nothing'", None),
    ],
)
def test_an_override_of_what_is_no_config_value_is_refused(values, message, hint):
    low = made("low", x=1, file=out("a"))
    top = shell("true", name="top", low=low, data=source(__file__, name="data"), tools=[host("tool")])
    with pytest.raises(TargetError, match=message) as caught:
        override([top], values)
    if hint is not None:
        assert caught.value.hint == hint


@pytest.mark.parametrize("value", [{1}, float("nan"), b"x"])
def test_an_override_by_what_json_can_not_hold_is_refused(value):
    with pytest.raises(StageError, match=r"low\.x is"):
        override([made("low", x=1)], {("low", "x"): value})


def test_an_override_of_a_long_chain_needs_no_recursion():
    top = made("start", x=1)
    for _ in range(3_000):
        top = made("link", top)
    changed = override([top], {("start", "x"): 2})
    assert plan_of(changed).nodes[0].derivation.env["x"] == "2"
