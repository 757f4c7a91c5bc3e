"""From shape to shape of derivation JSON: what each can hold, and nothing changed on the way."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.derivation import (
    FORMATS,
    Derivation,
    Fixed,
    InputOutputs,
    JsonFormat,
    derivation_path,
    document,
    from_json,
    read_document,
    to_json,
    unparse,
)
from bridge.formats.errors import DerivationJSONError
from bridge.formats.hashes import Hash

from ..strategies import (  # noqa: TID252
    derivations,
    dynamic_outputs,
    hashes,
    structured_attributes,
    texts,
    unicode,
    used_outputs,
)

DATA = Path(__file__).parents[1] / "data"
SHAPES = list(FORMATS.values())
BASE = f"{'0' * 32}-x.drv"

shapes = st.sampled_from(SHAPES)
# Whatever a derivation may hold, in a tenth or so of them what some shape can not.
every_kind = derivations(
    st.one_of(*[unicode] * 9, texts),
    st.one_of(*[used_outputs] * 3, dynamic_outputs),
    st.one_of(st.none(), structured_attributes, st.sampled_from(['{"a": 1}', '{"b":1,"a":2}', "[]", "x", ""])),
)


def through(drv: Derivation, shape: JsonFormat) -> Derivation:
    """The derivation written as that shape, as text, and read without being told which."""
    [read] = read_document(json.loads(json.dumps(document({path_of(drv): drv}, shape)))).values()
    return read


def path_of(drv: Derivation) -> str:
    """Some path with the derivation's name, which alone tells it in the oldest shape."""
    return f"/nix/store/{'0' * 32}-{drv.name}.drv"


def holds(shape: JsonFormat, drv: Derivation) -> bool:
    """Whether the shape can hold the derivation: what the formats' table says, said once more."""
    strings = [drv.builder, drv.system, *drv.args, *drv.env, *drv.env.values()]
    if any("\udc80" <= char <= "\udcff" for text in strings for char in text):
        return False
    if any(used.dynamic for used in drv.input_drvs.values()) and shape.name in ("2.8", "2.15"):
        return False
    not_as_nix_prints = drv.env.get("__json") in ('{"a": 1}', '{"b":1,"a":2}', "[]", "x", "")
    return not (not_as_nix_prints and shape.name in ("2.30", "3", "4"))


@given(every_kind, shapes)
def test_a_shape_holds_a_derivation_unchanged_or_refuses_it(drv: Derivation, shape: JsonFormat) -> None:
    if not holds(shape, drv):
        with pytest.raises(DerivationJSONError) as caught:
            document({path_of(drv): drv}, shape)
        assert caught.value.key
        assert caught.value.hint
        return
    assert through(drv, shape) == drv


@given(derivations(unicode, structured=st.none() | structured_attributes), shapes, shapes)
def test_from_shape_to_shape_and_back_is_the_same_document(drv: Derivation, one: JsonFormat, other: JsonFormat) -> None:
    first = document({path_of(drv): drv}, one)
    [read] = read_document(first).values()
    there = through(read, other)
    assert document({path_of(drv): there}, one) == first
    assert derivation_path(there) == derivation_path(drv)
    assert unparse(there) == unparse(drv)


# ---------------------------------------------------------------------------------------- contents


def of(shape: str, kind: str = "dep") -> dict[str, Any]:
    """What one derivation looks like in a shape."""
    release = {"2.8": "2.8.0", "4": "2.34.8"}.get(shape, "2.26.3")
    [drv] = read_document(json.loads((DATA / f"json/good/nix-{release}-{kind}.json").read_text())).values()
    return json.loads(json.dumps(to_json(drv, FORMATS[shape])))  # type: ignore[no-any-return]


def test_structured_attributes_stand_in_one_place_only() -> None:
    for name in ("2.30", "3", "4"):
        drv = {**of(name, "structured"), "env": {"__json": "{}"}}
        with pytest.raises(DerivationJSONError, match="is reserved; use structuredAttrs") as caught:
            from_json(drv)
        assert caught.value.key == "env.__json"


