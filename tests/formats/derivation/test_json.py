"""Derivation JSON of every release of Nix."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.derivation import (
    FORMATS,
    Derivation,
    InputOutputs,
    derivation_path,
    document,
    format_of_nix,
    from_json,
    parse_aterm,
    read_document,
    to_json,
    unparse,
)
from bridge.formats.errors import DerivationJSONError

from ..strategies import derivations, unicode  # noqa: TID252

DATA = Path(__file__).parents[1] / "data"
PRINTED = sorted((DATA / "json/good").glob("nix-*.json"))
V4 = FORMATS["4"]

Closure = Mapping[str, Derivation]
Named = Mapping[str, str]


def release(file: Path) -> tuple[int, ...]:
    return tuple(map(int, file.stem.split("-")[1].split(".")))


@pytest.mark.parametrize("file", PRINTED, ids=lambda file: file.stem)
def test_what_nix_printed_is_read_and_printed_the_same(file: Path) -> None:
    printed = json.loads(file.read_text())
    [(base, drv)] = read_document(printed).items()
    assert derivation_path(drv) == f"/nix/store/{base}"
    [aterm] = (DATA / "aterm/good").rglob(base)
    assert parse_aterm(aterm.read_bytes(), drv.name) == drv
    assert document({f"/nix/store/{base}": drv}, format_of_nix(release(file))) == printed


@pytest.mark.parametrize("shape", FORMATS)
def test_the_closure_keeps_its_paths_in_every_shape(closure: Closure, shape: str) -> None:
    kept = {path: drv for path, drv in closure.items() if drv.name != "latin1"}
    written = json.loads(json.dumps(document(kept, FORMATS[shape])))
    read = read_document(written)
    assert set(read) == {path.removeprefix("/nix/store/") for path in kept}
    for base, drv in read.items():
        assert drv == kept[f"/nix/store/{base}"]
        assert derivation_path(drv) == f"/nix/store/{base}"


@given(derivations(unicode), st.sampled_from(sorted(FORMATS)))
def test_json_and_back_gives_the_same_derivation_path(drv: Derivation, shape: str) -> None:
    path = derivation_path(drv)
    [read] = read_document(json.loads(json.dumps(document({path: drv}, FORMATS[shape])))).values()
    assert read == drv
    assert unparse(read) == unparse(drv)


@given(derivations(unicode))
def test_a_single_derivation_is_read_too(drv: Derivation) -> None:
    assert read_document(to_json(drv)) == {f"{drv.name}.drv": drv}
    assert from_json(to_json(drv)) == drv


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ((2, 3), "2.8"), ((2, 8, 0), "2.8"), ((2, 14), "2.8"), ((2, 15), "2.15"), ((2, 17, 1), "2.15"),
        ((2, 18), "2.18"), ((2, 22), "2.18"), ((2, 23), "2.23"), ((2, 26, 3), "2.23"), ((2, 30), "2.30"),
        ((2, 32), "3"), ((2, 33), "4"), ((2, 34, 8), "4"), ((3, 0), "4"), ((1, 11), "2.8"),
    ],
)  # fmt: skip
def test_each_release_has_its_shape(version: tuple[int, ...], name: str) -> None:
    assert format_of_nix(version).name == name


def test_structured_attributes_are_lifted_from_version_2_30_on(closure: Closure, named: Named) -> None:
    drv = closure[named["structured"]]
    for name, shape in FORMATS.items():
        value = to_json(drv, shape)
        assert ("structuredAttrs" in value) == (name in ("2.30", "3", "4"))
        assert ("__json" in value["env"]) != ("structuredAttrs" in value)
    assert to_json(drv, V4)["structuredAttrs"]["list"] == [1, 2, "three", True, None]


@pytest.mark.parametrize(
    "text",
    ['{"b":1,"a":2}', '{"a": 1}', '{"a":1e2}', '{"a":1,"a":1}', '{"a":"\\u00e9"}', "{", "", "[]", "5", "[" * 100_000],
)
def test_structured_attributes_that_would_change_their_text_are_not_lifted(
    closure: Closure, named: Named, text: str
) -> None:
    drv = closure[named["plain"]]
    odd = Derivation(**{**_fields(drv), "env": {**drv.env, "__json": text}})
    with pytest.raises(DerivationJSONError) as caught:
        to_json(odd, V4)
    assert caught.value.key == "env.__json"
    assert to_json(odd, FORMATS["2.23"])["env"]["__json"] == text


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"builder": "\udce9"}, "builder"),
        ({"args": ("ok", "caf\udce9")}, "args"),
        ({"env": {"x": "\udce9"}}, "env.x"),
        ({"env": {"\udce9": "x"}}, "env"),
        ({"system": "\udce9"}, "system"),
        ({"input_drvs": {f"/nix/store/{'0' * 32}-x.drv": InputOutputs(("\udcff",))}}, "inputDrvs"),
        (
            {"input_drvs": {f"/nix/store/{'0' * 32}-x.drv": InputOutputs((), {"\udcff": InputOutputs(("out",))})}},
            "inputDrvs",
        ),
    ],
    ids=str,
)
def test_bytes_that_are_no_utf8_do_not_become_json(
    closure: Closure, named: Named, change: dict[str, Any], key: str
) -> None:
    drv = Derivation(**{**_fields(closure[named["plain"]]), **change})
    with pytest.raises(DerivationJSONError, match="not UTF-8") as caught:
        to_json(drv)
    assert caught.value.key == key
    assert caught.value.hint is not None


def test_dynamic_outputs_keep_their_nesting(closure: Closure, named: Named) -> None:
    used = InputOutputs(("dev",), {"out": InputOutputs(("a",), {"b": InputOutputs(("c",))})})
    drv = Derivation(**{**_fields(closure[named["plain"]]), "input_drvs": {named["floating"]: used}})
    for name in ("2.18", "2.23", "2.30", "3", "4"):
        assert from_json(to_json(drv, FORMATS[name])).input_drvs == {named["floating"]: used}
    for name in ("2.8", "2.15"):
        with pytest.raises(DerivationJSONError, match="dynamic outputs"):
            to_json(drv, FORMATS[name])


def _fields(drv: Derivation) -> dict[str, Any]:
    return {name: getattr(drv, name) for name in Derivation.__dataclass_fields__}


# ------------------------------------------------------------------------------------ what is wrong


GOOD: dict[str, Any] = json.loads((DATA / "json/good/nix-2.34.8-dep.json").read_text())
BASE, ONE = next(iter(GOOD["derivations"].items()))
INPUT = "4wbvp5d1wknm4nzyc5ns0vf20rkm3mjr-plain.drv"


def put(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(drv: dict[str, Any]) -> None:
        *inner, last = keys
        for key in inner:
            drv = drv[key]
        drv[last] = value

    return change


def drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(drv: dict[str, Any]) -> None:
        *inner, last = keys
        for key in inner:
            drv = drv[key]
        del drv[last]

    return change


SHA1 = "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="
SRI = "sha256-CkMI+IRjeO8KDOo26jv0fHS3hPLUiUU4cwKMyTbVr1M="
BAD = [
    *((drop(key), key, "is missing") for key in ("name", "outputs", "inputs", "system", "builder", "args", "env")),
    (drop("inputs", "srcs"), "inputs.srcs", "is missing"),
    (drop("inputs", "drvs"), "inputs.drvs", "is missing"),
    (drop("inputs", "drvs", INPUT, "outputs"), f"inputs.drvs.{INPUT}.outputs", "is missing"),
    (drop("inputs", "drvs", INPUT, "dynamicOutputs"), f"inputs.drvs.{INPUT}.dynamicOutputs", "is missing"),
    (put("version", value=5), "version", "is 5"),
    (put("version", value="4"), "version", "is '4'"),
    (put("version", value=[]), "version", "is \\[\\]"),
    (put("version", value=None), "version", "is None"),
    (put("name", value=1), "name", "must be a string, not int"),
    (put("name", value="a/b"), "name", "does not allow '/'"),
    (put("name", value=""), "name", "is empty"),
    (put("system", value=None), "system", "must be a string, not NoneType"),
    (put("builder", value="\ud800"), "builder", "half of a surrogate pair"),
    (put("builder", value="\udcff"), "builder", "half of a surrogate pair"),
    (put("args", value="x"), "args", "must be a list of strings, not str"),
    (put("args", value=["x", 1]), "args[1]", "must be a string, not int"),
    (put("env", value=[]), "env", "must be an object, not list"),
    (put("env", "x", value=1), "env.x", "must be a string, not int"),
    (put("env", "\ud800", value="x"), "env", "half of a surrogate pair"),
    (put("env", "__json", value="{}"), "env.__json", "is reserved"),
    (put("structuredAttrs", value=[]), "structuredAttrs", "must be an object, not list"),
    (put("structuredAttrs", value={"x": float("nan")}), "structuredAttrs", "can not hold"),
    (put("structuredAttrs", value={"x": "\ud800"}), "structuredAttrs", "can not hold"),
    (put("outputs", value=[]), "outputs", "must be an object, not list"),
    (put("outputs", "a b", value={}), "outputs", "does not allow ' '"),
    (put("outputs", "out", value="x"), "outputs.out", "must be an object, not str"),
    (put("outputs", "out", value={"paths": "x"}), "outputs.out", "those of no kind"),
    (put("outputs", "out", value={"path": "x", "impure": True}), "outputs.out", "those of no kind"),
    (put("outputs", "out", value={"path": "/nix/store/x"}), "outputs.out.path", "no base name of a store path"),
    (put("outputs", "out", value={"path": 1}), "outputs.out.path", "must be a string"),
    (put("outputs", "out", value={"method": "tar", "hash": SRI}), "outputs.out.method", "'tar' is none of"),
    (put("outputs", "out", value={"method": [], "hash": SRI}), "outputs.out.method", "is none of"),
    (put("outputs", "out", value={"method": "nar", "hash": "x"}), "outputs.out", "does not say its algorithm"),
    (put("outputs", "out", value={"method": "text", "hash": SHA1}), "outputs.out", "sha256 only"),
    (put("outputs", "out", value={"method": "nar", "hashAlgo": "sha3"}), "outputs.out.hashAlgo", "'sha3' is none of"),
    (put("outputs", "out", value={"method": "nar", "hashAlgo": []}), "outputs.out.hashAlgo", "is none of"),
    (put("outputs", "out", value={"method": "nar", "hashAlgo": {}}), "outputs.out.hashAlgo", "is none of"),
    # Shapes from before the versions.
    (put("outputs", "out", value={"hashAlgo": "r:sha256"}), "outputs.out", "those of no kind"),
    (put("outputs", "out", value={"hashAlgo": "sha256", "hash": SRI}), "outputs.out", "those of no kind"),
    (put("outputs", "out", value={"hashAlgo": "sha256", "impure": True}), "outputs.out", "those of no kind"),
    (put("outputs", "out", value={"path": "x", "method": "nar", "hash": SRI}), "outputs.out", "those of no kind"),
    (
        put("outputs", "out", value={"method": "nar", "hashAlgo": "sha256", "impure": False}),
        "outputs.out.impure",
        "must be true",
    ),
    (put("inputs", value=[]), "inputs", "must be an object, not list"),
    (put("inputs", "srcs", value=["/nix/store/x"]), "inputs.srcs[0]", "no base name of a store path"),
    (put("inputs", "srcs", value=[BASE, "../x"]), "inputs.srcs[1]", "no base name of a store path"),
    (put("inputs", "drvs", "x", value={}), "inputs.drvs", "no base name of a store path"),
    (put("inputs", "drvs", INPUT, value="out"), f"inputs.drvs.{INPUT}", "must be an object, not str"),
    (put("inputs", "drvs", INPUT, "outputs", value=[None]), f"inputs.drvs.{INPUT}.outputs[0]", "must be a string"),
    (put("inputs", "drvs", INPUT, "outputs", value=["a", "b "]), f"inputs.drvs.{INPUT}.outputs[1]", "not allow ' '"),
    (put("inputs", "drvs", INPUT, "dynamicOutputs", value=[]), f"inputs.drvs.{INPUT}.dynamicOutputs", "be an object"),
    (
        put("inputs", "drvs", INPUT, "dynamicOutputs", value={"\ud800": {}}),
        f"inputs.drvs.{INPUT}.dynamicOutputs",
        "half of a surrogate pair",
    ),
    (
        put("inputs", "drvs", INPUT, "dynamicOutputs", value={"out": {"dynamicOutputs": {}}}),
        f"inputs.drvs.{INPUT}.dynamicOutputs.out.outputs",
        "is missing",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "key", "message"), BAD, ids=[f"{key}: {message}" for _, key, message in BAD])
def test_what_is_wrong_is_told_with_its_key(change: Callable[[dict[str, Any]], None], key: str, message: str) -> None:
    drv = copy.deepcopy(ONE)
    change(drv)
    with pytest.raises(DerivationJSONError, match=message) as caught:
        from_json(drv)
    assert caught.value.key == key
    with pytest.raises(DerivationJSONError) as caught:
        read_document({"derivations": {BASE: drv}, "version": 4})
    assert caught.value.key == f"derivations.{BASE}.{key}"


@pytest.mark.parametrize("value", [None, 1, "x", [], [ONE], {}, {"derivations": []}, {"derivations": {}, "version": 3}])
def test_what_is_no_document_is_refused(value: object) -> None:
    with pytest.raises(DerivationJSONError):
        read_document(value)


def test_a_path_that_the_hash_does_not_give_is_refused() -> None:
    old = json.loads((DATA / "json/good/nix-2.8.0-fixedRec.json").read_text())
    [drv] = old.values()
    drv["outputs"]["out"]["path"] = "/nix/store/" + "0" * 32 + "-fixed-rec"
    with pytest.raises(DerivationJSONError, match="but the hash gives"):
        read_document(old)


def test_before_2_15_only_the_path_tells_the_name() -> None:
    [(path, drv)] = json.loads((DATA / "json/good/nix-2.8.0-dep.json").read_text()).items()
    assert read_document({path: drv})[path.removeprefix("/nix/store/")].name == "dep"
    with pytest.raises(DerivationJSONError, match="is missing") as caught:
        from_json(drv)
    assert "give the whole map" in (caught.value.hint or "")
    with pytest.raises(DerivationJSONError, match="no base name of a store path"):
        read_document({"x.drv": drv})


def test_keys_that_nix_does_not_know_are_passed_over() -> None:
    assert from_json({**ONE, "meta": {"x": 1}}) == from_json(ONE)


def test_a_list_of_outputs_stands_for_an_input_without_dynamic_ones() -> None:
    drv = copy.deepcopy(ONE)
    drv["inputs"]["drvs"][INPUT] = ["out"]
    assert from_json(drv) == from_json(ONE)


@pytest.mark.parametrize("depth", [101, 450, 5000])
def test_dynamic_outputs_nested_too_deep_are_refused(depth: int) -> None:
    used: dict[str, Any] = {"outputs": [], "dynamicOutputs": {}}
    for _ in range(depth):
        used = {"outputs": [], "dynamicOutputs": {"x": used}}
    drv = copy.deepcopy(ONE)
    drv["inputs"]["drvs"][INPUT] = used
    with pytest.raises(DerivationJSONError, match="more than 100 deep"):
        from_json(drv)


def test_structured_attributes_nested_too_deep_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DerivationJSONError) as caught:
        from_json({**ONE, "structuredAttrs": {"x": deep}})
    assert caught.value.key == "structuredAttrs"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["derivations", "version", "name", "outputs", "inputs", "path", "hash", "env"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
)


@given(anything)
def test_arbitrary_json_is_a_derivation_or_refused(value: object) -> None:
    for read in (read_document, from_json):
        try:
            read(value)
        except DerivationJSONError:
            continue


@pytest.mark.parametrize("file", PRINTED, ids=lambda file: file.stem)
def test_a_document_with_any_value_replaced_is_another_or_refused(file: Path) -> None:
    printed = json.loads(file.read_text())
    chance = random.Random(0)
    values: list[Any] = [None, True, 0, 1.5, "", "x", "sha256", "\ud800", [], ["out"], [1], {}, {"x": 1}, BASE]

    def places(value: Any) -> list[tuple[Any, Any]]:
        inside: list[tuple[Any, Any]] = []
        if isinstance(value, dict | list):
            inside = list(value.items() if isinstance(value, dict) else enumerate(value))
        return [(value, key) for key, _ in inside] + [place for _, inner in inside for place in places(inner)]

    for number in range(len(places(printed))):
        for _ in range(6):
            changed = copy.deepcopy(printed)
            holder, key = places(changed)[number]
            holder[key] = chance.choice(values)
            try:
                found = read_document(changed)
            except DerivationJSONError:
                continue
            for drv in found.values():
                unparse(drv)
