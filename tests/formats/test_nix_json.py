"""JSON as Nix prints it into structured attributes."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.formats.errors import FormatError
from bridge.formats.nix_json import JSON, dumps

from .strategies import unicode


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ([True, False], "[true,false]"),
        ({}, "{}"),
        ({"b": 1, "a": [1, "x"]}, '{"a":[1,"x"],"b":1}'),
        # Bytewise: capitals first, and letters of several bytes behind all of one.
        ({"a": 1, "B": 2, "é": 3, "z": 4, "𝄞": 5, "\uffff": 6}, '{"B":2,"a":1,"z":4,"é":3,"\uffff":6,"𝄞":5}'),
        ("ünï ☃ 𝄞", '"ünï ☃ 𝄞"'),
        ('"\\/', '"\\"\\\\/"'),
        ("\n\r\t\b\f", '"\\n\\r\\t\\b\\f"'),
        ("\x00\x01\x1f\x7f", '"\\u0000\\u0001\\u001f\x7f"'),
        (-5, "-5"),
        (2**63 - 1, "9223372036854775807"),
    ],
)
def test_it_is_compact_sorted_and_escapes_only_what_it_must(value: JSON, text: str) -> None:
    assert dumps(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1.5, "1.5"),
        (3.141592653589793, "3.141592653589793"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (1e22, "1e+22"),
        (1e100, "1e+100"),
        (999999999999999.0, "999999999999999.0"),
        (999999999999999.9, "999999999999999.9"),
        # From 1e15 on an exponent, where Python begins with 1e16.
        (1e15, "1e+15"),
        (-1e15, "-1e+15"),
        (1234567890123456.0, "1.234567890123456e+15"),
        (1200000000000000.0, "1.2e+15"),
        (1000000000000000.5, "1.0000000000000005e+15"),
        (1234567890123456.8, "1.2345678901234568e+15"),
        (9999999999999998.0, "9.999999999999998e+15"),
        (1e16, "1e+16"),
        (12345678901234568.0, "1.2345678901234568e+16"),
    ],
)
def test_floats_are_printed_as_nix_2_12_and_later_do(value: float, text: str) -> None:
    assert dumps(value) == text
    assert dumps({"x": [value, 1e15]}) == f'{{"x":[{text},1e+15]}}'


def test_text_that_looks_like_a_long_float_stays() -> None:
    assert dumps({"1000000000000000.0": "1000000000000000.0"}) == '{"1000000000000000.0":"1000000000000000.0"}'


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | unicode,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(unicode, inner, max_size=4),
)


@given(values)
@example([1000000000000000.5, "x"])
def test_it_reads_back_as_the_same_value(value: JSON) -> None:
    text = dumps(value)
    assert json.loads(text) == value
    assert dumps(json.loads(text)) == text


@given(st.floats(1e15, 1e16, exclude_max=True) | st.floats(-1e16, -1e15, exclude_min=True))
def test_long_floats_read_back_exactly(value: float) -> None:
    text = dumps(value)
    assert text.endswith("e+15")
    assert float(text) == value


def _circle() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


def _deep() -> object:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), {1, 2}, b"bytes", object(), _circle(), {"a": "\ud800"}, {"\udcff": 1}],
    ids=["nan", "infinity", "-infinity", "set", "bytes", "object", "circle", "half-a-pair", "escaped-byte"],
)
def test_what_json_can_not_hold_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="JSON can not hold"):
        dumps(value)  # type: ignore[arg-type]


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(FormatError, match="JSON can not hold"):
        dumps(_deep())  # type: ignore[arg-type]
