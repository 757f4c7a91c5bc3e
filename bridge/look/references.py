"""From what somebody writes down to realizations, by the store alone.

014ycz, 014yczrj2sb824ss      an id, or how one begins
train                         the name of a stage: all its realizations
/nix/store/…-train            an object: the realizations that gave it; with a path below it, that file
/nix/store/….drv              a derivation, before or after resolution: all its realizations
./result, …/store/…-train     a link to one of these, or where it lies
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from bridge.formats.derivation.aterm import DRV_SUFFIX
from bridge.formats.errors import FormatError
from bridge.formats.store_path import STORE_DIR, parse
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry, near_ids
from bridge.store.roots import tagged

from .ground import Ground

__all__ = ["Reference", "named", "one_named", "refuse_stage"]

_LINKS = 40


@dataclass(frozen=True, slots=True)
class Reference:
    """What a reference names.

    Parameters
    ----------
    entries
        Realizations, oldest first.
    object
        The store path, if an object was named.
    path
        The path below it.
    """

    entries: tuple[Entry, ...]
    object: str | None = None
    path: str = ""


def named(ground: Ground, reference: str | os.PathLike[str]) -> Reference:
    """What a reference names.

    Raises
    ------
    TargetError
        If that is nothing, with near misses, or an id's beginning that several realizations share.
    """
    text = os.fspath(reference)
    if isinstance(reference, Path) or "/" in text or os.path.islink(text):
        return _at(ground, text)
    tag = tagged(ground.store, text)
    if tag is not None:
        found = tuple(one for one in ground.of_derivation(tag[0]) if one.id == tag[1])
        if not found:
            raise TargetError(f"the realization {tag[1]} is gone, which is tagged {text}")
        return Reference(found)
    of_stage = ground.of_stage(text)
    if of_stage:
        return Reference(tuple(of_stage))
    begins = [one for one in ground.entries() if text and one.id.startswith(text)]
    if len(begins) > 1:
        listed = ", ".join(f"{one.id} ({one.stage})" for one in begins[:5])
        raise TargetError(
            f"{len(begins)} realizations have ids that begin with {text!r}: {listed}{', …' if begins[5:] else ''}",
            hint="write more of it",
        )
    if begins:
        return Reference(tuple(begins))
    near = difflib.get_close_matches(text, ground.stages(), 3)
    near += near_ids(ground.store, text) if text else []
    raise TargetError(
        f"{text!r} is no realization, stage or path of the store {ground.store.root}",
        hint=f"did you mean {' or '.join(near)}?" if near else "nixbridge ls lists what there is",
    )


def one_named(ground: Ground, reference: str | os.PathLike[str]) -> Entry:
    """The one realization that a reference names; of a stage, or an object that several gave, the newest whole one.

    Raises
    ------
    TargetError
        As `named` does, and for a stage with failures only.
    """
    found = named(ground, reference)
    whole = [one for one in found.entries if one.result == "done"] or list(found.entries)
    if not whole:
        raise TargetError(f"no realization gave {found.object}", hint="it is a source, or its records are elsewhere")
    return whole[-1]


def refuse_stage(ground: Ground, reference: str) -> None:
    """For what drops realizations: a stage's name stands for none of them, where its newest one might be meant.

    Raises
    ------
    TargetError
        If the reference is a stage's name, and no tag.
    """
    if "/" in reference or os.path.islink(reference) or tagged(ground.store, reference) is not None:
        return
    count = len(ground.of_stage(reference))
    if count:
        raise TargetError(
            f"{reference} is a stage with {count} realization{'s' if count > 1 else ''}, not one of them",
            hint=f"nixbridge history {reference} lists their ids; "
            f"nixbridge gc --stage {reference} --keep-last N (or --keep-best N:METRIC) drops all others",
        )


def _at(ground: Ground, text: str) -> Reference:
    path, below = _store_path(ground, text)
    if path.endswith(DRV_SUFFIX):
        found = [one for one in ground.entries() if path in (one.drv, one.stage_drv)]
        if not found:
            raise TargetError(f"there is no realization of {path}", hint="nixbridge ls --json lists them all")
        return Reference(tuple(found))
    makers = ground.makers(path)
    if not makers and ground.find(path) is None:
        raise TargetError(
            f"{path} is not in the store {ground.store.root}, and no realization gave it",
            hint="nixbridge ls lists what there is",
        )
    return Reference(tuple(makers), path, below)


def _store_path(ground: Ground, text: str) -> tuple[str, str]:
    """The store path that a path is, lies below or links to, and what is below it."""
    if text.startswith(f"{STORE_DIR}/"):
        return _split(text.removeprefix(f"{STORE_DIR}/"), text)
    stores = [str(one.objects) for one in ground.store.layers]
    if ground.nix is not None:
        stores.append(os.path.realpath(ground.nix.real_path(STORE_DIR)))
    place = os.path.abspath(text)
    if not os.path.lexists(place):
        raise TargetError(f"there is no file {text}")
    # Link by link: an object may be a link itself.
    for _ in range(_LINKS):
        place = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
        for folder in stores:
            if place.startswith(f"{folder}/"):
                return _split(place.removeprefix(f"{folder}/"), text)
        if not os.path.islink(place):
            break
        linked = os.readlink(place)
        if linked.startswith(f"{STORE_DIR}/"):
            return _split(linked.removeprefix(f"{STORE_DIR}/"), text)
        place = os.path.join(os.path.dirname(place), linked)
    raise TargetError(f"{text} neither lies in the store {ground.store.root} nor links to it")


def _split(inside: str, text: str) -> tuple[str, str]:
    base, _, below = inside.partition("/")
    path = f"{STORE_DIR}/{base}"
    try:
        parse(path)
    except FormatError as error:
        raise TargetError(f"{text} is no store path: {error.message}") from error
    return path, below.rstrip("/")
