"""What differs between two derivations: first causes, and nothing that only follows from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats import nix32
from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    InputAddressed,
    InputOutputs,
    instantiate,
    upstream_output,
)
from bridge.formats.derivation.diff import Change, Difference, Pair, causes, diff, to_json
from bridge.formats.errors import ClosureError
from bridge.formats.hashes import Hash
from tests.formats.strategies import derivations


class World:
    """Derivations instantiated one after the other."""

    def __init__(self) -> None:
        self.derivations: dict[str, Derivation] = {}
        self._hashes: dict[str, str | None] = {}

    def add(self, drv: Derivation) -> str:
        made = instantiate(drv, self._hashes.__getitem__)
        self.derivations[made.path] = made.derivation
        self._hashes[made.path] = made.modulo
        return made.path

    def package(self, name: str, *inputs: str, floating: bool = False, **env: str) -> str:
        """A derivation whose environment names the outputs of its inputs."""
        shown = [self.output(path) for path in inputs]
        return self.add(
            Derivation(
                name=name,
                outputs={"out": Floating() if floating else Deferred()},
                input_drvs={path: InputOutputs(("out",)) for path in inputs},
                input_srcs=(),
                system="x86_64-linux",
                builder="/bin/sh",
                args=("-c", f"build {' '.join(shown)}"),
                env={"name": name, "inputs": " ".join(shown), **env},
            )
        )

    def output(self, path: str) -> str:
        return self.derivations[path].output_path("out") or upstream_output(path, "out")

    def diff(self, before: str, after: str) -> dict[Pair, Difference]:
        return diff(self.derivations, before, self.derivations, after)


@pytest.fixture
def world() -> World:
    return World()


def keys(one: Difference) -> list[tuple[str, ...]]:
    return [(change.what, *change.key) for change in one.changes]


@pytest.mark.parametrize("floating", [False, True])
def test_only_the_first_cause_has_differences_of_its_own(world: World, floating: bool) -> None:
    tops = []
    for flag in ("-O1", "-O2"):
        bottom = world.package("bottom", flags=flag, floating=floating)
        middle = world.package("middle", bottom, floating=floating)
        tops.append(world.package("top", middle, bottom))
    found = world.diff(*tops)
    assert sorted(one.left.partition("-")[2] for one in found.values()) == ["bottom.drv", "middle.drv", "top.drv"]
    [cause] = causes(found)
    assert cause.changes == (Change("env", ("flags",), "-O1", "-O2"),)
    assert all(not one.changes for one in found.values() if one is not cause)
    assert next(iter(found)) == tuple(tops)


def test_a_pair_that_several_use_is_gone_into_once(world: World) -> None:
    tops = []
    for flag in "ab":
        bottom = world.package("bottom", flag=flag)
        tops.append(world.package("top", *(world.package(f"m{number}", bottom) for number in range(5))))
    found = world.diff(*tops)
    assert len(found) == 7
    assert sum(causes(found)[0].pair in one.inputs for one in found.values()) == 5


def test_a_chain_of_ten_thousand_is_gone_down(world: World) -> None:
    tops = []
    for flag in "ab":
        path = world.package("n", flag=flag)
        for _ in range(10_000):
            path = world.package("n", path)
        tops.append(path)
    found = world.diff(*tops)
    assert len(found) == 10_001
    assert [keys(one) for one in causes(found)] == [[("env", "flag")]]


def test_equal_derivations_do_not_differ(closure: Mapping[str, Derivation]) -> None:
    for path in closure:
        assert diff(closure, path, closure, path) == {}


def single(before: Derivation, after: Derivation) -> Difference:
    # Digests that no generated text holds.
    pair = f"/nix/store/{nix32.ALPHABET}-x.drv", f"/nix/store/{nix32.ALPHABET[::-1]}-x.drv"
    return diff({pair[0]: before}, pair[0], {pair[1]: after}, pair[1])[pair]


PLAIN = Derivation("x", {"out": Deferred()}, {}, (), "s", "b", ("-e", "x"), {"k": "v"})
SHA = Hash("sha256", bytes(32))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (replace(PLAIN, name="y"), Change("name", (), "x", "y")),
        (replace(PLAIN, system="t"), Change("system", (), "s", "t")),
        (replace(PLAIN, builder="c"), Change("builder", (), "b", "c")),
        (replace(PLAIN, args=("-e", "y")), Change("args", ("1",), "x", "y")),
        (
            replace(PLAIN, args=("-e",)),
            Change("args", (), "-e x", "-e", ("@@ -1,2 +1 @@", ' "-e"', '-"x"')),
        ),
        (replace(PLAIN, env={"k": "w"}), Change("env", ("k",), "v", "w")),
        (replace(PLAIN, env={}), Change("env", ("k",), "v", None)),
        (replace(PLAIN, env={"k": "v", "l": ""}), Change("env", ("l",), None, "")),
        (
            replace(PLAIN, env={"k": "a\nb"}),
            Change("env", ("k",), "v", "a\nb", ("@@ -1 +1,2 @@", "-v", "+a", "+b")),
        ),
        (
            replace(PLAIN, outputs={"out": Deferred(), "dev": Deferred()}),
            Change("outputs", ("dev",), None, "input-addressed"),
        ),
        (
            replace(PLAIN, outputs={"out": Floating("flat", "sha1")}),
            Change("outputs", ("out",), "input-addressed", "floating sha1"),
        ),
        (
            replace(PLAIN, outputs={"out": Fixed.of("x", "out", "nar", SHA)}),
            Change("outputs", ("out",), "input-addressed", f"fixed r:sha256 {SHA.sri}"),
        ),
        (
            replace(PLAIN, input_srcs=("/nix/store/" + "2" * 32 + "-src",)),
            Change("sources", ("src",), None, "/nix/store/" + "2" * 32 + "-src"),
        ),
    ],
)
def test_each_part_is_compared(after: Derivation, expected: Change) -> None:
    assert single(PLAIN, after).changes == (expected,)


def test_the_environment_does_not_say_again_what_a_field_says() -> None:
    before = replace(PLAIN, env={"system": "s", "builder": "b", "name": "x"})
    after = replace(before, system="t", env={**before.env, "system": "t"})
    assert keys(single(before, after)) == [("system",)]
    odd = replace(before, env={**before.env, "system": "t"})
    assert keys(single(before, odd)) == [("env", "system")]


def structured(value: object) -> Derivation:
    return replace(PLAIN, env={"__json": json.dumps(value)})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, [Change("structured", ("a", "c"), "2", "3")]),
        ({"a": 1}, {"a": 1.0}, [Change("structured", ("a",), "1", "1.0")]),
        ({"a": 1}, {"a": True}, [Change("structured", ("a",), "1", "true")]),
        ({"a": "x"}, {"a": "y"}, [Change("structured", ("a",), "x", "y")]),
        ({"a": "1"}, {"a": 1}, [Change("structured", ("a",), '"1"', "1")]),
        ({"a": None}, {}, [Change("structured", ("a",), "null", None)]),
        ({"a": [1]}, {"a": [2]}, [Change("structured", ("a",), "[1]", "[2]")]),
        ({"a": {}}, {"a": []}, [Change("structured", ("a",), "{}", "[]")]),
    ],
)
def test_structured_attributes_are_compared_key_by_key(before: object, after: object, expected: list[Change]) -> None:
    assert list(single(structured(before), structured(after)).changes) == expected


@pytest.mark.parametrize("text", ["{", '{"a":  1}', "[" * 100_000, '{"a":NaN}', '{"a":"\\ud800"}'])
def test_structured_attributes_that_are_odd_are_compared_as_text(text: str) -> None:
    before, after = structured({"a": 1}), replace(PLAIN, env={"__json": text})
    changes = single(before, after).changes
    assert [change.what for change in changes] == ["env"]


def test_inputs_without_a_match_and_other_outputs_are_said(world: World) -> None:
    one, two = world.package("one"), world.package("two")
    before = world.add(replace(PLAIN, input_drvs={one: InputOutputs(("out",))}))
    after = world.add(replace(PLAIN, input_drvs={one: InputOutputs(("dev", "out")), two: InputOutputs(("out",))}))
    [found] = world.diff(before, after).values()
    assert found.changes == (
        Change("inputs", ("one",), f"{one}^out", f"{one}^dev,out"),
        Change("inputs", ("two",), None, f"{two}^out"),
    )


def test_an_input_of_another_version_is_matched(world: World) -> None:
    tops = [world.package("top", world.package(f"lib-{version}")) for version in ("1.0", "1.1")]
    found = world.diff(*tops)
    [cause] = causes(found)
    assert keys(cause) == [("name",)]
    assert found[tops[0], tops[1]].changes == ()


def test_inputs_of_one_name_are_matched_by_the_variables_that_hold_them(world: World) -> None:
    """As the many `source` of nixpkgs are: the order of their paths says nothing."""
    for salt in range(20):
        tops = []
        for version in "12":
            sources = {
                key: world.package("source", url=f"{key}{version if key == 'b' else ''}", salt=str(salt))
                for key in "abcd"
            }
            env = {key: world.output(path) for key, path in sources.items()}
            inputs = {path: InputOutputs(("out",)) for path in sources.values()}
            changed = world.package("source", url="e" + version, salt=str(salt))
            env["e"] = world.output(changed)
            tops.append(world.add(replace(PLAIN, env=env, input_drvs={**inputs, changed: InputOutputs(("out",))})))
        found = world.diff(*tops)
        assert sorted((change.before, change.after) for one in causes(found) for change in one.changes) == [
            ("b1", "b2"),
            ("e1", "e2"),
        ]


def test_two_ways_to_fetch_one_thing_have_the_same_outputs(world: World) -> None:
    fetches = [
        world.add(replace(PLAIN, outputs={"out": Fixed.of("x", "out", "flat", SHA)}, env={"url": url})) for url in "ab"
    ]
    tops = [world.package("top", fetch) for fetch in fetches]
    found = world.diff(*tops)
    assert [one.same_outputs for one in found.values()] == [True, True]
    assert [keys(one) for one in causes(found)] == [[("env", "url")]]


def test_a_source_that_changed_is_said_once_though_the_environment_names_it() -> None:
    old, new = (f"/nix/store/{digit * 32}-build.sh" for digit in "23")
    before = replace(PLAIN, input_srcs=(old,), args=("-e", old), env={"src": f"x:{old}/y"})
    after = replace(PLAIN, input_srcs=(new,), args=("-e", new), env={"src": f"x:{new}/y"})
    assert single(before, after).changes == (Change("sources", ("build.sh",), old, new),)


def test_derivations_that_differ_in_paths_only_are_told_apart() -> None:
    paths = [f"/nix/store/{digit * 32}-x" for digit in "45"]
    before, after = (replace(PLAIN, outputs={"out": InputAddressed(path)}) for path in paths)
    assert single(before, after).changes == (Change("outputs", ("out",), *paths),)


def test_digests_without_their_folder_or_their_name_are_rewritten_too(world: World) -> None:
    tops = []
    for flag in "ab":
        bottom = world.package("bottom", flag=flag)
        path = world.output(bottom)
        text = f"{path}-tail {path[11:]} {path[11:43]} {bottom}"
        tops.append(world.add(replace(PLAIN, env={"k": text}, input_drvs={bottom: InputOutputs(("out",))})))
    assert world.diff(*tops)[tops[0], tops[1]].changes == ()


def test_long_lines_are_compared_by_words() -> None:
    words = [f"w{number}" for number in range(30)]
    before, after = (replace(PLAIN, env={"k": " ".join(some)}) for some in (words, [*words, "new"]))
    [change] = single(before, after).changes
    assert change.text[-1] == "+new"
    assert len(change.text) == 5


def test_huge_texts_are_told_apart_in_time() -> None:
    lines = [str(number) for number in range(50_000)]
    before, after = (
        replace(PLAIN, env={"k": "\n".join(some)}) for some in (lines, ["0", *reversed(lines[1:-1]), lines[-1]])
    )
    [change] = single(before, after).changes
    assert change.text[0] == "@@ -2,49998 +2,49998 @@"
    assert len(change.text) == 1 + 2 * 49998


def test_an_input_that_is_not_in_the_closure_is_an_error(world: World) -> None:
    tops = [world.package("top", world.package("bottom", flag=flag)) for flag in "ab"]
    alone = {tops[0]: world.derivations[tops[0]]}
    with pytest.raises(ClosureError, match=r"bottom\.drv, an input of .*-top\.drv, is not in the closure"):
        diff(alone, tops[0], world.derivations, tops[1])
    with pytest.raises(ClosureError, match="is not in the closure"):
        diff({}, tops[0], world.derivations, tops[1])


def test_json_holds_all_and_no_byte_that_is_not_utf8() -> None:
    pair = "/nix/store/" + "0" * 32 + "-x.drv", "/nix/store/" + "1" * 32 + "-x.drv"
    found = diff({pair[0]: PLAIN}, pair[0], {pair[1]: replace(PLAIN, env={"k": "\udcff\na"})}, pair[1])
    value = to_json(found)
    json.dumps(value, ensure_ascii=False).encode()
    assert value["causes"] == [{"left": pair[0], "right": pair[1]}]
    assert value["differences"][0]["changes"] == [
        {
            "what": "env",
            "key": ["k"],
            "before": "v",
            "after": "\\xff\na",
            "text": ["@@ -1 +1,2 @@", "-v", "+\\xff", "+a"],
        }
    ]


# Few different parts, so that pairs have much in common.
_few = st.sampled_from(["", "a", "b", "a\nb", "a b c d e f g h i j", '{"a":1}', '{"a":{"b":"c"}}'])
small = st.builds(
    Derivation,
    name=st.sampled_from(["x", "y"]),
    outputs=st.sampled_from([{"out": Deferred()}, {"out": Floating()}, {"dev": Deferred(), "out": Deferred()}]),
    input_drvs=st.just({}),
    input_srcs=st.sets(st.sampled_from([f"/nix/store/{digit * 32}-s" for digit in "0123"])).map(tuple),
    system=st.sampled_from("st"),
    builder=_few,
    args=st.lists(_few, max_size=3).map(tuple),
    env=st.dictionaries(st.sampled_from(["a", "b", "__json", "system"]), _few),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, str, str]:
    """Two layers: tops that use some of what lies below."""
    world = World()
    bottoms = [world.add(drv) for drv in draw(st.lists(small, min_size=1, max_size=6))]
    tops = []
    for drv in (draw(small), draw(small)):
        used = draw(st.lists(st.sampled_from(bottoms), unique=True, max_size=4))
        env = {**drv.env, "inputs": " ".join(map(world.output, used))}
        tops.append(world.add(replace(drv, env=env, input_drvs={path: InputOutputs(("out",)) for path in used})))
    return world, *tops


@given(worlds())
def test_both_directions_find_the_same(made: tuple[World, str, str]) -> None:
    world, before, after = made
    there, back = world.diff(before, after), world.diff(after, before)
    assert {pair[::-1] for pair in there} == set(back)
    for pair, one in there.items():
        assert sorted(keys(one)) == sorted(keys(back[pair[::-1]]))
    assert bool(there) == (before != after)


@given(derivations())
def test_a_derivation_does_not_differ_from_itself(drv: Derivation) -> None:
    drv = replace(drv, input_drvs={})
    one = single(drv, drv)
    assert one.changes == ()
    assert one.inputs == ()
