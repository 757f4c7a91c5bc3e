"""Policies: how a stage is realized, and what is refused of it."""

from __future__ import annotations

import sys

import pytest

from bridge.stages.define import shell, stage
from bridge.stages.errors import StageError
from bridge.stages.policy import amount


@stage(realizations=3)
def train(run, lr=0.1):
    """Nothing."""


def line() -> int:
    return sys._getframe(1).f_lineno


def test_options_make_the_same_recipe_under_another_policy():
    other = train.options(realizations=9, builder="local")
    assert other.recipe is train.recipe
    assert (other.policy.realizations, other.policy.builder, train.policy.realizations) == (9, "local", 3)


@pytest.mark.parametrize("options", [{"realisations": 2}, {"name": "x"}, {"deterministic": True}])
def test_an_unknown_option_says_which_there_are(options):
    with pytest.raises(StageError, match=f"unknown option {next(iter(options))}") as caught:
        train.options(**options)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("there are realizations, match, builder, on_error, ")
    assert caught.value.where == f"{__file__}:{line() - 3}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_error": "ignore"}, "on_error must be fail or keep, not 'ignore'"),
        ({"retries": -1}, "retries must be a whole number, 0 or more, not -1"),
        ({"retries": True}, "retries must be a whole number"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0, not 0"),
        ({"cpu_time": "1h"}, "cpu_time must be a number of seconds"),
        ({"backoff": float("inf")}, "backoff must be a number of seconds"),
        ({"memory": "8Q"}, "'8Q' is no amount of a resource"),
        ({"resources": {"gpu": -1}}, "-1 is no amount of a resource"),
        ({"resources": ["gpu"]}, "resources must be a dict of names and amounts"),
    ],
)
def test_limits_that_are_none_are_refused(options, said):
    with pytest.raises(StageError, match=said):
        train.options(**options)


@pytest.mark.parametrize(
    ("text", "bytes_"), [("8G", 8 << 30), ("1.5K", 1536), ("2 MiB", 2 << 20), (7, 7), (1.2, 2), ("3t", 3 << 40)]
)
def test_amounts_have_binary_units(text, bytes_):
    assert amount(text) == bytes_


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True, None])
def test_the_number_of_realizations_is_a_whole_number_above_0(count):
    with pytest.raises(StageError, match="realizations must be a whole number above 0") as caught:
        train.options(realizations=count)
    assert caught.value.where == f"{__file__}:{line() - 1}"


def test_a_deterministic_stage_has_one_realization():
    with pytest.raises(StageError, match="has one realization"):
        shell("true", name="x").options(realizations=2)
    with pytest.raises(StageError, match="has one realization"):
        stage(deterministic=True, realizations=2)


def test_a_matcher_is_a_function():
    with pytest.raises(StageError, match="match must be a matcher, not 'best'"):
        train.options(match="best")


def test_a_builder_is_one_of_three():
    with pytest.raises(StageError, match="builder must be auto, nix or local, not 'docker'"):
        train.options(builder="docker")
