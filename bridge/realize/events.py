"""What the engine reports; terminal, plain lines and JSON are readers of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bridge.formats.errors import BridgeError
from bridge.stages.plan import Node
from bridge.store.trace import Realization

from .matchers import Candidate, Matcher

__all__ = [
    "Aside",
    "Chosen",
    "Event",
    "Failed",
    "Finished",
    "Line",
    "Note",
    "Phase",
    "Reporter",
    "Retrying",
    "Skipped",
    "Started",
    "Waiting",
]


@dataclass(frozen=True, slots=True)
class Started:
    """A run or a build begins; `index` counts the realizations of a stage."""

    node: Node
    where: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    node: Node
    name: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a build's log."""

    node: Node
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A realization was recorded, which may be that of a failure that the stage keeps."""

    node: Node
    realization: Realization


@dataclass(frozen=True, slots=True)
class Failed:
    node: Node
    error: BridgeError


@dataclass(frozen=True, slots=True)
class Retrying:
    """A run failed and is tried again in so many seconds."""

    node: Node
    error: BridgeError
    seconds: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not realized, since `because` failed."""

    node: Node
    because: Node


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another process realizes the stage."""

    node: Node
    holder: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The stage is done: what the matcher chose of what there is."""

    node: Node
    matcher: Matcher
    candidates: Sequence[Candidate]
    chosen: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Aside:
    """What Nix does for the stages and none of them is; told anew whenever something of it changes.

    Attributes
    ----------
    key
        The same as long as it lasts.
    source
        The store that a download comes from, or the machine that builds; empty for this one.
    line
        The last of the build's log.
    done, expected
        In bytes, of a download; expected is 0 where it is not known.
    """

    key: str
    what: Literal["build", "download"]
    name: str
    source: str = ""
    phase: str = ""
    line: str = ""
    done: int = 0
    expected: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know."""

    text: str


Event = Started | Phase | Line | Finished | Failed | Retrying | Skipped | Waiting | Chosen | Aside | Note
Reporter = Callable[[Event], None]
