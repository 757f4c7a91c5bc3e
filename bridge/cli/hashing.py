"""`hash path|file|convert` and `store-path`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast, get_args

from bridge.formats import nar
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.formats.store_path import Method, content_path
from bridge.stages.errors import TargetError

__all__ = ["convert_command", "hash_path_command", "store_path_command"]

_TYPES = ("nar", "flat", "text")
_BASES = {"sri": "sri", "nix32": "nix32", "base16": "hex", "base64": "base64"}


def _check(value: str, known: Iterable[str], what: str) -> None:
    if value not in known:
        raise TargetError(f"there is no {what} {value!r}", hint=f"one of {', '.join(known)}")


def hash_path_command(file: Path, kind: str, algorithm: str, base: str) -> None:
    """Print the hash of a path."""
    _check(kind, _TYPES, "type")
    _check(algorithm, ALGORITHMS, "algorithm")
    _check(base, _BASES, "base")
    if kind == "text" and algorithm != "sha256":
        raise TargetError("the type text goes with sha256 only")
    digest = hashlib.new(algorithm)
    try:
        if kind == "nar":
            nar.pack(file, digest.update)
        else:
            with file.open("rb") as opened:
                while chunk := opened.read(1 << 20):
                    digest.update(chunk)
    except OSError as error:
        raise TargetError(f"{file} can not be read: {error.strerror}") from error
    print(getattr(Hash(algorithm, digest.digest()), _BASES[base]))


def convert_command(hashes: Sequence[str], base: str, algorithm: str | None) -> None:
    """Print hashes in another base."""
    _check(base, _BASES, "base")
    if algorithm is not None:
        _check(algorithm, ALGORITHMS, "algorithm")
    for text in hashes:
        print(getattr(Hash.parse(text, algorithm), _BASES[base]))


def store_path_command(name: str, content: str, method: str, references: Sequence[str], self_reference: bool) -> None:
    """Print the path of a content-addressed object."""
    _check(method, get_args(Method), "method")
    print(
        content_path(
            name, cast(Method, method), Hash.parse(content), sorted(set(references)), self_reference=self_reference
        )
    )
