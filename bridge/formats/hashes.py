"""Hashes as Nix writes them.

    base16     sha256:<hex>                  base64   sha256:<base64>
    nix32      sha256:<nix32>                SRI      sha256-<base64>

Source: Nix manual, `nix hash`; W3C "Subresource Integrity" for the last.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from . import nix32
from .errors import HashError, Nix32Error

__all__ = ["ALGORITHMS", "Hash", "fold"]

ALGORITHMS = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
"""Each algorithm that Nix knows and the size of its digest in bytes."""


@dataclass(frozen=True, slots=True)
class Hash:
    """A digest and the algorithm that made it."""

    algorithm: str
    digest: bytes

    def __post_init__(self) -> None:
        size = _size(self.algorithm)
        if len(self.digest) != size:
            raise HashError(f"a {self.algorithm} digest has {size} bytes, this one {len(self.digest)}")

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Hash:
        """The hash of `data`."""
        _size(algorithm)
        return cls(algorithm, hashlib.new(algorithm, data).digest())

    @classmethod
    def parse(cls, text: str, algorithm: str | None = None) -> Hash:
        """Read a hash in any of Nix's spellings.

        Parameters
        ----------
        text
            `algo-base64`, `algo:digest`, or a bare digest (then `algorithm` must be given).
        algorithm
            What the hash must be; a hash that names another is refused.

        Raises
        ------
        HashError
            For an unknown algorithm, or a digest that is in no base or of the wrong length.
        """
        for separator in ("-", ":"):
            name, found, digest = text.partition(separator)
            if found and name in ALGORITHMS:
                if algorithm is not None and name != algorithm:
                    raise HashError(f"{text!r} is a {name} hash where {algorithm} is asked for")
                return cls(name, _digest(digest, name, only_base64=separator == "-"))
        if algorithm is None:
            raise HashError(f"{text!r} does not say its algorithm", hint="write it as SRI, such as sha256-<base64>")
        return cls(algorithm, _digest(text, algorithm))

    @property
    def hex(self) -> str:
        return self.digest.hex()

    @property
    def nix32(self) -> str:
        return nix32.encode(self.digest)

    @property
    def base64(self) -> str:
        return base64.b64encode(self.digest).decode()

    @property
    def sri(self) -> str:
        return f"{self.algorithm}-{self.base64}"

    def __str__(self) -> str:
        return self.sri


def _size(algorithm: str) -> int:
    """The size of the algorithm's digest in bytes."""
    if algorithm not in ALGORITHMS:
        raise HashError(f"unknown hash algorithm {algorithm!r} (Nix knows {', '.join(ALGORITHMS)})")
    return ALGORITHMS[algorithm]


def _digest(text: str, algorithm: str, *, only_base64: bool = False) -> bytes:
    """The digest in `text`, whose base its length tells."""
    size = _size(algorithm)
    padding = "=" * (-len(text) % 4) if only_base64 else ""  # which Nix does without in SRI
    try:
        if len(text) == size * 2 and not only_base64:
            return bytes.fromhex(text)
        if len(text) == nix32.encoded_length(size) and not only_base64:
            return nix32.decode(text)
        if len(text + padding) == (size + 2) // 3 * 4:
            return base64.b64decode(text + padding, validate=True)
    except (ValueError, binascii.Error, Nix32Error) as error:
        raise HashError(f"{text!r} is no {algorithm} digest: {error}") from error
    raise HashError(f"{text!r} has the wrong length for a {algorithm} digest")


def fold(digest: bytes, size: int) -> bytes:
    """`digest` folded by XOR to `size` bytes, as Nix shortens hashes for store paths."""
    folded = bytearray(size)
    for position, byte in enumerate(digest):
        folded[position % size] ^= byte
    return bytes(folded)
