"""JSON as Nix prints it into a derivation: the text of structured attributes.

    keys sorted bytewise, no blanks, UTF-8 kept, control characters escaped, floats as short as they
    read back (Nix 2.12 and later; nlohmann/json `dump`)

nlohmann's Grisu2 gives one digit more than needed for some long floats (about one in a thousand);
there we print the shortest, and a derivation's path differs from what Nix evaluates.

Source: Nix manual, "Structured attributes"; NixOS/nix `ParsedDerivation`, nlohmann/json.
"""

from __future__ import annotations

import json
import re

from .errors import FormatError

__all__ = ["JSON", "dumps"]

JSON = str | int | float | bool | None | list["JSON"] | dict[str, "JSON"]
"""A value that JSON can hold."""

_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=True
).encode
_LONG_FLOAT = re.compile(r"(-?)(\d)(\d{15})\.(\d)")


def dumps(value: JSON) -> str:
    """`value` as Nix 2.12 and later print it.

    Raises
    ------
    FormatError
        For what JSON can not hold, such as text that is no Unicode.
    """
    try:
        text = _encode(value)
        text.encode()
        # Rare, so found in the text rather than looked for in every value.
        return _walk(value) if _LONG_FLOAT.search(text) else text
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"JSON can not hold this value: {error}") from error


def _walk(value: JSON) -> str:
    """The same value by value: between 1e15 and 1e16 Python prints digits where Nix prints an exponent."""
    match value:
        case dict():
            return "{" + ",".join(f"{_encode(key)}:{_walk(value[key])}" for key in sorted(value)) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_walk, value)) + "]"
        case float():
            return _LONG_FLOAT.sub(_exponent, _encode(value))
        case _:
            return _encode(value)


def _exponent(found: re.Match[str]) -> str:
    sign, first, rest, tenth = found.groups()
    rest = (rest + tenth).rstrip("0")
    return f"{sign}{first}{'.' if rest else ''}{rest}e+15"