def test_structured_attributes_are_the_same_lifted_or_not() -> None:
    drvs = [from_json(of(name, "structured"), "", f"{'0' * 32}-structured.drv") for name in FORMATS]
    assert len(set(map(unparse, drvs))) == 1


def test_floats_survive_being_lifted() -> None:
    text = '{"x":[0.0,-0.0,1.5,1e-07,1e+15,1e+16,123456789.0,1e+300]}'
    drv = replace(from_json(of("4")), env={"__json": text})
    for shape in SHAPES:
        assert through(drv, shape).env == {"__json": text}


@pytest.mark.parametrize("number", [1 << 64, -(1 << 63) - 1, 10**30])
def test_integers_that_nix_reads_as_floats_are_neither_lifted_nor_read(number: int) -> None:
    """`nix derivation add` makes 1.2345678901234568e+29 of such a one."""
    drv = replace(from_json(of("4")), env={"__json": f'{{"x":[{number}]}}'})
    for shape in SHAPES:
        if shape.lifted:
            with pytest.raises(DerivationJSONError, match=f"hold {number}, which has more than 64 bits"):
                to_json(drv, shape)
            with pytest.raises(DerivationJSONError, match=f"holds {number}, which has more than 64 bits") as caught:
                from_json({**of(shape.name), "structuredAttrs": {"x": [number]}})
            assert caught.value.key == "structuredAttrs"
        else:
            assert through(drv, shape) == drv


def test_the_largest_integers_are_lifted_and_read() -> None:
    drv = replace(from_json(of("4")), env={"__json": f'{{"x":[{(1 << 64) - 1},{-(1 << 63)}]}}'})
    for shape in SHAPES:
        assert through(drv, shape) == drv


@given(hashes, st.sampled_from(["2.23", "2.30", "3", "4"]))
def test_a_hash_may_be_spelled_in_any_base(content: Hash, shape: str) -> None:
    entry = of(shape, "fixedRec")
    for spelled in (content.hex, content.nix32, content.base64, content.sri, f"{content.algorithm}:{content.hex}"):
        entry["outputs"]["out"] = {"method": "nar", "hashAlgo": content.algorithm, "hash": spelled}
        assert from_json(entry).outputs == {"out": Fixed.of("fixed-rec", "out", "nar", content)}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"method": "nar", "hash": Hash.of(b"").hex}, "does not say its algorithm"),
        ({"method": "nar", "hash": "sha256-" + Hash.of(b"").hex}, "wrong length"),
        ({"method": "nar", "hash": Hash.of(b"").sri[:-4]}, "wrong length"),
        ({"method": "nar", "hash": "sha256-" + "!" * 43 + "="}, "is no sha256 digest"),
        ({"method": "nar", "hash": Hash.of(b"").sri, "hashAlgo": "sha1"}, "is a sha256 hash where sha1 is asked for"),
        ({"method": "nar", "hash": Hash.of(b"").hex, "hashAlgo": "sha1"}, "wrong length for a sha1 digest"),
    ],
)
def test_a_hash_that_is_none_is_told(output: dict[str, str], message: str) -> None:
    entry = of("4", "fixedRec")
    entry["outputs"]["out"] = output
    with pytest.raises(DerivationJSONError, match=message) as caught:
        from_json(entry)
    assert caught.value.key == "outputs.out"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_fixed_path_that_its_hash_does_not_give_is_not_written(shape: JsonFormat) -> None:
    """Where the path is left out, it would come back as another."""
    drv = from_json(of("4", "fixedRec"))
    [(name, output)] = drv.outputs.items()
    assert isinstance(output, Fixed)
    wrong = replace(drv, outputs={name: replace(output, path=f"/nix/store/{'0' * 32}-fixed-rec")})
    with pytest.raises(DerivationJSONError, match="is not the path that the hash gives") as caught:
        to_json(wrong, shape)
    assert caught.value.key == "outputs.out.path"


