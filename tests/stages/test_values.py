"""Stages as values: variants, references, and what an argument may be."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.stages.define import fetchurl, flake, shell, stage
from bridge.stages.errors import StageError
from bridge.stages.place import Place
from bridge.stages.policy import Policy
from bridge.stages.values import OutputPath, Promise, freeze, out, references

HERE = Place("file.py", 7)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@stage(realizations=3)
def train(run, lr=0.1, layers=(1, 2), model=out("model.pkl"), plots=out("plots")):  # noqa: B008
    """Nothing."""


def line() -> int:
    return sys._getframe(1).f_lineno


# ------------------------------------------------------------------------------- promised outputs


@pytest.mark.parametrize(
    ("written", "kept"),
    [("model.pkl", "model.pkl"), ("a/b", "a/b"), ("a//b/", "a/b"), ("./a", "a"), ("..a", "..a"), ("ä b", "ä b")],
)
def test_a_promise_is_a_path_inside_the_output(written, kept):
    assert out(written) == Promise(kept)


@pytest.mark.parametrize("path", ["", ".", "..", "../a", "a/../b", "a/..", "/a", "/", "a\0b", None, 1, Path("a")])
def test_a_promise_outside_of_the_output_is_refused_where_it_is_written(path):
    with pytest.raises(StageError, match="must be a path inside the stage's output") as caught:
        out(path)
    assert caught.value.where == f"{__file__}:{line() - 1}"
    assert "relative" in caught.value.hint


@pytest.mark.parametrize(
    ("promise", "given", "kept", "broken"),
    [
        (out("a/b"), "a/b", "a/b", "a/bc"),
        (out("a/model.ckpt", prefix=True), "a/model.ckpt", "a/model.ckpt-1.index", "a/model"),
        (out("[x]", prefix=True), "[x]", "[x]1", "x1"),
        (out("shards/*.npz"), "shards", "shards/7.npz", "shards/7.npy"),
        (out("*.npz"), ".", "7.npz", "7.npy"),
        (out("a/**/x"), "a", "a/b/c/x", "b/x"),
    ],
)
def test_a_promise_may_be_a_file_a_beginning_or_a_glob(tmp_path, promise, given, kept, broken):
    assert promise.path == given
    for name, expected in ((broken, False), (kept, True)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        assert promise.is_kept(tmp_path) is expected


# ----------------------------------------------------------------------------------- output paths


def test_a_slash_makes_a_path_inside_the_output():
    made = train / "a" / "b/c"
    assert (made.stage, made.output, made.path) == (train, "out", "a/b/c")
    assert (train / ".").path == ""
    assert repr(made) == "train / 'a/b/c'"


@pytest.mark.parametrize("path", ["/a", "..", "a/../b"])
def test_a_path_that_leaves_the_output_is_refused(path):
    with pytest.raises(StageError, match="is no path inside a stage's output"):
        train / path


def test_a_promised_output_is_an_attribute():
    assert (train.model.output, train.model.path) == ("out", "model.pkl")
    assert (train.plots / "a.png").path == "plots/a.png"
    assert train.promises == {"model": out("model.pkl"), "plots": out("plots")}


def test_a_misspelt_output_says_which_there_are():
    with pytest.raises(AttributeError, match=r"the stage train has no output 'modle' \(it has model, plots\)"):
        train.modle  # noqa: B018
    made = shell("true", name="made", outputs=("out", "lib"), file=out("x"))
    with pytest.raises(AttributeError, match=r"'dev' \(it has file, out, lib\)"):
        made.dev  # noqa: B018
    with pytest.raises(AttributeError, match=r"it has none"):
        fetchurl("file:///x", hash="sha256-" + "A" * 43 + "=").dev  # noqa: B018


def test_the_outputs_of_a_shell_stage_and_of_nix_are_attributes():
    made = shell("true", name="made", outputs=("out", "lib"))
    assert (made.lib.output, made.lib.path) == ("lib", "")
    assert repr(made.lib / "x") == "made.lib / 'x'"
    assert flake("nixpkgs#gzip").man.output == "man"


def test_private_attributes_are_never_outputs():
    with pytest.raises(AttributeError):
        flake("nixpkgs#gzip")._anything  # noqa: B018
    assert not hasattr(train, "__wrapped__")


# --------------------------------------------------------------------------------------- variants


def test_a_call_makes_another_stage_with_another_config():
    other = train(lr=0.5)
    assert other is not train
    assert other.name == "train"
    assert other.recipe.arguments["lr"] == 0.5
    assert train.recipe.arguments["lr"] == 0.1
    assert other.policy == train.policy
    assert other.place == Place(__file__, line() - 6)


def test_a_misspelt_argument_says_which_there_are():
    with pytest.raises(StageError, match="the stage train has no argument 'lrr'") as caught:
        train(lrr=1)
    assert caught.value.hint == "it has lr, layers, model, plots"
    assert caught.value.where == f"{__file__}:{line() - 2}"


def test_the_run_is_no_argument():
    with pytest.raises(StageError, match="has no argument 'run'"):
        train(run=1)


def test_a_promise_stays_a_promise():
    assert train(model=out("other")).promises["model"] == out("other")
    for wrong in ({"model": "x"}, {"lr": out("x")}):
        with pytest.raises(StageError, match="must stay what it is"):
            train(**wrong)


def test_a_stage_without_arguments_can_not_be_called():
    with pytest.raises(StageError, match="the stage gzip takes no arguments"):
        flake("nixpkgs#gzip")()


def test_a_variant_takes_a_stage_in_place_of_a_config_value():
    assert list(train(lr=train).inputs) == [train]


def test_values_do_not_change():
    for value, name in ((train, "name"), (train.recipe, "run"), (train.policy, "match"), (HERE, "line")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)


def test_a_stage_is_equal_to_itself_only():
    assert train(lr=1) != train(lr=1)
    assert len({train, train, train.options()}) == 2
    assert Policy() == Policy()


# ---------------------------------------------------------------------------------- config values


@given(JSON)
def test_json_is_kept_as_it_is(value):
    assert freeze(value, HERE, "x") == value


def test_config_is_copied():
    given_ = {"a": [1, {"b": 2}]}
    kept = freeze(given_, HERE, "x")
    given_["a"][1]["b"] = 3
    assert kept == {"a": [1, {"b": 2}]}


def test_tuples_are_lists_in_json():
    assert freeze(((1, 2), ()), HERE, "x") == [[1, 2], []]


def test_subclasses_of_json_types_are_taken():
    class Level(IntEnum):
        LOW = 1

    assert freeze(Level.LOW, HERE, "x") == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "x is a set, which JSON can not hold"),
        (b"a", "x is a bytes, which JSON can not hold"),
        (1j, "x is a complex, which JSON can not hold"),
        (object(), "x is a object, which JSON can not hold"),
        (print, "x is a builtin_function_or_method, which JSON can not hold"),
        (float("nan"), "x is nan, which JSON can not hold"),
        (float("inf"), "x is inf, which JSON can not hold"),
        ([1, {"a": {2}}], r"x\[1\]\['a'\] is a set, which JSON can not hold"),
        ([float("-inf")], r"x\[0\] is -inf, which JSON can not hold"),
        ({1: 2}, "x has the key 1, which JSON can not hold"),
        ({"a": {None: 2}}, r"x\['a'\] has the key None"),
        ("\ud800", "is no Unicode text"),
        (["a\udc80"], "is no Unicode text"),
        ({"\udc80": 1}, "has the key"),
        (Path("data.csv"), "x is a path of this machine"),
        ([Path("data.csv")], r"x\[0\] is a path of this machine"),
        ([1, out("x")], r"x\[1\] is a Promise"),
        ({"a": train}, r"x\['a'\] is an input inside a config value"),
        ([[train]], r"x\[0\]\[0\] is an input inside a config value"),
        ([train, 1], "x mixes inputs with 1"),
        ([1, train.model], "x mixes inputs with 1"),
    ],
)
def test_what_json_can_not_hold_is_refused_with_its_place(value, message):
    with pytest.raises(StageError, match=message) as caught:
        freeze(value, HERE, "x")
    assert caught.value.where == "file.py:7"


def test_a_path_hints_at_source():
    with pytest.raises(StageError) as caught:
        freeze(Path("data.csv"), HERE, "x")
    assert 'source("data.csv")' in caught.value.hint


def test_a_value_that_holds_itself_is_refused():
    value: list[object] = []
    value.append(value)
    with pytest.raises(StageError, match="x holds itself"):
        freeze(value, HERE, "x")


def test_a_list_of_inputs_is_a_tuple_of_inputs():
    assert freeze([train, train.model], HERE, "x")[0] is train
    assert isinstance(freeze([train], HERE, "x"), tuple)
    assert freeze([], HERE, "x") == []


def test_references_are_what_of_other_stages_is_in_a_value():
    assert [(one.stage, one.path) for one in references((train, train.model))] == [(train, ""), (train, "model.pkl")]
    assert [one.output for one in references(OutputPath(train, "lib"))] == ["lib"]
    for value in (1, "x", [1], {"a": 1}, out("x"), None):
        assert list(references(value)) == []


def test_inputs_are_the_stages_used_once_for_each_use():
    tool = flake("nixpkgs#gzip")
    sh = flake("nixpkgs#bash")
    made = shell("true", name="x", tools=[tool], shell=sh, a=train, b=[train.model, tool], c=1)
    assert list(made.inputs) == [train, train, tool, tool, sh]
    assert list(tool.inputs) == []
