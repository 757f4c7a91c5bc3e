"""The files of a realization, an object or a link: where they lie, what there is, what is in them.

014ycz/model.txt          a file of the realization
train/model.txt           of the newest realization of the stage that is whole
014ycz^dev/include        of another output than `out`, as Nix writes it
/nix/store/…-train/a.txt  of an object; also where it lies, or a link such as ./result
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from bridge.stages.errors import TargetError

from .errors import AmbiguousError
from .ground import Ground
from .references import Meaning, leads_to_object, meanings, named, newest

__all__ = ["File", "Spot", "children", "open_file", "spot_in", "spot_of", "status_of"]

_LINKS = 40


@dataclass(frozen=True, slots=True)
class Spot:
    """A file, folder or link of an object.

    Parameters
    ----------
    object
        The store path.
    root
        Where the object lies.
    below
        The path below it; empty for the object itself. As `os.fsdecode` gives it, if it is no UTF-8.
    """

    object: str
    root: Path
    below: str = ""

    @property
    def real(self) -> str:
        return f"{self.root}/{self.below}" if self.below else str(self.root)

    @property
    def store_path(self) -> str:
        return f"{self.object}/{self.below}" if self.below else self.object


@dataclass(frozen=True, slots=True)
class File:
    """What is known of one.

    Parameters
    ----------
    kind
        "regular", "directory" or "symlink", as in Nix's listings.
    size
        Bytes; of a link, of its target's text.
    target
        Of a link, what it says.
    leads_out
        Whether a link leads out of the object.
    """

    spot: Spot
    kind: str
    size: int
    executable: bool
    target: str | None = None
    leads_out: bool = False


def spot_of(ground: Ground, reference: str) -> Spot:
    """What a reference names, with a path below it.

    Raises
    ------
    TargetError
        If there is none; with near misses.
    """
    head, slash, below = reference.partition("/")
    name, _, output = head.partition("^")
    if slash and _is_path(ground, reference, name, below):
        found, output, below = named(ground, reference), "", ""
    else:
        found = named(ground, name)
    if found.object is not None:
        return _checked(ground, found.object, "/".join(filter(None, [found.path, below])))
    if found.kind == "derivation":
        raise TargetError(f"{reference} is a derivation, which has no files", hint="name its realization")
    return spot_in(ground, newest(found).outputs, output, below, name)


def _is_path(ground: Ground, reference: str, name: str, below: str) -> bool:
    """Whether a text with a slash is where something lies, and not a name with a path below it."""
    if reference.startswith(("/", "./", "../")):
        return True
    # A link is a name itself.
    if os.path.islink(name) or not os.path.lexists(reference):
        return False
    found = meanings(ground, name)
    if found and leads_to_object(ground, reference):
        inside = [Meaning(f"a file of {one.what}", f"{one.written}/{below}") for one in found]
        raise AmbiguousError(reference, [Meaning("where it lies", f"./{reference}"), *inside])
    return not found


def spot_in(ground: Ground, outputs: Mapping[str, str], output: str, below: str, what: str) -> Spot:
    """A path below one of several outputs; without a name `out`, or the only one."""
    name = output or ("out" if "out" in outputs or len(outputs) != 1 else next(iter(outputs)))
    if name not in outputs:
        raise TargetError(
            f"{what} has no output {name!r}", hint=f"write {what}^{' or ^'.join(outputs)}" if outputs else None
        )
    return _checked(ground, outputs[name], below)


def _checked(ground: Ground, path: str, below: str) -> Spot:
    root = ground.find(path)
    if root is None:
        raise TargetError(f"{path} is gone", hint="realize its stage again, or fetch it from where it was kept")
    parts = [part for part in below.split("/") if part not in ("", ".")]
    spot = Spot(path, root)
    for at, part in enumerate(parts):
        if part == "..":
            raise TargetError(f"{below} leads upwards", hint="name what is below the object")
        here = Spot(path, root, "/".join(parts[: at + 1]))
        try:
            status = os.lstat(here.real)
        except (FileNotFoundError, NotADirectoryError):
            raise _no_file(spot, part) from None
        except (OSError, ValueError) as error:
            raise TargetError(f"{below!r} is no path: {error}") from error
        if stat.S_ISLNK(status.st_mode) and at + 1 < len(parts):
            here = _followed(here)
            return _checked(ground, path, "/".join([here.below, *parts[at + 1 :]]))
        spot = here
    return spot


def _no_file(folder: Spot, name: str) -> TargetError:
    try:
        there = sorted(os.listdir(folder.real))
    except OSError:
        return TargetError(f"{folder.store_path} is no folder")
    near = get_close_matches(name, there, 3) or there[:5]
    hint = f"there is {', '.join(near)}{' …' if len(there) > len(near) else ''}" if near else "it is empty"
    return TargetError(f"{folder.store_path} has no {name!r}", hint=hint)


def _followed(link: Spot) -> Spot:
    """What a link leads to, link by link.

    Raises
    ------
    TargetError
        If that is not in the object: nobody shall be shown another file than the one that they named.
    """
    spot = link
    for _ in range(_LINKS):
        status = os.lstat(spot.real) if os.path.lexists(spot.real) else None
        if status is None:
            raise TargetError(f"{link.store_path} is a link to {os.readlink(link.real)!r}, which is not there")
        if not stat.S_ISLNK(status.st_mode):
            return spot
        inside = _inside(spot)
        if inside is None:
            raise TargetError(
                f"{link.store_path} is a link out of the object, to {os.readlink(spot.real)!r}",
                hint="name what it leads to, if that is what you want",
            )
        spot = Spot(spot.object, spot.root, inside)
    raise TargetError(f"{link.store_path} is a link that leads to itself")


def _inside(link: Spot) -> str | None:
    """The path below the object that a link says; None if it leads out.

    Each folder above the link is one, so that `..` can be taken as it reads, unless the link goes through links.
    """
    target = os.readlink(link.real)
    if target.startswith("/"):
        if target != link.object and not target.startswith(f"{link.object}/"):
            return None
        parts: list[str] = []
        target = target.removeprefix(link.object)
    else:
        parts = link.below.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    below = "/".join(parts)
    real = os.path.realpath(f"{link.root}/{os.path.dirname(below)}")
    root = os.path.realpath(os.path.dirname(link.root)) + f"/{link.root.name}"
    return below if real == root or real.startswith(f"{root}/") or not below else None


def status_of(spot: Spot) -> File:
    """What a file is; a link is not followed."""
    status = os.lstat(spot.real)
    if stat.S_ISLNK(status.st_mode):
        return File(spot, "symlink", status.st_size, False, os.readlink(spot.real), _inside(spot) is None)
    if stat.S_ISDIR(status.st_mode):
        return File(spot, "directory", 0, False)
    return File(spot, "regular", status.st_size, bool(status.st_mode & stat.S_IXUSR))


def children(spot: Spot) -> Iterator[File]:
    """What is in a folder, by name."""
    for name in sorted(os.listdir(spot.real), key=os.fsencode):
        yield status_of(Spot(spot.object, spot.root, f"{spot.below}/{name}" if spot.below else name))


def open_file(spot: Spot) -> int:
    """A descriptor to read a file by; links within the object are followed.

    Raises
    ------
    TargetError
        If it is no file, or a link that leads out of the object.
    """
    found = _followed(spot) if os.path.islink(spot.real) else spot
    if os.path.isdir(found.real):
        raise TargetError(f"{spot.store_path} is a folder", hint="nixbridge ls lists it")
    try:
        return os.open(found.real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise TargetError(f"{spot.store_path} can not be read: {error.strerror}") from error
