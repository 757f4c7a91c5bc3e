"""A stage that is assigned has the variable's name."""

from __future__ import annotations

import sys

import pytest

from bridge.stages.define import nix, shell, stage
from bridge.stages.errors import StageError

clean = shell("true")
annotated: object = shell("true")
EXPRESSION = nix(expr="1")


class Grouped:
    inside = shell("true")


def test_a_variable_of_the_module_gives_the_name():
    assert clean.name == "clean"
    assert annotated.name == "annotated"
    assert EXPRESSION.name == "EXPRESSION"


def test_a_variable_of_a_class_gives_the_name():
    assert Grouped.inside.name == "inside"


def test_a_variable_of_a_function_gives_the_name():
    local = shell("true")
    assert local.name == "local"


def test_a_variable_that_an_inner_function_uses_gives_the_name():
    first = 1
    shared = shell("true")

    def inner():
        nonlocal shared
        again = shared
        shared = shell("false")
        return again, first

    assert shared.name == "shared"
    assert inner()[0].name == "shared"
    assert shared.name == "shared"


def test_a_parameter_that_is_assigned_and_shared_gives_the_name():
    def outer(given=None):
        given = shell("true")
        return [lambda: given][0]()

    assert outer().name == "given"


def test_a_global_variable_gives_the_name():
    global made_global  # noqa: PLW0603
    made_global = shell("true")
    assert made_global.name == "made_global"


def test_the_name_is_found_however_the_call_is_written():
    arguments = {"a": 1}
    spread = shell("true", **arguments)
    starred = shell(*["true"])
    # fmt: off
    several = shell(
        "true",
        a=str(1),
    )
    # fmt: on
    assert (spread.name, starred.name, several.name) == ("spread", "starred", "several")


def test_the_name_is_found_behind_many_others():
    lines = [f"v{number} = {number}" for number in range(70_000)]
    for text, name in (
        ("\n".join([*lines, "last = shell('true')"]), "last"),
        ("\n".join([*lines[:300], "last = shell('true')"]), "last"),
        ("\n".join([*lines[:255], "a = b = 1", "last = shell('true')"]), "last"),
    ):
        space = {"__name__": "many", "shell": shell}
        exec(text, space)
        assert space[name].name == name


def test_the_name_is_found_behind_many_local_variables():
    body = "".join(f"    v{number} = {number}\n" for number in range(400))
    space = {"__name__": "many", "shell": shell}
    exec(f"def f():\n{body}    last = shell('true')\n    return last\n", space)
    assert space["f"]().name == "last"


def test_the_name_is_found_under_a_tracer():
    before = sys.gettrace()
    sys.settrace(lambda *_: lambda *_: None)
    try:
        traced = shell("true")
    finally:
        sys.settrace(before)
    assert traced.name == "traced"


def test_a_name_that_is_given_wins():
    variable = shell("true", name="given")
    assert variable.name == "given"


def test_variants_share_the_name():
    @stage
    def train(run, lr=1):
        pass

    other = train(lr=2)
    again = clean().options(builder="nix")
    assert (train.name, other.name, again.name) == ("train", "train", "clean")


@pytest.mark.parametrize(
    "text",
    [
        "shell('true')",
        "[shell('true')]",
        "{'a': shell('true')}",
        "x, y = shell('true'), 1",
        "t['a'] = shell('true')",
        "print(shell('true'))",
        "(lambda: shell('true'))()",
        "x = [shell('true') for _ in range(2)]",
        "x = not shell('true')",
        "x = y = shell('true')",
    ],
)
def test_a_stage_that_is_not_assigned_needs_a_name(text):
    space = {"__name__": "unnamed", "shell": shell, "t": {}}
    with pytest.raises(StageError, match="this shell stage has no name") as caught:
        exec(compile("\n\n" + text, "stages.py", "exec"), space)
    assert caught.value.where == "stages.py:3"
    assert caught.value.hint == 'assign it to a variable, or write shell(…, name="…")'


def test_a_nix_stage_without_a_name_says_so():
    with pytest.raises(StageError, match="this nix stage has no name"):
        nix(expr="1")
