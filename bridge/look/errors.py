"""What can go wrong while somebody looks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bridge.formats.errors import BridgeError
from bridge.stages.errors import TargetError

__all__ = [
    "AmbiguousError",
    "BlockError",
    "DataError",
    "MarkdownError",
    "NoRealizationError",
    "UnknownNameError",
    "unknown",
]

if TYPE_CHECKING:
    from .references import Meaning

_LISTED = 20


class AmbiguousError(TargetError):
    """A reference that several things are called by; `written` has how to write each, to what it is."""

    def __init__(self, text: str, meanings: Sequence[Meaning]) -> None:
        listed = "".join(f"\n  {one.written}  {one.what}" for one in meanings[:_LISTED])
        more = f"\n  and {len(meanings) - _LISTED} more" if len(meanings) > _LISTED else ""
        message = f"{text!r} may mean {len(meanings)} things:{listed}{more}"
        super().__init__(message, hint="write one of these, or more of an id")
        self.written = {one.written: one.what for one in meanings}


class UnknownNameError(BridgeError, AttributeError, KeyError):
    """A name that is not there; as an attribute or as an item, so that `hasattr`, `getattr` and `get` work."""


class NoRealizationError(BridgeError, IndexError, AttributeError):
    """A realization that is not there, or one of several that were chosen and none was named."""


class DataError(BridgeError):
    """A file that is not of the format that it is read as."""


class MarkdownError(BridgeError):
    """A Markdown document with a block that can not be run as it is written."""


class BlockError(BridgeError):
    """A block of a Markdown document that failed; `log_tail` is what it printed last."""

    def __init__(self, message: str, *, log_tail: Sequence[str] = (), file: str, line: int) -> None:
        super().__init__(message, file=file, line=line)
        self.log_tail = list(log_tail)


def unknown(what: str, name: str, there: Iterable[str]) -> UnknownNameError:
    """The error for a name that `what` does not have: near misses first, else what there is."""
    known = [one for one in dict.fromkeys(there) if not one.startswith("_")]
    near = difflib.get_close_matches(name, known, 3, 0.6)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known:
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        hint = f"it has {', '.join(known[:_LISTED])}{more}"
    else:
        hint = "it has none"
    # In the message as well: notebooks show nothing else.
    return UnknownNameError(f"{what} has no {name!r}; {hint}")
