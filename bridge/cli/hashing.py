"""`hash path|file|convert` and `store-path`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from bridge.formats import git, nar
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.formats.self_reference import hash_modulo, hashes_positions
from bridge.formats.store_path import Method, content_path, parse
from bridge.stages.errors import TargetError

from .options import JsonOption
from .render import print_json
from .setting import find_nix

__all__ = ["convert_command", "hash_file_command", "hash_path_command", "store_path_command"]

_TYPES = ("nar", "flat", "text", "git")
_BASES = {"sri": "sri", "nix32": "nix32", "base16": "hex", "base64": "base64"}


def _check(value: str, known: Iterable[str], what: str) -> None:
    if value not in known:
        raise TargetError(f"there is no {what} {value!r}", hint=f"one of {', '.join(known)}")


def _in_all_bases(found: Hash) -> dict[str, str]:
    return {"algorithm": found.algorithm} | {base: getattr(found, name) for base, name in _BASES.items()}


def hash_path_command(
    file: Annotated[Path, typer.Argument(metavar="PATH", help="A file or folder.")],
    kind: Annotated[str, typer.Option("--type", metavar="nar|flat|text|git", help="What is hashed.")] = "nar",
    algorithm: Annotated[str, typer.Option("--algo", metavar="md5|sha1|sha256|sha512")] = "sha256",
    base: Annotated[str, typer.Option("--base", metavar="sri|nix32|base16|base64")] = "sri",
    modulo: Annotated[
        str | None, typer.Option(metavar="STORE-PATH", help="Blank this path's digest: for what refers to itself.")
    ] = None,
    nix: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Whose rule --modulo follows; the installed Nix's.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print the hash of a file or folder, as `nix hash path` does.

    nixbridge hash path docs
    """
    _check(kind, _TYPES, "type")
    _check(algorithm, ALGORITHMS, "algorithm")
    _check(base, _BASES, "base")
    if kind == "text" and algorithm != "sha256":
        raise TargetError("the type text goes with sha256 only")
    if nix is not None and modulo is None:
        raise TargetError("--nix goes with --modulo only: without it, all releases give the same hash")
    if modulo is not None and (kind, algorithm) != ("nar", "sha256"):
        raise TargetError("--modulo goes with the type nar and sha256 only")
    try:
        if modulo is not None:
            found = _hashed_modulo(file, modulo, nix)
        else:
            found = git.object_id(file, algorithm) if kind == "git" else _hashed(file, kind, algorithm)
    except OSError as error:
        place = str(file) if error.filename is None else os.fsdecode(error.filename)
        inside = f" ({place})" if place != str(file) else ""
        raise TargetError(f"{file} can not be read: {error.strerror}{inside}") from error
    if json:
        print_json(_in_all_bases(found))
    else:
        print(getattr(found, _BASES[base]))


def hash_file_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file.")],
    algorithm: Annotated[str, typer.Option("--algo", metavar="md5|sha1|sha256|sha512")] = "sha256",
    base: Annotated[str, typer.Option("--base", metavar="sri|nix32|base16|base64")] = "sri",
    json: JsonOption = False,
) -> None:
    """Print the hash of a file's contents, as `nix hash file` does.

    nixbridge hash file digits.csv.gz
    """
    hash_path_command(file, "flat", algorithm, base, json=json)


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
    digest, _ = parse(own)
    archive = b"".join(nar.pack_chunks(file))
    return hash_modulo(archive, digest, positions=hashes_positions(version))


def convert_command(
    hashes: Annotated[list[str], typer.Argument(metavar="HASH…", help="In any base.")],
    base: Annotated[str, typer.Option("--to", metavar="sri|nix32|base16|base64")] = "sri",
    algorithm: Annotated[
        str | None, typer.Option("--algo", metavar="md5|sha1|sha256|sha512", help="Of a hash that does not say it.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print hashes in another base, as `nix hash convert` does.

    nixbridge hash convert sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
    """
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
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the object.")],
    content: Annotated[str, typer.Argument(metavar="HASH", help="Of its contents, with its algorithm, such as SRI.")],
    method: Annotated[str, typer.Option(metavar="nar|flat|text|git", help="How it was hashed.")] = "nar",
    references: Annotated[
        list[str] | None, typer.Option("--reference", metavar="PATH", help="A store path; repeatable.")
    ] = None,
    self_reference: Annotated[bool, typer.Option("--self", help="Whether it refers to itself.")] = False,
    json: JsonOption = False,
) -> None:
    """Compute the store path of a content-addressed object.

    nixbridge store-path source sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
    """
    _check(method, get_args(Method), "method")
    for reference in references or ():
        parse(reference)
    path = content_path(
        name, cast(Method, method), Hash.parse(content), sorted(set(references or ())), self_reference=self_reference
    )
    if json:
        print_json({"path": path})
    else:
        print(path)