@pytest.mark.parametrize("shape", ["2.18", "2.23", "2.30", "3", "4"])
def test_sets_come_in_any_order_and_each_item_counts_once(shape: str) -> None:
    plain, drv = of(shape), of(shape)
    a, b = (f"{'' if FORMATS[shape].base_names else '/nix/store/'}{'0' * 32}-{name}" for name in "ab")
    for entry, srcs in (plain, [a, b]), (drv, [b, a, b]):
        inputs = entry["inputs"] if shape == "4" else entry
        inputs["srcs" if shape == "4" else "inputSrcs"] = srcs
        if entry is drv:
            for used in inputs["drvs" if shape == "4" else "inputDrvs"].values():
                used["outputs"] = [*reversed(used["outputs"]), *used["outputs"]]
    assert from_json(drv) == from_json(plain)
    assert unparse(from_json(drv)) == unparse(from_json(plain))


@pytest.mark.parametrize("depth", [101, 5000])
def test_dynamic_outputs_that_would_not_be_read_back_are_not_written(depth: int) -> None:
    used = InputOutputs(("out",))
    for _ in range(depth):
        used = InputOutputs((), {"out": used})
    drv = from_json(of("4"))
    with pytest.raises(DerivationJSONError, match="more than 100 deep"):
        to_json(replace(drv, input_drvs=dict.fromkeys(drv.input_drvs, used)))


@pytest.mark.parametrize(("method", "prefix"), [("flat", ""), ("nar", "r:"), ("git", "git:"), ("text", "text:")])
def test_before_2_23_the_method_is_a_prefix_of_the_algorithm(method: str, prefix: str) -> None:
    entry = of("2.23", "floating")
    for impure in ({}, {"impure": True}):
        entry["outputs"]["out"] = {"method": method, "hashAlgo": "sha256", **impure}
        drv = from_json(entry)
        for name in ("2.8", "2.15", "2.18"):
            written = to_json(drv, FORMATS[name])["outputs"]["out"]
            assert written == {"hashAlgo": f"{prefix}sha256", **impure}
            assert through(drv, FORMATS[name]).outputs == drv.outputs


# ------------------------------------------------------------------------------- what is wrong, where

KINDS = ["dep", "fixedRec", "structured", "floating", "depFloating", "impure"]
OF_ITS_OWN = {"env", "structuredAttrs"}
WRONG: list[Any] = [None, True, 1, 1.5, "\ud800", [], {}, [None]]


def required(shape: str) -> list[tuple[str, ...]]:
    """The keys that no derivation of the shape may lack."""
    inputs = [("inputs",), ("inputs", "drvs"), ("inputs", "srcs")] if shape == "4" else [("inputDrvs",), ("inputSrcs",)]
    return [("args",), ("builder",), ("env",), ("outputs",), ("system",), *inputs]


@pytest.mark.parametrize("shape", FORMATS)
def test_each_key_that_is_missing_is_named(shape: str) -> None:
    for *inner, last in required(shape):
        entry = of(shape)
        holder = entry
        for key in inner:
            holder = holder[key]
        del holder[last]
        with pytest.raises(DerivationJSONError, match="is missing") as caught:
            from_json(entry, "", f"{'0' * 32}-dep.drv")
        assert caught.value.key == ".".join([*inner, last])


Place = tuple[Any, Any, str]


