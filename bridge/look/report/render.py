"""The page as HTML: one file with its styles, its program and its data, that asks the network for nothing.

The data are JSON in a script element that is no program; the program makes text nodes of them and never markup. A
policy in the page lets nothing run but that program, by its hash, and nothing load but pictures that are in the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

__all__ = ["html_of", "json_text"]

_SCRIPTS = ("dom.js", "graph.js", "table.js", "plots.js", "detail.js", "main.js")
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def html_of(page: Mapping[str, Any]) -> str:
    """The document that shows a page's JSON."""
    program = _program()
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    policy = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        **({"connect-src": "'self'"} if page["live"] else {}),
    }
    parts = {
        "policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "title": escape(page["title"]),
        "style": _resource("page.css"),
        "data": json_text(page),
        "program": program,
    }
    head, *rest = _resource("page.html").split("{{")
    found = [head]
    for piece in rest:
        name, _, after = piece.partition("}}")
        found += [parts[name], after]
    return "".join(found)


def json_text(value: Any) -> str:
    """JSON that stands in HTML as it is: without what could end the element that it is in.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


@cache
def _program() -> str:
    pieces = "\n".join(_resource(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{pieces}}})();\n'


@cache
def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
