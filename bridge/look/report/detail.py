"""What a page tells of one realization: what went in, what came out, what it printed.

Texts and pictures are shown up to a size, of anything else its size and hash. A picture is one by its first bytes,
not by its name; it goes into the page as a data URI, where a browser runs nothing that an SVG may hold.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bridge.formats.errors import BridgeError
from bridge.formats.store_path import STORE_DIR
from bridge.look.files import File, Spot, children, open_file, status_of
from bridge.look.ground import Ground
from bridge.store.catalogue import Entry
from bridge.store.errors import RecordError
from bridge.store.info import find_info
from bridge.store.trace import Realization

from .page import Row, plain
from .running import tail

__all__ = ["Room", "detail_of", "details_of"]

_MOST = 500
_ROOM = 24 << 20
"""How many realizations, and how many bytes of their files and logs, go into a page that is a file."""
_FILES = 200
_TEXT = 64 << 10
_PICTURE = 2 << 20
_HASHED = 64 << 20
_LOG = 64 << 10
_HEAD = 512


@dataclass(slots=True)
class Room:
    """How many bytes of files and logs may still be shown; what finds none is named only."""

    left: int = 1 << 40

    def take(self, count: int) -> bool:
        if count > self.left:
            return False
        self.left -= count
        return True


def details_of(
    ground: Ground, rows: Iterable[Row], on_progress: Callable[[int, int], object] = lambda done, count: None
) -> dict[str, dict[str, Any]]:
    """The details of what was chosen, then of what is new, as far as there is room in a file; by id."""
    room = Room(_ROOM)
    first = sorted(rows, key=lambda row: (not row.chosen, -row.entry.started))[:_MOST]
    found = {}
    for number, row in enumerate(first, 1):
        found[row.entry.id] = detail_of(ground, row.entry, room, ask_nix=row.chosen)
        on_progress(number, len(first))
    return found


def detail_of(ground: Ground, one: Entry, room: Room, *, ask_nix: bool = True) -> dict[str, Any]:
    """What there is to tell of a realization, as JSON; of what is damaged or gone, why it is not told.

    Parameters
    ----------
    ask_nix
        Whether Nix may be asked for a log, which takes a process.
    """
    try:
        record = ground.record(one)
    except RecordError as error:
        return {"problem": error.message}
    facts = {
        "path": one.drv,
        "stage": one.stage_drv,
        "seed": str(record.seed),
        "attempts": record.attempts,
        "usage": record.usage,
        "host": record.host,
        "error": record.error,
        "previous": record.previous,
        "adopted": record.adopted,
        "inputs": _inputs(ground, one),
        "outputs": [_output(ground, name, path, room) for name, path in one.outputs.items()],
        "log": _log(ground, record, room, ask_nix),
    }
    found: dict[str, Any] = plain(facts)
    return found


def _inputs(ground: Ground, one: Entry) -> list[dict[str, Any]]:
    try:
        parts = ground.parts(one.drv)
    except BridgeError:
        parts = None
    found = []
    for name, uses in parts.inputs.items() if parts is not None else ():
        for use in uses:
            is_path = use.object.startswith(f"{STORE_DIR}/")
            maker = ground.maker(use.object, one.started) if is_path else None
            named = None if maker is None else {"id": maker.id, "stage": maker.stage}
            found.append({"name": name, "path": str(use), "maker": named})
    return found


def _output(ground: Ground, name: str, path: str, room: Room) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "path": path, "hash": None, "files": [], "more": False, "gone": False}
    try:
        info = find_info(ground.store, path)
        told["hash"] = None if info is None else info.nar_hash.sri
        root = ground.find(path)
        if root is None:
            return {**told, "gone": True}
        walked = _files(Spot(path, root))
        for file in walked:
            if len(told["files"]) == _FILES:
                told["more"] = True
                break
            told["files"].append(_file(file, room))
    except (BridgeError, OSError) as error:
        told["problem"] = str(error)
    return told


def _files(top: Spot) -> Iterator[File]:
    """All files and links below, folder by folder; for an object that is a file itself, that one."""
    first = status_of(top)
    if first.kind != "directory":
        yield first
        return
    pending = [top]
    while pending:
        folders = []
        for file in children(pending.pop()):
            if file.kind == "directory":
                folders.append(file.spot)
            else:
                yield file
        pending += reversed(folders)


def _file(file: File, room: Room) -> dict[str, Any]:
    told: dict[str, Any] = {
        "path": file.spot.below or os.path.basename(file.spot.object),
        "kind": file.kind,
        "size": file.size,
        "executable": file.executable,
    }
    if file.kind == "symlink":
        return {**told, "target": file.target}
    with open(open_file(file.spot), "rb") as opened:
        head = opened.read(_HEAD)
        kind = _picture(head)
        shown = None
        if kind is not None and file.size <= _PICTURE:
            if not room.take(file.size):
                return {**told, "left": True}
            data = head + opened.read(_PICTURE)
            return {**told, "image": f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"}
        if _text(head, file.size > len(head)) is not None:
            if not room.take(min(file.size, _TEXT)):
                return {**told, "left": True}
            data = head + opened.read(_TEXT - len(head))
            shown = _text(data, file.size > len(data))
        if shown is not None:
            return {**told, "text": shown, "cut": max(0, file.size - _TEXT)}
        if file.size <= _HASHED:
            opened.seek(0)
            told["sha256"] = hashlib.file_digest(opened, "sha256").hexdigest()
    return told


def _picture(head: bytes) -> str | None:
    """The media type of a picture that every browser shows."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<svg") or (start.startswith((b"<?xml", b"<!DOCTYPE svg", b"<!--")) and b"<svg" in head):
        return "image/svg+xml"
    return None


def _text(data: bytes, is_cut: bool) -> str | None:
    """The bytes as text; None if they are none. Cut ones may end within a character."""
    if b"\0" in data:
        return None
    for end in range(len(data), max(0, len(data) - (4 if is_cut else 1)) - 1, -1):
        try:
            return data[:end].decode()
        except UnicodeDecodeError:
            if not is_cut:
                return None
    return None


def _log(ground: Ground, record: Realization, room: Room, ask_nix: bool) -> dict[str, Any] | None:
    if record.runner == "nix":
        if not ask_nix or ground.nix is None:
            return None
        from bridge.nix.build import read_log

        text = read_log(ground.nix, record.drv) or ""
        text, cut = text[-_LOG:], max(0, len(text) - _LOG)
    elif record.log is not None:
        text, cut = tail(ground.store.log_file(os.path.basename(record.log)), _LOG)
    else:
        return None
    if not text:
        return None
    return {"text": text, "cut": cut} if room.take(len(text)) else {"left": True}
