"""Closures: reading them whole, why something is needed, and their graph."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.derivation import Deferred, Derivation, InputOutputs, instantiate, unparse
from bridge.formats.derivation.closure import (
    Closure,
    closure_of,
    derivation_name,
    graph,
    graph_dot,
    outputs_used,
    read_closure,
    why,
)
from bridge.formats.errors import ATermError, ClosureError

Uses = Mapping[str, tuple[str, ...]]


def store_path(name: str) -> str:
    return f"/nix/store/{'0' * 32}-{name}.drv"


def derivation(name: str, *inputs: str, outputs: tuple[str, ...] = ("out",)) -> Derivation:
    used = {store_path(one): InputOutputs(outputs) for one in inputs}
    return Derivation(name, {"out": Deferred()}, used, (), "s", "b", (), {})


def files(uses: Uses) -> dict[str, bytes]:
    return {store_path(name): unparse(derivation(name, *inputs)) for name, inputs in uses.items()}


def names(paths: object) -> list[str]:
    return [derivation_name(path) for path in paths]  # type: ignore[attr-defined]


DIAMOND: Uses = {"top": ("left", "right"), "left": ("bottom",), "right": ("bottom",), "bottom": ()}


# ----------------------------------------------------------------------------------------- reading


def test_what_nix_made_is_read_whole_and_inputs_come_first(closure: Mapping[str, Derivation]) -> None:
    found = read_closure(closure, lambda path: unparse(closure[path]))
    assert found == closure
    place = {path: number for number, path in enumerate(found)}
    assert all(place[used] < place[path] for path, drv in found.items() for used in drv.input_drvs)
    assert found.roots == tuple(closure)


def test_each_derivation_is_read_once() -> None:
    read: Counter[str] = Counter()
    stored = files(DIAMOND)

    def reader(path: str) -> bytes:
        read[path] += 1
        return stored[path]

    assert names(read_closure([store_path("top"), store_path("top"), store_path("left")], reader))[-1] == "top"
    assert read == dict.fromkeys(stored, 1)


def test_what_is_known_is_not_read() -> None:
    known = {store_path("top"): derivation("top", "bottom")}
    found = read_closure(known, files({"bottom": ()}).__getitem__, known)
    assert names(found) == ["bottom", "top"]


def test_a_chain_of_ten_thousand_is_read_and_gone_through() -> None:
    count = 10_000
    chain = {f"n{number}": (f"n{number + 1}",) for number in range(count)} | {f"n{count}": ()}
    found = read_closure([store_path("n0")], files(chain).__getitem__)
    assert names(found) == [f"n{number}" for number in range(count, -1, -1)]
    [path] = why(found, store_path("n0"), store_path(f"n{count}"))
    assert len(path) == count
    assert sum(1 for _ in graph_dot(found)) == 2 * count + 4


@pytest.mark.parametrize("error", [KeyError("x"), FileNotFoundError(2, "No such file or directory")])
def test_a_missing_input_says_which_and_who_uses_it(error: Exception) -> None:
    def reader(path: str) -> bytes:
        if path == store_path("gone"):
            raise error
        return files({"top": ("gone",)})[path]

    with pytest.raises(ClosureError) as caught:
        read_closure([store_path("top")], reader)
    assert (caught.value.path, caught.value.user) == (store_path("gone"), store_path("top"))
    assert f"{store_path('gone')}, an input of {store_path('top')}, can not be read" in str(caught.value)


def test_a_missing_root_has_no_user() -> None:
    with pytest.raises(ClosureError, match="can not be read: it is not there") as caught:
        read_closure([store_path("gone")], {}.__getitem__)
    assert caught.value.user is None


@pytest.mark.parametrize("path", ["", "x.drv", "/nix/store/x.drv", f"/nix/store/{'0' * 32}-x", store_path("x") + "/y"])
def test_a_path_that_is_none_of_a_derivation_is_refused(path: str) -> None:
    with pytest.raises(ClosureError) as caught:
        read_closure([path], {path: b""}.__getitem__)
    assert caught.value.path == path


def test_a_damaged_input_says_in_which_file() -> None:
    stored = files(DIAMOND) | {store_path("bottom"): b"Derive(["}
    with pytest.raises(ATermError, match=r"bottom\.drv: .* at byte 8 ") as caught:
        read_closure([store_path("top")], stored.__getitem__)
    assert caught.value.file == store_path("bottom")


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_files_that_need_each_other_are_an_error(length: int) -> None:
    ring = {f"n{number}": (f"n{(number + 1) % length}",) for number in range(length)}
    with pytest.raises(ClosureError, match="need each other"):
        read_closure([store_path("n0")], files(ring).__getitem__)


def test_a_closure_of_derivations_at_hand_leaves_the_others_out(closure: Mapping[str, Derivation]) -> None:
    for path in closure:
        found = closure_of([path], closure)
        assert list(found)[-1] == path
        assert all(used in found for drv in found.values() for used in drv.input_drvs)
    with pytest.raises(ClosureError):
        closure_of([store_path("gone")], closure)


# --------------------------------------------------------------------------------------------- why


def read(uses: Uses, top: str = "top") -> Closure:
    return read_closure([store_path(top)], files(uses).__getitem__)


def steps(closure: Closure, start: str, end: str) -> list[list[str]]:
    return [names(edge.used for edge in path) for path in why(closure, store_path(start), store_path(end))]


def test_all_shortest_paths_are_found_in_the_order_of_inputs() -> None:
    longer = {**DIAMOND, "top": ("left", "right", "a"), "a": ("b",), "b": ("bottom",)}
    assert steps(read(longer), "top", "bottom") == [["left", "bottom"], ["right", "bottom"]]


def test_an_edge_says_the_outputs_that_it_uses() -> None:
    stored = {store_path("top"): unparse(derivation("top", "dep", outputs=("dev", "lib"))), **files({"dep": ()})}
    [[edge]] = why(read_closure([store_path("top")], stored.__getitem__), store_path("top"), store_path("dep"))
    assert (edge.user, edge.used, edge.outputs) == (store_path("top"), store_path("dep"), ("dev", "lib"))


def test_outputs_of_dynamic_derivations_stand_behind_a_caret() -> None:
    used = InputOutputs(("out",), {"drv": InputOutputs(("dev",), {"doc": InputOutputs(("man",))})})
    assert outputs_used(used) == ("out", "drv^dev", "drv^doc^man")


def test_what_is_not_needed_has_no_path() -> None:
    assert steps(read(DIAMOND), "left", "right") == []
    assert steps(read(DIAMOND), "bottom", "top") == []


def test_a_derivation_needs_itself_without_an_edge() -> None:
    assert steps(read(DIAMOND), "left", "left") == [[]]


def test_what_is_not_in_the_closure_is_an_error() -> None:
    for pair in (("top", "x"), ("x", "top")):
        with pytest.raises(ClosureError, match="is not in the closure"):
            why(read(DIAMOND), *map(store_path, pair))


def test_the_first_of_very_many_paths_comes_at_once() -> None:
    layers = 200
    uses: dict[str, tuple[str, ...]] = {"top": ("a0", "b0"), f"a{layers}": (), f"b{layers}": ()}
    for layer in range(layers):
        uses |= {f"{side}{layer}": (f"a{layer + 1}", f"b{layer + 1}") for side in "ab"}
    found = why(read(uses), store_path("top"), store_path(f"a{layers}"))
    first, second = next(found), next(found)
    assert len(first) == len(second) == layers + 1
    assert first != second


@st.composite
def graphs(draw: st.DrawFn) -> Uses:
    count = draw(st.integers(1, 9))
    uses = {
        f"n{number}": tuple(sorted(draw(st.sets(st.integers(number + 1, count - 1))))) if number + 1 < count else ()
        for number in range(count)
    }
    return {name: tuple(f"n{used}" for used in inputs) for name, inputs in uses.items()}


@given(graphs())
def test_the_paths_are_the_shortest_of_all_paths(uses: Uses) -> None:
    closure = read(uses, "n0")

    def every(start: str, end: str) -> list[list[str]]:
        if start == end:
            return [[]]
        return [[used, *rest] for used in uses[start] for rest in every(used, end)]

    for end in names(closure):
        found = every("n0", end)
        shortest = min(map(len, found))
        assert steps(closure, "n0", end) == [path for path in found if len(path) == shortest]


# ------------------------------------------------------------------------------------------- graph


def test_the_graph_names_kinds_of_outputs_and_outputs_used(
    closure: Mapping[str, Derivation], named: Mapping[str, str]
) -> None:
    shown = graph(closure_of([named["dep-floating-multi"]], closure))
    assert json.loads(json.dumps(shown)) == shown
    nodes = {node["path"]: node for node in shown["nodes"]}
    assert set(nodes[named["floating-multi"]]["outputs"].values()) == {"floating"}
    assert shown["roots"] == [named["dep-floating-multi"]]
    used = closure[named["dep-floating-multi"]].input_drvs[named["floating-multi"]].outputs
    assert {
        "from": named["dep-floating-multi"],
        "to": named["floating-multi"],
        "outputs": list(used),
    } in shown["edges"]


HOSTILE = ['"', "\\", '\\"', "a\nb", "<b>", "&lt;", "x\\", "\x00\x1b[31m", "\udcff", "]; evil [", "--", "é"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_inside_of_their_quotes(name: str) -> None:
    path = f"/nix/store/{name}"
    drv = replace(derivation("x"), name=name, input_drvs={path + "2": InputOutputs((name,))})
    closure = Closure((path,), {path + "2": derivation("y"), path: drv})
    for line in graph_dot(closure):
        assert line.count("\n") == 1
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "Q", line)
        assert re.fullmatch(
            r"digraph derivations {\n|  node \[shape=ellipse\];\n|  Q \[label=Q\];\n|  Q -> Q \[label=Q\];\n|}\n", bare
        )
        assert not re.search(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]", line)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("name", HOSTILE)
def test_graphviz_reads_the_graph_back(name: str) -> None:
    path = f"/nix/store/{name}"
    text = "".join(graph_dot(Closure((path,), {path: replace(derivation("x"), name=name)})))
    subprocess.run(["dot", "-Tjson"], input=text.encode(), capture_output=True, check=True)


def test_instantiated_derivations_make_a_closure() -> None:
    bottom = instantiate(derivation("bottom"), lambda path: None)
    top = replace(derivation("top"), input_drvs={bottom.path: InputOutputs(("out",))})
    made = instantiate(top, {bottom.path: bottom.modulo}.__getitem__)
    found = read_closure([made.path], {made.path: made.aterm, bottom.path: bottom.aterm}.__getitem__)
    assert list(found.values()) == [bottom.derivation, made.derivation]
