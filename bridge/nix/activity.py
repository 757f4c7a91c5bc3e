"""Nix's log as events: `--log-format internal-json`.

    line     "@nix " JSON            (anything else on stderr is an ordinary line)
    start    {action, id, level, type, text, fields, parent}     stop {action, id}
    result   {action, id, type, fields}                          fields of progress: done, expected, running, failed
    msg      {action, level, msg, raw_msg, file, line, column}   (the last four with errors only)

Source: NixOS/nix `src/libutil/logging.{hh,cc}` (`JSONLogger`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from .errors import plain

__all__ = ["BuildFinished", "BuildStarted", "Event", "Line", "Message", "Parser", "Phase", "Transfer"]

ERROR, WARN, NOTICE, INFO = range(4)
"""Nix's verbosity levels that people see; 4 to 7 are for those who look for a fault."""

_PREFIX = "@nix "
_COPY_PATH, _FILE_TRANSFER, _BUILD, _SUBSTITUTE, _QUERY_PATH_INFO = 100, 101, 105, 108, 109
_BUILD_LOG_LINE, _SET_PHASE, _PROGRESS, _POST_BUILD_LOG_LINE = 101, 104, 105, 107


@dataclass(frozen=True, slots=True)
class BuildStarted:
    """Nix began to build `drv`, which is the resolved one where inputs are content-addressed."""

    drv: str
    machine: str = ""
    """The remote builder; empty for this machine."""


@dataclass(frozen=True, slots=True)
class BuildFinished:
    """Nix is done with `drv`, whether it could be built or not; for the derivations asked for this comes late."""

    drv: str


@dataclass(frozen=True, slots=True)
class Phase:
    """The build of `drv` entered a phase that the builder named."""

    drv: str
    name: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log of `drv`."""

    drv: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """Something Nix says, or a line on its stderr that is no event."""

    level: int
    text: str
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """A store path that is copied from another store, or a file that a fetch downloads: how far it is.

    Attributes
    ----------
    number
        Nix's number of it, the same as long as it lasts.
    what
        The store path, or the file's URL.
    source
        The store that it comes from; empty for a file.
    done, expected
        In bytes; expected is 0 where it is not known.
    """

    number: int
    what: str
    source: str = ""
    done: int = 0
    expected: int = 0
    ended: bool = False


Event = BuildStarted | BuildFinished | Phase | Line | Message | Transfer


class Parser:
    """Events from lines; remembers which builds are running.

    Attributes
    ----------
    running
        The `.drv` path of each running build by Nix's number of it.
    """

    def __init__(self) -> None:
        self.running: dict[int, str] = {}
        self._transfers: dict[int, Transfer] = {}
        # Copies and questions of theirs: the file transfers below them are the same bytes again.
        self._copies: set[int] = set()

    def parse(self, line: str | bytes) -> Event | None:
        """The event in one line of stderr, or None where it says nothing to people.

        A line that is no event, or a damaged one, comes back as a message: nothing that Nix or
        a program below it prints gets lost.
        """
        text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
        text = text.rstrip("\r\n")
        if not text.startswith(_PREFIX):
            return Message(NOTICE, plain(text)) if text.strip() else None
        try:
            event = json.loads(text[len(_PREFIX) :])
            return self._event(event)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            return Message(NOTICE, plain(text))

    def _event(self, event: dict[str, object]) -> Event | None:
        match event["action"]:
            case "start":
                return self._start(event)
            case "stop":
                return self._stop(_number(event["id"]))
            case "result":
                return self._result(event)
            case "msg":
                return _message(event)
            case _:
                return None

    def _start(self, event: dict[str, object]) -> Event | None:
        if event["type"] == _BUILD:
            drv, machine = _fields(event, 2)
            # A remote builder tells of the same build again, below ours.
            is_new = drv not in self.running.values()
            self.running[_number(event["id"])] = drv
            return BuildStarted(drv, machine) if is_new else None
        if event["type"] in (_COPY_PATH, _SUBSTITUTE, _QUERY_PATH_INFO):
            self._copies.add(_number(event["id"]))
        if event["type"] == _COPY_PATH:
            what, source = _fields(event, 2)
            return self._transfer(Transfer(_number(event["id"]), what, source))
        if event["type"] == _FILE_TRANSFER:
            if event.get("parent") in self._copies:
                return None
            (url,) = _fields(event, 1)
            return self._transfer(Transfer(_number(event["id"]), url))
        text = plain(str(event.get("text", "")))
        level = _number(event["level"])
        return Message(level, text) if text and level <= INFO else None

    def _stop(self, number: int) -> Event | None:
        self._copies.discard(number)
        drv = self.running.pop(number, None)
        if drv is not None:
            return None if drv in self.running.values() else BuildFinished(drv)
        transfer = self._transfers.pop(number, None)
        return None if transfer is None else replace(transfer, ended=True)

    def _transfer(self, transfer: Transfer) -> Transfer:
        self._transfers[transfer.number] = transfer
        return transfer

    def _result(self, event: dict[str, object]) -> Event | None:
        kind = event["type"]
        if kind == _PROGRESS and (transfer := self._transfers.get(_number(event["id"]))) is not None:
            fields = event["fields"]
            if not isinstance(fields, list):
                raise TypeError
            return self._transfer(replace(transfer, done=_number(fields[0]), expected=_number(fields[1])))
        if kind not in (_BUILD_LOG_LINE, _SET_PHASE, _POST_BUILD_LOG_LINE):
            return None
        (text,) = _fields(event, 1)
        drv = self.running.get(_number(event["id"]), "")
        return Phase(drv, text) if kind == _SET_PHASE else Line(drv, plain(text))


def _message(event: dict[str, object]) -> Message:
    level = _number(event["level"])
    text = event.get("raw_msg") or event["msg"]
    if not isinstance(text, str):
        raise TypeError
    file, line = event.get("file"), event.get("line")
    # For text that is no file, Nix 2.8 gives the text itself as its file.
    if not isinstance(file, str) or not file.startswith("/") or not isinstance(line, int):
        return Message(level, plain(text))
    # Later Nix writes line and column behind the file as well.
    return Message(level, plain(text), file.removesuffix(f":{line}:{event.get('column')}"), line)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def _fields(event: dict[str, object], count: int) -> list[str]:
    fields = event["fields"]
    if not isinstance(fields, list) or len(fields) < count:
        raise TypeError
    if not all(isinstance(field, str) for field in fields[:count]):
        raise TypeError
    return fields[:count]
