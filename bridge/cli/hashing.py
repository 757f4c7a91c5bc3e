"""`hash path|file|convert` and `store-path`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast, get_args

from bridge.formats import git, nar
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.formats.self_reference import hash_modulo, hashes_positions
from bridge.formats.store_path import Method, content_path, hash_part
from bridge.stages.errors import TargetError

from .render import print_json
from .setting import find_nix

__all__ = ["convert_command", "hash_path_command", "store_path_command"]

_TYPES = ("nar", "flat", "text", "git")
_BASES = {"sri": "sri", "nix32": "nix32", "base16": "hex", "base64": "base64"}


def _check(value: str, known: Iterable[str], what: str) -> None:
    if value not in known:
        raise TargetError(f"there is no {what} {value!r}", hint=f"one of {', '.join(known)}")


def _in_all_bases(found: Hash) -> dict[str, str]:
    return {"algorithm": found.algorithm} | {base: getattr(found, name) for base, name in _BASES.items()}


def hash_path_command(
    file: Path, kind: str, algorithm: str, base: str, json: bool, modulo: str | None = None, nix: str | None = None
) -> None:
    """Print the hash of a path."""
    _check(kind, _TYPES, "type")
    _check(algorithm, ALGORITHMS, "algorithm")
    _check(base, _BASES, "base")
    if kind == "text" and algorithm != "sha256":
        raise TargetError("the type text goes with sha256 only")
    if modulo is not None and (kind, algorithm) != ("nar", "sha256"):
        raise TargetError("--modulo goes with the type nar and sha256 only")
    try:
        if modulo is not None:
            found = _hashed_modulo(file, modulo, nix)
        else:
            found = git.object_id(file, algorithm) if kind == "git" else _hashed(file, kind, algorithm)
    except OSError as error:
        inside = f" ({error.filename})" if error.filename not in (None, str(file), file) else ""
        raise TargetError(f"{file} can not be read: {error.strerror}{inside}") from error
    if json:
        print_json(_in_all_bases(found))
    else:
        print(getattr(found, _BASES[base]))


def _hashed(file: Path, kind: str, algorithm: str) -> Hash:
    """The hash of a path's archive or of a file's contents."""
    digest = hashlib.new(algorithm)
    if kind == "nar":
        nar.pack(file, digest.update)
    else:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    return Hash(algorithm, digest.digest())


def _hashed_modulo(file: Path, own: str, release: str | None) -> Hash:
    """The hash of an archive that holds its own path, as a release of Nix computes it; else the installed one."""
    version: tuple[int, ...] | None
    if release is not None:
        version = tuple(int(part) for part in release.split(".") if part.isdecimal())
        if len(version) < 2:
            raise TargetError(f"{release!r} is no release of Nix", hint="write it as 2.34")
    else:
        nix = find_nix()
        version = nix.version() if nix is not None else None
    archive = b"".join(nar.pack_chunks(file))
    return hash_modulo(archive, hash_part(own), positions=hashes_positions(version))


def convert_command(hashes: Sequence[str], base: str, algorithm: str | None, json: bool) -> None:
    """Print hashes in another base."""
    _check(base, _BASES, "base")
    if algorithm is not None:
        _check(algorithm, ALGORITHMS, "algorithm")
    found = [Hash.parse(text, algorithm) for text in hashes]
    if json:
        print_json([_in_all_bases(one) for one in found])
    else:
        for one in found:
            print(getattr(one, _BASES[base]))


def store_path_command(
    name: str, content: str, method: str, references: Sequence[str], self_reference: bool, json: bool
) -> None:
    """Print the path of a content-addressed object."""
    _check(method, get_args(Method), "method")
    path = content_path(
        name, cast(Method, method), Hash.parse(content), sorted(set(references)), self_reference=self_reference
    )
    if json:
        print_json({"path": path})
    else:
        print(path)