def places(value: Any, path: str = "") -> Iterator[Place]:
    """Each value in a document: what holds it, its key there, and the path of keys to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key, (f"{path}.{key}" if path else key)
            if key not in OF_ITS_OWN:
                yield from places(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield value, number, f"{path}[{number}]"
            yield from places(inner, f"{path}[{number}]")


def allowed(path: str, key: object, value: object) -> bool:
    """Whether a value of another type is right here after all."""
    if isinstance(value, list) and not value:
        # A list of outputs stands for an input; and none are used.
        return key in ("args", "outputs", "inputSrcs", "srcs") or ".drv" in path.rpartition("nputs")[2]
    if isinstance(value, dict) and not value:
        return key != "args"  # no variables, no outputs, a deferred output
    return key == "impure" and value is True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", FORMATS)
def test_each_value_of_a_wrong_type_is_named(shape: str, kind: str) -> None:
    base = f"{'0' * 32}-{from_json(of('4', kind)).name}.drv"
    for number in range(len(list(places(of(shape, kind))))):
        for wrong in WRONG:
            entry, key, path = of_changed(shape, kind, number, wrong)
            try:
                from_json(entry, "", base)
            except DerivationJSONError as error:
                # A half pair in place of a hash or an algorithm is told with its output.
                assert error.key.startswith(path) or error.key == path.rpartition(".")[0], (path, wrong)  # noqa: PT017
            else:
                assert allowed(path, key, wrong), (path, wrong)


def of_changed(shape: str, kind: str, number: int, value: Any) -> tuple[dict[str, Any], Any, str]:
    """A derivation with one value replaced, and where."""
    entry = of(shape, kind)
    holder, key, path = list(places(entry))[number]
    holder[key] = copy.deepcopy(value)
    return entry, key, path


@pytest.mark.parametrize("shape", FORMATS)
def test_keys_that_nix_does_not_know_are_passed_over_except_in_outputs(shape: str) -> None:
    drv, base = of(shape), f"{'0' * 32}-dep.drv"
    truth = from_json(drv, "", base)
    more = {"later": {"x": [1]}}
    inputs = drv["inputs"]["drvs"] if shape == "4" else drv["inputDrvs"]
    for path, used in inputs.items():
        inputs[path] = {**used, **more} if isinstance(used, dict) else used
    if shape == "4":
        drv["inputs"].update(more)
    assert from_json({**drv, **more}, "", base) == truth
    drv["outputs"]["out"].update(more)
    with pytest.raises(DerivationJSONError, match="those of no kind of output") as caught:
        from_json(drv, "", base)
    assert caught.value.key == "outputs.out"


def test_the_envelope_may_hold_more() -> None:
    found = {"derivations": {BASE: of("4")}, "version": 4}
    assert read_document({**found, "later": 1}) == read_document(found)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda value: {**value, "version": 5}, "version"),
        (lambda value: {**value, "version": None}, "version"),
        (lambda value: {"derivations": value["derivations"]}, "version"),
        (lambda value: {**value, "derivations": []}, "derivations"),
        (lambda value: {**value, "derivations": {BASE: 1}}, f"derivations.{BASE}"),
        (lambda value: value["derivations"] | {BASE: None}, BASE),
    ],
)
def test_what_is_wrong_around_derivations_is_named(change: Callable[[Any], Any], key: str) -> None:
    with pytest.raises(DerivationJSONError) as caught:
        read_document(change({"derivations": {BASE: of("4")}, "version": 4}))
    assert caught.value.key == key


def test_a_derivation_stands_in_a_document_once() -> None:
    """Nix before 2.32 names it by its path, later by its base name."""
    with pytest.raises(DerivationJSONError, match="stands twice") as caught:
        read_document({BASE: of("3"), f"/nix/store/{BASE}": of("2.30")})
    assert caught.value.key == f"/nix/store/{BASE}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["out", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(FORMATS)), st.sampled_from(KINDS), st.integers(0, 1000), json_values)
def test_a_document_with_any_value_in_any_place_is_another_or_refused(
    shape: str, kind: str, number: int, value: Any
) -> None:
    count = len(list(places(of(shape, kind))))
    entry, _, _ = of_changed(shape, kind, number % count, value)
    for read in (read_document, lambda entry: read_document({BASE: entry})):
        try:
            [drv] = read(entry).values()
        except DerivationJSONError:
            continue
        # What is read can be written, in the newest shape at least, and is the same again.
        assert through(drv, FORMATS["4"]) == drv
