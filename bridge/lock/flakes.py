"""Locked flakes: which revision and which contents a reference stands for.

    "flakes": { REFERENCE: { "url": LOCKED, "locked": { narHash, lastModified, rev, … } } }

A reference that is the name of an input of the project's own flake.lock follows that one: a project has one nixpkgs.
A folder is never locked: it is the project's own, and its files are what counts.

Source: Nix manual, "Lock files", "Flake references" (`command-ref/new-cli/nix3-flake`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from bridge.formats.hashes import Hash
from bridge.formats.store_path import source_path
from bridge.nix.errors import NixEvaluationError
from bridge.nix.evaluate import FEATURES, ask
from bridge.nix.installation import Installation

from .errors import LockFileError, LockMismatchError
from .file import read_lock, update_section

__all__ = ["Flakes", "at_hand", "flake_metadata", "update_flakes", "with_query"]

_FLAKE_LOCK = "flake.lock"
_NAME = re.compile(r"(?:flake:)?([A-Za-z][\w-]*)(/.*)?")
_WAYS = ("submodules", "shallow", "allRefs", "exportIgnore", "lfs")
"""What a Git repository is fetched with or without: it changes the contents."""
_LOG = ("--log-format", "internal-json")


def flake_metadata(nix: Installation, reference: str) -> dict[str, Any]:
    """What `nix flake metadata` says of a flake, which it fetches.

    Raises
    ------
    NixEvaluationError
        If there is no such flake, or it can not be fetched.
    """
    if nix.version() < (2, 4, 0):
        raise NixEvaluationError(
            f"Nix {nix.version_text()} has no flakes",
            hint="install Nix 2.8 or newer, or use nix(…) in place of flake(…)",
        )
    command = [nix.program("nix"), "flake", "metadata", "--json", *FEATURES, *_LOG, reference]
    found: dict[str, Any] = json.loads(ask(nix, command))
    return found


@dataclass(slots=True)
class Flakes:
    """The locked URLs of references.

    Parameters
    ----------
    file
        The lock file, which need not exist.
    note
        Gets a line for each reference that is locked now.
    frozen
        Whether all must be locked already.
    """

    nix: Installation
    file: Path
    note: Callable[[str], None]
    frozen: bool = False
    _entries: dict[str, Any] | None = field(default=None, init=False)

    def url(self, reference: str) -> str:
        """The locked URL of a reference; an unlocked one is locked now.

        Raises
        ------
        LockFileError
            If the lock file can not be read, or its entry is damaged.
        LockMismatchError
            If the reference should be locked already, and is not.
        NixEvaluationError
            If it can not be locked.
        """
        if followed := _followed(self.file.parent, reference):
            return followed
        if self._entries is None:
            self._entries = dict(read_lock(self.file).flakes)
        if reference not in self._entries:
            if self.frozen:
                hint = "nixbridge lock locks it, as realize does without --locked"
                raise LockMismatchError(f"the flake {reference} is not locked in {self.file}", hint=hint)
            entry = _lock(self.nix, reference)
            # Another process may have locked it meanwhile: then that holds.
            kept = update_section(self.file, "flakes", lambda flakes: {reference: entry, **flakes})
            self._entries = dict(kept.flakes)
            self.note(f"locked the flake {reference} to {_shown(self._entries[reference])} in {self.file}")
        entry = self._entries[reference]
        locked = entry.get("locked")
        known = isinstance(locked, dict) and ("narHash" in locked or "rev" in locked)
        if not known or not isinstance(entry.get("url"), str):
            raise read_lock(self.file).error(
                f"the entry of the flake {reference} is damaged",
                "flakes",
                reference,
                hint=f"nixbridge lock --update-input {reference}",
            )
        return str(entry["url"])


def update_flakes(
    nix: Installation, file: Path, references: Iterable[str], note: Callable[[str], None] = lambda line: None
) -> None:
    """Lock references anew, to what they stand for now; none of them stands for all that the file has.

    Raises
    ------
    LockFileError
        For a reference that the project does not use.
    NixEvaluationError
        If one can not be locked; then nothing is changed.
    """
    have = read_lock(file).flakes
    wanted = list(references) or list(have)
    for reference in wanted:
        if _followed(file.parent, reference):
            raise LockFileError(
                f"the flake {reference} is an input of the project's own {_FLAKE_LOCK}, which is followed",
                hint=f"nix flake lock --update-input {reference}, or nix flake update {reference}",
                file=str(file.parent / _FLAKE_LOCK),
            )
        if reference not in have:
            raise LockFileError(
                f"the flake {reference} is not locked here",
                hint=_nearly(reference, have),
                file=str(file),
            )
    new = {reference: _lock(nix, reference) for reference in wanted}
    update_section(file, "flakes", lambda flakes: {**flakes, **new})
    for reference, entry in new.items():
        before, after = _shown(have[reference]), _shown(entry)
        note(f"{reference}: {before} → {after}" if before != after else f"{reference} stays at {after}")


def _nearly(reference: str, have: Iterable[str]) -> str:
    """What may be meant by a reference that is not locked."""
    known = list(have)
    near = get_close_matches(reference, known, 1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(known)}" if known else "realize locks a flake at its first use"


def _lock(nix: Installation, reference: str) -> dict[str, Any]:
    try:
        found = flake_metadata(nix, reference)
    except NixEvaluationError as error:
        raise NixEvaluationError(f"the flake {reference} can not be locked: {error.message}", hint=error.hint) from None
    locked = found["locked"]
    return {"url": _pinned(found["url"], locked), "locked": locked}


def _pinned(url: str, locked: Mapping[str, Any]) -> str:
    """The URL with the hash of the contents, so that it is used without the network where it is in the store."""
    return with_query(url, {name: locked[name] for name in ("narHash", "lastModified") if name in locked})


def with_query(url: str, query: Mapping[str, Any]) -> str:
    """The URL with these parameters, of which it may have some already."""
    for name, value in query.items():
        if f"{name}=" not in url.partition("?")[2]:
            url += f"{'&' if '?' in url else '?'}{name}={quote(str(value), safe='/')}"
    return url


def at_hand(nix: Installation, url: str) -> str:
    """The locked URL of a folder as the one of its copy in the Nix store, if that is there; others as they are.

    Nix itself (2.24 and later) reads the folder again, and fails where it has gone.
    """
    place, _, query = url.partition("?")
    hashed = next((unquote(one[8:]) for one in query.split("&") if one.startswith("narHash=")), None)
    if not place.startswith("path:") or hashed is None:
        return url
    stored = source_path("source", Hash.parse(hashed).hex)
    return f"path:{stored}?{query}" if os.path.lexists(nix.real_path(stored)) else url


def _shown(entry: Mapping[str, Any]) -> str:
    """What a person tells a locked flake by."""
    locked = entry.get("locked", {})
    return str(locked.get("rev") or locked.get("narHash") or entry.get("url"))


def _followed(folder: Path, reference: str) -> str | None:
    """The locked URL of the input of that name in the project's own flake.lock, if it has one."""
    name = _NAME.fullmatch(reference)
    try:
        value = json.loads((folder / _FLAKE_LOCK).read_bytes())
        if name is None or name[2] or not isinstance(value, dict):
            return None
        node = _input(value["nodes"], value["root"], value["root"], name[1])
        return _url_of(value["nodes"][node]["locked"], folder)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _input(nodes: Mapping[str, Any], root: str, node: str, name: str) -> str:
    """The node of an input; one that follows another is written as the names that lead to it from the root."""
    found = nodes[node]["inputs"][name]
    if isinstance(found, str):
        return found
    leads = root
    for one in found:
        leads = _input(nodes, root, leads, one)
    return leads


def _url_of(locked: Mapping[str, Any], folder: Path) -> str:
    """The URL of what a flake.lock has as attributes.

    Raises
    ------
    KeyError
        For a type that is not known.
    """
    kind = locked["type"]
    if kind in ("github", "gitlab", "sourcehut"):
        url = f"{kind}:{locked['owner']}/{locked['repo']}/{locked['rev']}"
        query = {name: locked[name] for name in ("host", "dir") if name in locked}
    elif kind == "path":
        url, query = f"path:{folder / locked['path']}", {name: locked[name] for name in ("dir",) if name in locked}
    elif kind in ("git", "hg"):
        url = f"{kind}+{locked['url']}"
        names = ("rev", "ref", "dir", *_WAYS)
        query = {name: int(locked[name]) if name in _WAYS else locked[name] for name in names if name in locked}
    elif kind in ("tarball", "file"):
        plain: str = locked["url"]
        url, query = (
            (plain if plain.endswith((".zip", ".tar.gz", ".tar.xz", ".tgz", ".tar")) else f"{kind}+{plain}"),
            {name: locked[name] for name in ("dir",) if name in locked},
        )
    else:
        raise KeyError(kind)
    return _pinned(with_query(url, query), locked)
