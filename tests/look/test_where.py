from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.look.where import ConditionError, condition

NAMES: dict[str, Any] = {
    "accuracy": 0.9,
    "name": "adam",
    "metrics": {"val/loss": 0.5},
    "config": {"lr": 0.1, "tags": ["a", "b"], "deep": {"er": 3}, "none": None},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("accuracy > 0.8", True),
        ("accuracy > 0.9", False),
        ("0.8 < accuracy <= 0.9", True),
        ("config.lr < 0.2 and config.deep.er == 3", True),
        ("'a' in config.tags and config.tags[1] == 'b'", True),
        ("name in ('adam', 'sgd') and name not in ['x']", True),
        ("metrics['val/loss'] == 0.5", True),
        ("config.none == None and accuracy != -1", True),
        ("nothing > 1 or not (nothing > 1)", True),
        ("nothing != 1", False),
        ("config.lr.deeper == 1", False),
        ("name > 3", False),
        ("accuracy", True),
    ],
)
def test_a_condition_holds_or_not(text: str, holds: bool) -> None:
    assert condition(text).holds(NAMES.__getitem__) is holds


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("accuracy > > 3", 12),
        ("f(1)", 1),
        ("accuracy > __import__('os')", 12),
        ("ü == 1 and (lambda: 1)", 13),
        ("a + 1 > 2", 1),
        ("[x for x in y]", 1),
        ("a is None", 1),
        ("a == f'{b}'", 6),
        ("", 1),
        ("(" * 500, 1),
        ("not " * 5000, 1),
    ],
)
def test_what_is_no_condition_is_told_with_its_column(text: str, column: int) -> None:
    with pytest.raises(ConditionError) as told:
        condition(text)
    if len(text) < 100:
        assert told.value.column == column


WORDS = [
    *(
        "accuracy",
        "name",
        "metrics",
        "config",
        "lr",
        "nothing",
        "__class__",
        "None",
        "True",
        "1",
        "-1.5",
        "1e999",
        "2j",
    ),
    *("'a'", "'val/loss'", "b'x'", "...", "[", "]", "(", ")", ".", ",", ":", "{", "}", "=", ":=", "*", "-", "+", "~"),
    *("==", "!=", "<", "<=", ">", ">=", "in", "and", "or", "not", "is", "if", "else", "lambda", "await", "for"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(st.text(max_size=5), deeper, max_size=3),
    max_leaves=5,
)


@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(ConditionError):
        assert condition(text).holds(NAMES.__getitem__) in (True, False)


@given(
    st.sampled_from(["a", "a.b", "a[0]", "a['b'].c", "-1", "'b'", "[1, 'b', None]", "None"]),
    st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"]),
    st.sampled_from(["b", "b[1]", "b.a", "0", "'b'", "('b', 1)", "True"]),
    VALUES,
    VALUES,
)
def test_whatever_a_realization_recorded_a_condition_holds_or_not(
    left: str, sign: str, right: str, a: object, b: object
) -> None:
    assert condition(f"{left} {sign} {right}").holds({"a": a, "b": b}.__getitem__) in (True, False)
