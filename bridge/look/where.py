"""Conditions on realizations: a small part of Python's expressions, read by `ast` and never run as Python.

    accuracy > 0.9 and config.lr < 0.1        metrics by their names, config below `config`
    metrics["val/loss"] <= 1                  a name that is no identifier
    config.optimizer in ("adam", "sgd")       constants, tuples and lists of them
    not result == "done" or 0 < duration < 5  and, or, not, chains

Names besides metrics: id, stage, index, result, runner, size (bytes), duration and age (seconds), config, metrics;
a metric that is called like one of these is under `metrics`. What a realization does not have, or can not be compared,
makes a comparison false.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from bridge.formats.errors import BridgeError

__all__ = ["Condition", "ConditionError", "condition"]

Names = Callable[[str], Any]
"""The value of a name; raises KeyError if there is none."""

_LONGEST = 10_000
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


class ConditionError(BridgeError):
    """A condition that is none; `column`, from 1, is where."""

    def __init__(self, message: str, text: str, column: int, hint: str | None = None) -> None:
        super().__init__(f"column {column} of the condition: {message}\n  {text}\n  {' ' * (column - 1)}^", hint=hint)
        self.column = column


class _Missing:
    """The value of what a realization does not have."""


_MISSING = _Missing()
_Value = Callable[[Names], Any]


@dataclass(slots=True)
class Condition:
    """A condition that can be asked of one realization after another.

    Parameters
    ----------
    unseen
        The names that none of those that were asked had, and where they are in the text.
    """

    text: str
    unseen: dict[str, int] = field(default_factory=dict)
    _value: _Value = field(default=lambda names: True, repr=False)
    _named: dict[str, _Value] = field(default_factory=dict, repr=False)

    def holds(self, names: Names) -> bool:
        found = self._value(names)
        return found is not _MISSING and bool(found)

    def look(self, names: Names) -> None:
        """Ask for what is unseen, also where `and` and `or` end before they come to it."""
        for name in list(self.unseen):
            self._named[name](names)

    def misspelt(self, there: Iterable[str]) -> ConditionError | None:
        """The error for a name that nothing had, with those that it may have been."""
        for name, column in self.unseen.items():
            whole = re.match(r"(metrics|config)(?=[.\[])", name)
            inside = [one for one in there if whole is None or one.startswith(f"{whole[0]}.")]
            near = get_close_matches(name, inside, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else None
            return ConditionError(f"no realization here has {name}", self.text, column, hint)
        return None


def condition(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    ConditionError
        With the column of what is wrong.
    """
    if len(text) > _LONGEST:
        raise ConditionError(f"it is longer than {_LONGEST} characters", text[:60], 1)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        found = Condition(text.strip())
        found._value = _Reader(found).read(tree.body)
    except SyntaxError as error:
        column = max(1, error.offset or 1)
        raise ConditionError(f"this is no expression: {error.msg}", text.strip(), column, _HINT) from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise ConditionError(f"this can not be read: {type(error).__name__}", text.strip()[:60], 1) from error
    return found


_HINT = "such as accuracy > 0.9 and config.lr < 0.1"


@dataclass(frozen=True, slots=True)
class _Reader:
    """From the tree of an expression to a function of names."""

    condition: Condition

    def read(self, node: ast.expr) -> _Value:
        match node:
            case ast.BoolOp(op=op, values=values):
                return _both([self.read(one) for one in values], all if isinstance(op, ast.And) else any)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.read(operand)
                return lambda names: not _true(inner(names))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda names: -number
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compare([left, *others], ops)
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return lambda names: value
            case ast.Tuple(elts=items) | ast.List(elts=items):
                parts = [self.read(one) for one in items]
                return lambda names: [part(names) for part in parts]
            case ast.Name(id=name):
                return self._name(name, node)
            case ast.Attribute(value=value, attr=name):
                return self._item(value, name, node)
            case ast.Subscript(value=value, slice=ast.Constant(value=str() | int() as key)):
                return self._item(value, key, node)
        raise self._error(f"{_called(node)} is not allowed here", node)

    def _compare(self, values: list[ast.expr], ops: list[ast.cmpop]) -> _Value:
        for op in ops:
            if type(op) not in _COMPARE:
                raise self._error("`is` is not allowed here; write ==", values[0])
        parts = [self.read(one) for one in values]
        compare = [_COMPARE[type(op)] for op in ops]
        if len(ops) == 1:
            (left, right), [how] = parts, compare
            # Most are such, and asked of a hundred thousand.
            return lambda names: _compared(how, left(names), right(names))

        def holds(names: Names) -> bool:
            found = [part(names) for part in parts]
            return all(_compared(how, left, right) for how, left, right in zip(compare, found, found[1:], strict=False))

        return holds

    def _name(self, name: str, node: ast.expr) -> _Value:
        unseen = self.condition.unseen
        unseen[name] = self._column(node)

        def value(names: Names) -> Any:
            try:
                found = names(name)
            except KeyError:
                return _MISSING
            unseen.pop(name, None)
            return found

        self.condition._named[name] = value
        return value

    def _item(self, of: ast.expr, key: str | int, node: ast.expr) -> _Value:
        inner = self.read(of)
        unseen = self.condition.unseen
        name = ast.unparse(node)
        unseen[name] = self._column(node)

        def value(names: Names) -> Any:
            found = inner(names)
            if isinstance(found, Mapping) and key in found:
                unseen.pop(name, None)
                return found[str(key)] if isinstance(key, str) else found[key]
            if isinstance(found, list | tuple) and isinstance(key, int) and -len(found) <= key < len(found):
                unseen.pop(name, None)
                return found[key]
            return _MISSING

        self.condition._named[name] = value
        return value

    def _column(self, node: ast.expr) -> int:
        # `ast` counts bytes.
        return len(self.condition.text.encode()[: node.col_offset].decode(errors="replace")) + 1

    def _error(self, message: str, node: ast.expr) -> ConditionError:
        return ConditionError(message, self.condition.text, self._column(node), _HINT)


def _both(parts: list[_Value], how: Callable[[Iterable[bool]], bool]) -> _Value:
    return lambda names: how(_true(part(names)) for part in parts)


def _true(value: Any) -> bool:
    return value is not _MISSING and bool(value)


def _compared(how: Callable[[Any, Any], Any], left: Any, right: Any) -> bool:
    if left is _MISSING or right is _MISSING:
        return False
    try:
        return bool(how(left, right))
    except TypeError:
        return False


def _called(node: ast.expr) -> str:
    names = {
        ast.Call: "a call",
        ast.Lambda: "a lambda",
        ast.BinOp: "arithmetic",
        ast.JoinedStr: "an f-string",
        ast.Dict: "a dict",
        ast.Constant: "this constant",
        ast.NamedExpr: "an assignment",
        ast.IfExp: "if … else",
        ast.Subscript: "this subscript",
        ast.UnaryOp: "this sign",
        ast.Starred: "a star",
    }
    return names.get(type(node), f"a {type(node).__name__}")
