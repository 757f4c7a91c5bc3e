"""GC roots: what is kept whatever one asks to be dropped.

    roots/auto/<hash>     a link to somebody's link, which names a store object: removing that one drops the root
    roots/tags/<name>     a link to a record of the trace
    roots/plans/<name>    JSON: `target`, `when`, `realizations` (pairs of derivation and id), `objects`

Beside them roots/nix-<object> are no roots of this store but, for the Nix store, of what Nix built: each as long as
there is a record of it. `hash` is nix32 of the SHA-1 of the link's path, as Nix names its own indirect roots.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from bridge.formats import nix32
from bridge.formats.errors import FormatError
from bridge.formats.store_path import STORE_DIR, base_name, parse

from .durable import disk_errors, sync_folder, temporary, write_file
from .errors import StoreError
from .holds import hold, using
from .layout import Store

__all__ = [
    "Named",
    "Root",
    "add_link",
    "delete_root",
    "forget",
    "keep_plan",
    "object_at",
    "root_file",
    "roots",
    "stale_links",
    "tag",
    "tagged",
    "tags",
]

Named = tuple[str, str]
"""A realization: its resolved derivation and its id."""
Kind = Literal["link", "tag", "plan"]

_NAME = re.compile(r"[A-Za-z0-9_+=][A-Za-z0-9._+=-]*")
_AN_ID = re.compile(r"[0-9a-z]{16}")
_FOLDERS = {"tag": "tags", "plan": "plans"}


@dataclass(frozen=True, slots=True)
class Root:
    """A GC root: of what kind, its name (a link's path), and which realizations and objects it keeps."""

    kind: Kind
    name: str
    realizations: tuple[Named, ...] = ()
    objects: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def roots(store: Store) -> list[Root]:
    """All roots; links that lead nowhere are none.

    Raises
    ------
    StoreError
        For a kept plan that can not be read: nobody knows what it keeps.
    """
    return [*_links(store), *_tags(store), *_plans(store)]


# ------------------------------------------------------------------------------------------ links


def add_link(store: Store, link: Path, target: Path) -> None:
    """Make a symbolic link that is a GC root, in the place of an older one.

    Parameters
    ----------
    target
        Where the object lies, here or in the Nix store.

    Raises
    ------
    StoreError
        If something else has that name.
    DiskError
        If it can not be made.
    """
    link = Path(os.path.abspath(link))
    if os.path.lexists(link) and (not link.is_symlink() or object_at(store, os.readlink(link)) is None):
        raise StoreError(f"{link} is there already, and is no link to a result", hint="take another name, or remove it")
    path = object_at(store, str(target))
    if path is None:
        raise StoreError(f"{target} is no store object")
    hold(store, [path])
    automatic = store.roots / "auto"
    made = link.with_name(f".{secrets.token_hex(8)}")
    with using(store), disk_errors(f"the link {link} can not be made"):
        automatic.mkdir(exist_ok=True)
        # The root first: whoever kills us in between leaves one that leads nowhere.
        _replace_link(store, automatic / _hashed(link), str(link))
        try:
            os.symlink(target, made)
            os.rename(made, link)
        except BaseException:
            made.unlink(missing_ok=True)
            raise


def _hashed(link: Path) -> str:
    return nix32.encode(hashlib.sha1(os.fsencode(link), usedforsecurity=False).digest())


def _replace_link(store: Store, place: Path, target: str) -> None:
    made = temporary(store)
    os.symlink(target, made)
    try:
        os.rename(made, place)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    sync_folder(place.parent)


def object_at(store: Store, place: str) -> str | None:
    """The store path of the object that a place names or lies in, of this store or of a Nix store; not followed."""
    for inside in (str(layer.objects) for layer in store.layers):
        if place.startswith(f"{inside}/"):
            return _path(place[len(inside) + 1 :].partition("/")[0])
    parts = place.split("/")
    for before, name in itertools.pairwise(parts):
        if before == "store" and (found := _path(name)) is not None:
            return found
    return None


def _path(name: str) -> str | None:
    try:
        parse(f"{STORE_DIR}/{name}")
    except FormatError:
        return None
    return f"{STORE_DIR}/{name}"


def _links(store: Store) -> Iterator[Root]:
    for _, link, path in _automatic(store):
        if path is not None:
            yield Root("link", link, objects=(path,))


def _automatic(store: Store) -> Iterator[tuple[Path, str, str | None]]:
    """The files in roots/auto: the link that each is of, and the object that it leads to."""
    for name in _names(store.roots / "auto"):
        file = store.roots / "auto" / name
        try:
            link = os.readlink(file)
        except OSError:
            continue
        try:
            yield file, link, object_at(store, os.readlink(link))
        except (FileNotFoundError, NotADirectoryError):
            yield file, link, None
        except OSError as error:
            # No link any more; or one that we may not look at, which somebody may still want.
            if error.errno != 22:
                raise StoreError(f"the root {link} can not be read: {error.strerror}") from error
            yield file, link, None


def stale_links(store: Store) -> list[Path]:
    """The files in roots/auto of links that are gone."""
    return [file for file, _, path in _automatic(store) if path is None]


# ------------------------------------------------------------------------------------------- tags


def tag(store: Store, name: str, realization: Named, *, force: bool = False) -> None:
    """Give a realization a name, which is a root.

    Raises
    ------
    StoreError
        For a name that is none; without `force`, for one that another realization has.
    """
    _check_name(name)
    drv, identity = realization
    old = tagged(store, name)
    if old is not None and old != realization and not force:
        raise StoreError(f"the tag {name} is that of {old[1]}", hint="--force moves it")
    folder = store.roots / "tags"
    record = f"{base_name(drv)}/{identity}.json"
    with using(store), disk_errors(f"the tag {name} can not be written"):
        if not any((layer.trace / record).exists() for layer in store.layers):
            raise StoreError(f"the realization {identity} is gone")
        folder.mkdir(exist_ok=True)
        _replace_link(store, folder / name, f"../../trace/{record}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise StoreError(f"{name!r} is no name", hint="letters, digits and ._+=-, the first none of .-")
    if _AN_ID.fullmatch(name):
        raise StoreError(f"{name} could be the id of a realization", hint="take another name")


def tags(store: Store) -> list[str]:
    """The names of all tags, also those of the stores below."""
    return sorted({name for layer in store.layers for name in _names(layer.roots / "tags")})


def tagged(store: Store, name: str) -> Named | None:
    """The realization with this tag, whether or not it is still there."""
    if not _NAME.fullmatch(name):
        return None
    target = ""
    for layer in store.layers:
        try:
            target = os.readlink(layer.roots / "tags" / name)
            break
        except OSError:
            continue
    folder, _, file = target.removeprefix("../../trace/").partition("/")
    path = _path(folder)
    return (path, file.removesuffix(".json")) if path is not None and file.endswith(".json") else None


def _tags(store: Store) -> Iterator[Root]:
    for name in _names(store.roots / "tags"):
        found = tagged(store, name)
        if found is not None:
            yield Root("tag", name, (found,))


# ------------------------------------------------------------------------------------------ plans


def keep_plan(
    store: Store, name: str, target: str, realizations: Iterable[Named], objects: Iterable[str], *, force: bool = False
) -> None:
    """Keep what was chosen for a plan under a name.

    Raises
    ------
    StoreError
        For a name that is none; without `force`, for one that another target has.
    """
    _check_name(name)
    file = store.roots / "plans" / name
    with using(store), disk_errors(f"the plan {name} can not be kept"):
        file.parent.mkdir(exist_ok=True)
        if not force and file.exists() and (known := _read_plan(file)["target"]) != target:
            raise StoreError(f"the name {name} keeps {known}", hint="--force replaces it")
        value = {
            "objects": sorted(objects),
            "realizations": sorted(map(list, realizations)),
            "target": target,
            "when": time.time(),
        }
        write_file(store, file, json.dumps(value, indent=1).encode() + b"\n")


def _read_plan(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
        if not isinstance(value["target"], str):
            raise TypeError("its target is none")
        for drv, identity in value["realizations"]:
            parse(drv)
            if not isinstance(identity, str):
                raise TypeError("an id is none")
        for path in value["objects"]:
            parse(path)
    except (OSError, ValueError, TypeError, KeyError, FormatError, RecursionError) as error:
        raise StoreError(
            f"the kept plan {file} can not be read: {error}", hint=f"nixbridge keep --delete {file.name} drops it"
        ) from error
    found: dict[str, Any] = value
    return found


def forget(store: Store, root: Root, realizations: Collection[str]) -> None:
    """Have a tag or a kept plan name these ids no longer: the tag goes, the plan keeps the others."""
    file = root_file(store, root)
    with disk_errors(f"the {root} can not be changed"):
        if root.kind == "tag":
            file.unlink(missing_ok=True)
            return
        value = _read_plan(file)
        value["realizations"] = [one for one in value["realizations"] if one[1] not in realizations]
        write_file(store, file, json.dumps(value, indent=1).encode() + b"\n")


def root_file(store: Store, root: Root) -> Path:
    """Where a tag or a kept plan is written down."""
    return store.roots / _FOLDERS[root.kind] / root.name


def _plans(store: Store) -> Iterator[Root]:
    for name in _names(store.roots / "plans"):
        value = _read_plan(store.roots / "plans" / name)
        yield Root(
            "plan", name, tuple((drv, identity) for drv, identity in value["realizations"]), tuple(value["objects"])
        )


def delete_root(store: Store, kind: Literal["tag", "plan"], name: str) -> None:
    """Drop a tag or a kept plan; what it kept stays until `gc` is asked to drop it.

    Raises
    ------
    StoreError
        If there is none, with near misses.
    """
    folder = store.roots / _FOLDERS[kind]
    what = {"tag": "tag", "plan": "kept plan"}[kind]
    if name not in (known := _names(folder)):
        near = get_close_matches(name, known, 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise StoreError(f"there is no {what} {name!r}", hint=hint)
    with disk_errors(f"the {what} {name} can not be removed"), contextlib.suppress(FileNotFoundError):
        os.unlink(folder / name)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []
