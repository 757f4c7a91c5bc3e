"""JSON as Nix prints it into a derivation: the text of structured attributes.

    keys sorted bytewise, no blanks, UTF-8 kept, control characters escaped;
    floats         Nix 2.12 and later: as nlohmann/json does (see grisu2)    1.0   1e+15   0.30000000000000004
                   Nix 2.11 and earlier: six digits, as C's "%g"             1     1e+15   0.3
    \\b and \\f      \\b and \\f; Nix 2.11 and earlier: \\u0008 and \\u000c

Plans print as Nix 2.12 and later do, whatever Nix is installed: a derivation's path may not hang on that,
and any Nix takes the text as it is. The older print is there to recognise what an older Nix made.

Source: Nix manual, "Structured attributes"; NixOS/nix `ParsedDerivation`, `json.cc` of 2.11; nlohmann/json.
"""

from __future__ import annotations

import json
import re

from . import grisu2
from .errors import FormatError

__all__ = ["JSON", "dumps"]

JSON = str | int | float | bool | None | list["JSON"] | dict[str, "JSON"]
"""A value that JSON can hold."""

_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=True
).encode
# What the end of a float looks like; text may look so as well.
_FLOAT_END = re.compile(r"[.e][-+0-9][0-9]*(?:e[-+][0-9]+)?(?:[]},]|\Z)")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+)?(?:e[-+][0-9]+)?')
_ESCAPE = re.compile(r"\\.")
_LEGACY_ESCAPES = {r"\b": r"\u0008", r"\f": r"\u000c"}


def dumps(value: JSON, *, legacy: bool = False) -> str:
    """`value` as Nix prints it.

    Parameters
    ----------
    legacy
        As Nix 2.11 and earlier print it, whose floats may read back as others.

    Raises
    ------
    FormatError
        For what JSON can not hold, such as text that is no Unicode.
    """
    try:
        text = _encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"JSON can not hold this value: {error}") from error
    if legacy:
        return _TOKEN.sub(_legacy, text)
    # Floats are rare, so found in the text rather than looked for in every value.
    return _TOKEN.sub(_float, text) if _FLOAT_END.search(text) else text


def _is_float(token: str) -> bool:
    return token[0] != '"' and ("." in token or "e" in token)


def _float(found: re.Match[str]) -> str:
    token = found[0]
    return grisu2.to_text(float(token)) if _is_float(token) else token


def _legacy(found: re.Match[str]) -> str:
    token = found[0]
    if token[0] == '"':
        return _ESCAPE.sub(lambda escape: _LEGACY_ESCAPES.get(escape[0], escape[0]), token)
    return f"{float(token):g}" if _is_float(token) else token
