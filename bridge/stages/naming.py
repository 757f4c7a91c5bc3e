"""The name of a stage that is assigned: `clean = shell(…)` is called clean."""

from __future__ import annotations

import dis
import sys
from types import FrameType

from .place import Place

__all__ = ["assigned_name", "required_name"]

_STORE = {dis.opmap["STORE_NAME"], dis.opmap["STORE_GLOBAL"]}
_STORE_LOCAL = {dis.opmap["STORE_FAST"], dis.opmap["STORE_DEREF"]}
_CACHE = dis.opmap.get("CACHE", 0)


def assigned_name() -> str | None:
    """The variable that the caller of nixbridge assigns the value of this very call to, if it does."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "bridge":
        frame = frame.f_back
    if frame is None:
        return None
    code = frame.f_code.co_code
    at = frame.f_lasti + 2
    while at < len(code) and code[at] == _CACHE:
        at += 2
    if at + 1 >= len(code):
        return None
    argument = code[at + 1]
    # An argument above 255 is spread over EXTENDED_ARG instructions.
    while code[at] == dis.EXTENDED_ARG:
        at += 2
        argument = argument << 8 | code[at + 1]
    if code[at] in _STORE:
        return frame.f_code.co_names[argument]
    if code[at] in _STORE_LOCAL:
        # Plain variables, then those that inner functions use as well, then those of outer functions.
        names = frame.f_code
        inner = [name for name in names.co_cellvars if name not in names.co_varnames]
        return [*names.co_varnames, *inner, *names.co_freevars][argument]
    return None


def required_name(name: str | None, what: str) -> str:
    """`name`, or the variable that the stage is assigned to.

    Raises
    ------
    StageError
        If there is neither.
    """
    found = name or assigned_name()
    if found is None:
        raise Place.caller().error(
            f"this {what} stage has no name", hint=f'assign it to a variable, or write {what}(…, name="…")'
        )
    return found
