"""From what somebody writes down to realizations, by the store alone.

014ycz, 014yczrj2sb824ss      an id, or how one begins
paper-v1, @paper-v1           a tag
train, :train                 the name of a stage: all its realizations
/nix/store/…-train            an object: the realizations that gave it; with a path below it, that file
/nix/store/….drv              a derivation, before or after resolution: all its realizations
./result, …/store/…-train     a link to one of these, or where it lies

A name that means several of these is an error that says how to write each; the beginning of an id is no name, and only
read as one where nothing is called so.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge.formats.derivation.aterm import DRV_SUFFIX
from bridge.formats.errors import FormatError
from bridge.formats.store_path import STORE_DIR, parse
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry, near_ids
from bridge.store.roots import tagged, tags

from .errors import AmbiguousError
from .ground import Ground

__all__ = ["Meaning", "Reference", "leads_to_object", "meanings", "named", "newest", "one_named", "refuse_several"]

_LINKS = 40

Kind = Literal["id", "tag", "stage", "derivation", "object"]


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

    kind: Kind
    entries: Sequence[Entry]
    object: str | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Meaning:
    """One of the things that are called so: what it is, in words, and how to write it so that it is no other."""

    what: str
    written: str


def named(ground: Ground, reference: str | os.PathLike[str]) -> Reference:
    """What a reference names.

    Raises
    ------
    TargetError
        If that is nothing, with near misses.
    AmbiguousError
        If several things are called so, or several ids begin so.
    """
    text = os.fspath(reference)
    if isinstance(reference, Path) or "/" in text:
        return _at(ground, text)
    if text.startswith("@"):
        return _tag(ground, text[1:])
    if text.startswith(":"):
        return _stage(ground, text[1:])
    found = meanings(ground, text)
    if len(found) > 1:
        raise AmbiguousError(text, found)
    if not found:
        return _beginning(ground, text)
    [one] = found
    if one.written.startswith("@"):
        return _tag(ground, text)
    if one.written.startswith(":"):
        return _stage(ground, text)
    return _at(ground, one.written) if "/" in one.written else _beginning(ground, text)


def meanings(ground: Ground, text: str) -> list[Meaning]:
    """All that is called so, but for ids that only begin so."""
    return list(_meanings(ground, text))


def _meanings(ground: Ground, text: str) -> Iterator[Meaning]:
    tag = tagged(ground.store, text)
    if tag is not None:
        yield Meaning(f"the tag of {tag[1]}", f"@{text}")
    of_stage = ground.of_stage(text)
    if of_stage:
        yield Meaning(f"the stage with {_counted(len(of_stage))}", f":{text}")
    if _is_id(text) and any(one.id == text for one in ground.entries()):
        yield Meaning("the realization with this id", text)
    if os.path.islink(text):
        yield Meaning(f"the link to {os.readlink(text)}", f"./{text}")


def _is_id(text: str) -> bool:
    return len(text) == 16 and text.isalnum()


def _counted(count: int) -> str:
    return f"{count} realization{'s' if count > 1 else ''}"


def _tag(ground: Ground, name: str) -> Reference:
    tag = tagged(ground.store, name)
    if tag is None:
        near = [one for one in difflib.get_close_matches(name, tags(ground.store), 3) if one != name]
        raise TargetError(
            f"there is no tag {name!r}",
            hint=f"did you mean @{' or @'.join(near)}?" if near else "nixbridge tag --list lists those that there are",
        )
    found = tuple(one for one in ground.of_derivation(tag[0]) if one.id == tag[1])
    if not found:
        raise TargetError(
            f"the realization {tag[1]} is gone, which is tagged {name}", hint=f"nixbridge tag --delete {name} drops it"
        )
    return Reference("tag", found)


def _stage(ground: Ground, name: str) -> Reference:
    found = ground.of_stage(name)
    if not found:
        near = difflib.get_close_matches(name, ground.stages(), 3)
        raise TargetError(
            f"no stage named {name!r} has a realization in {ground.store.root}",
            hint=f"did you mean :{' or :'.join(near)}?" if near else "nixbridge ls lists what there is",
        )
    return Reference("stage", found)


def _beginning(ground: Ground, text: str) -> Reference:
    """The realization whose id is or begins so."""
    begins = [one for one in ground.entries() if text and one.id.startswith(text)]
    if len(begins) > 1:
        raise AmbiguousError(text, [Meaning(f"a realization of {one.stage}", one.id) for one in begins])
    if begins:
        return Reference("id", tuple(begins))
    near = [one for one in difflib.get_close_matches(text, [*ground.stages(), *tags(ground.store)], 3) if one != text]
    near += near_ids(ground.store, text) if text else []
    raise TargetError(
        f"{text!r} is no realization, stage, tag or path of the store {ground.store.root}",
        hint=f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else _what_there_is(ground),
    )


def _what_there_is(ground: Ground) -> str:
    if ground.entries():
        return "nixbridge ls lists what there is"
    return "nothing is realized in it yet: nixbridge realize FILE.py does; --store names another"


def one_named(ground: Ground, reference: str | os.PathLike[str]) -> Entry:
    """The one realization that a reference names; of a stage, or an object that several gave, the newest whole one.

    Raises
    ------
    TargetError
        As `named` does, and for an object that no realization gave.
    """
    return newest(named(ground, reference))


def newest(found: Reference) -> Entry:
    """The newest whole realization of those that are named, of failures the newest.

    Raises
    ------
    TargetError
        If there is none: for an object that no realization gave.
    """
    whole = [one for one in found.entries if one.result == "done"] or list(found.entries)
    if not whole:
        raise TargetError(f"no realization gave {found.object}", hint="it is a source, or its records are elsewhere")
    return whole[-1]


def refuse_several(found: Reference, reference: str) -> None:
    """For what drops realizations: a stage or a derivation is none of them, though its newest one might be meant.

    Raises
    ------
    TargetError
        If it is one.
    """
    if found.kind not in ("stage", "derivation"):
        return
    stage = found.entries[0].stage
    raise TargetError(
        f"{reference} is a {found.kind} with {_counted(len(found.entries))}, not one of them",
        hint=f"nixbridge history {stage} lists their ids; "
        f"nixbridge gc --stage {stage} --keep-last N (or --keep-best N:METRIC) drops all others",
    )


def _at(ground: Ground, text: str) -> Reference:
    path, below = _store_path(ground, text)
    if path.endswith(DRV_SUFFIX):
        found = [one for one in ground.entries() if path in (one.drv, one.stage_drv)]
        if not found:
            raise TargetError(f"there is no realization of {path}", hint="nixbridge ls --json lists them all")
        return Reference("derivation", tuple(found))
    makers = ground.makers(path)
    if not makers and ground.find(path) is None:
        raise TargetError(
            f"{path} is not in the store {ground.store.root}, and no realization gave it",
            hint="nixbridge ls lists what there is",
        )
    return Reference("object", tuple(makers), path, below)


def leads_to_object(ground: Ground, text: str) -> bool:
    """Whether what lies at a path is, or leads to, something in the store."""
    try:
        _store_path(ground, text)
    except TargetError:
        return False
    return True


def _store_path(ground: Ground, text: str) -> tuple[str, str]:
    """The store path that a path is, lies below or links to, and what is below it."""
    if text.startswith(f"{STORE_DIR}/"):
        return _split(text.removeprefix(f"{STORE_DIR}/"))
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
                return _split(place.removeprefix(f"{folder}/"))
        if not os.path.islink(place):
            break
        linked = os.readlink(place)
        if linked.startswith(f"{STORE_DIR}/"):
            return _split(linked.removeprefix(f"{STORE_DIR}/"))
        place = os.path.join(os.path.dirname(place), linked)
    raise TargetError(f"{text} neither lies in the store {ground.store.root} nor links to it")


def _split(inside: str) -> tuple[str, str]:
    base, _, below = inside.partition("/")
    path = f"{STORE_DIR}/{base}"
    try:
        parse(path)
    except FormatError as error:
        raise TargetError(error.message, hint="nixbridge ls lists what there is") from error
    return path, below.rstrip("/")
