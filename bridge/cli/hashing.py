"""`hash path`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bridge.formats import nar
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.stages.errors import TargetError

__all__ = ["hash_path_command"]

_TYPES = ("nar", "flat", "text")
_BASES = {"sri": "sri", "nix32": "nix32", "base16": "hex", "base64": "base64"}


def hash_path_command(file: Path, kind: str, algorithm: str, base: str) -> None:
    """Print the hash of a path."""
    for value, known, what in (
        (kind, ("nar", "flat", "text"), "type"),
        (algorithm, ALGORITHMS, "algorithm"),
        (base, _BASES, "base"),
    ):
        if value not in known:
            raise TargetError(f"there is no {what} {value!r}", hint=f"one of {', '.join(known)}")
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
