"""Stages of stock: those that most projects need, ready-made."""

from __future__ import annotations

import re
from dataclasses import replace
from types import FunctionType
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from bridge.formats.errors import FormatError
from bridge.formats.nix_json import dumps

from . import stock_code
from .define import fixed_hash
from .naming import required_name
from .override import never_run
from .place import Place
from .policy import Policy
from .values import GitRecipe, OutputPath, PythonRecipe, Stage, TextRecipe, check_stage_name, freeze

__all__ = ["collect", "fetchgit", "json_file", "realized", "text", "unpack"]

_FIXED = Policy(deterministic=True)
_RUN = "run"
_GIT_URL = re.compile(r"(https?|ssh|git|file)://.|[\w.-]+@[\w.-]+:[^:]")

T = TypeVar("T", Stage, OutputPath)


def text(contents: str, *, name: str | None = None) -> Stage:
    """A file with this text: the object that `builtins.toFile` gives.

    Parameters
    ----------
    name
        Of the file; the variable's name without it.

    Raises
    ------
    StageError
        For what is no Unicode text.
    """
    place = Place.caller()
    found = check_stage_name(required_name(name, "text"), place)
    if not isinstance(contents, str):
        raise place.error(f"the text {found} is no text but {contents!r}", hint="json_file(…) takes other values")
    return Stage(found, TextRecipe(freeze(contents, place, f"the text {found}").encode()), _FIXED, place)


def json_file(value: Any, *, name: str | None = None) -> Stage:
    """A file with a value as JSON, printed as `builtins.toJSON` does: `builtins.toFile name (builtins.toJSON value)`.

    Parameters
    ----------
    value
        None, bool, int, float, str, lists and dicts with text keys.
    name
        The variable's name without it.

    Raises
    ------
    StageError
        For what JSON can not hold.
    """
    place = Place.caller()
    found = check_stage_name(required_name(name, "json_file"), place)
    if isinstance(value, Stage | OutputPath):
        raise place.error(f"the value of {found} is a stage", hint="collect(…) makes a folder of stages")
    try:
        contents = dumps(freeze(value, place, f"the value of {found}")).encode()
    except (FormatError, TypeError) as error:
        raise place.error(f"the value of {found} can not be written as JSON: {error}") from None
    return Stage(found, TextRecipe(contents), _FIXED, place)


def unpack(archive: Stage | OutputPath, *, name: str | None = None) -> Stage:
    """What is in an archive: tar with any compression, or zip; of another compressed file, that file.

    Where a folder is all that the archive holds, the result is what is in it, as Nix's `fetchTarball` has it.

    Parameters
    ----------
    name
        The variable's name without it.
    """
    place = Place.caller()
    found = check_stage_name(required_name(name, "unpack"), place)
    _check_input(archive, f"unpack takes an archive as a stage, or a path inside one, not {archive!r}", place)
    recipe = PythonRecipe(cast(FunctionType, stock_code.unpack), 0, {"archive": archive}, _RUN)
    return Stage(found, recipe, _FIXED, place)


def collect(*, name: str | None = None, **links: Stage | OutputPath | list[Stage | OutputPath]) -> Stage:
    """A folder of links to inputs, by their names; of a list, or of several that were chosen, a folder of numbers.

    Parameters
    ----------
    name
        The variable's name without it.
    links
        Any file names: `collect(model=train.model, **{"test.csv": split / "test.csv"})`.
    """
    place = Place.caller()
    found = check_stage_name(required_name(name, "collect"), place)
    arguments = {}
    for link, used in links.items():
        if link in ("", ".", "..", _RUN) or "/" in link or "\0" in link:
            raise place.error(f"a link in {found} can not be named {link!r}")
        arguments[link] = freeze(used, place, f"the link {link} of {found}")
        for one in arguments[link] if isinstance(arguments[link], tuple) else (arguments[link],):
            _check_input(one, f"the link {link} of {found} leads to {used!r}, which is no stage", place)
    recipe = PythonRecipe(cast(FunctionType, stock_code.collect), 0, arguments, _RUN, beside=True)
    return Stage(found, recipe, _FIXED, place)


def _check_input(value: object, message: str, place: Place) -> None:
    if not isinstance(value, Stage | OutputPath):
        raise place.error(message, hint='a file becomes one with source("…"), a text with text("…")')


def fetchgit(url: str, *, rev: str, hash: str, name: str | None = None) -> Stage:
    """The files of a commit of a git repository, without `.git` and submodules.

    Parameters
    ----------
    url
        https, http, ssh, git or file, or `user@host:path`. git finds the credentials that the user has.
    rev
        A commit, a tag or a branch; only the hash says what it must give.
    hash
        The sha256 of the folder, as `nix hash path` prints it, and as Nix's own fetchgit takes it.
    name
        The repository's without it. `source` gives the path that Nix's fetchers give.
    """
    place = Place.caller()
    if not isinstance(url, str) or not _GIT_URL.match(url):
        raise place.error(f"{url!r} is no URL of a git repository", hint="use https, ssh, git, file or user@host:path")
    last = (urlsplit(url).path if "://" in url else url).rstrip("/").rpartition("/")[2].rpartition(":")[2]
    found = check_stage_name(name or last.removesuffix(".git"), place)
    if not isinstance(rev, str) or not re.fullmatch(r"[^\s~^:?*\[\\\0-][^\s~^:?*\[\\\0]*", rev):
        raise place.error(f"{rev!r} is no commit, tag or branch", hint="the whole hash of a commit is best")
    return Stage(found, GitRecipe(url, rev, fixed_hash(hash, found, place, folder=True)), _FIXED, place)


def realized(stage: T) -> T:
    """The same stage, of which there must be realizations already: neither it nor what it needs is ever run.

    This is policy: derivation and results are the same. Of fewer realizations than the stage asks for, the matcher
    chooses among those that there are.
    """
    if not isinstance(stage, Stage | OutputPath):
        raise Place.caller().error(f"realized() takes a stage or a path inside one, not {stage!r}")
    return replace(stage, stage=never_run(stage.stage)) if isinstance(stage, OutputPath) else never_run(stage)
