"""The content hash of an object that refers to itself.

Its path comes from its contents, which hold the path: so the hash is that of the archive with the digest
of its own path blanked. Some releases of Nix then hash where those digests stand:

    up to 2.16, from 2.35   sha256(blanked archive "|" offset "|" offset …)
    2.17 to 2.34            sha256(blanked archive)

The same contents have different paths there, and neither takes in what the other made.

Source: NixOS/nix `HashModuloSink` (`references.cc`); NixOS/nix#15837, fixed in 2.35.0.
"""

from __future__ import annotations

import hashlib

from .errors import StorePathError
from .hashes import Hash
from .store_path import DIGEST_LENGTH

__all__ = ["hash_modulo", "hashes_positions"]


def hashes_positions(nix: tuple[int, ...] | None) -> bool:
    """Whether a release of Nix hashes the places of self references; without Nix as its manual has it."""
    return nix is None or not (2, 17) <= nix[:2] < (2, 35)


def hash_modulo(archive: bytes, own: str, *, positions: bool) -> Hash:
    """The SHA-256 of an archive modulo the digest of its own path.

    Parameters
    ----------
    own
        The digest, 32 characters, as it stands in the archive.
    positions
        Whether the places of the digest are hashed too; see `hashes_positions`.

    Raises
    ------
    StorePathError
        For what is as long as no digest.
    """
    if len(own) != DIGEST_LENGTH:
        raise StorePathError(f"{own!r} is no digest of a store path, which has {DIGEST_LENGTH} digits")
    digits = own.encode()
    digest = hashlib.sha256(archive.replace(digits, bytes(len(digits))))
    at = archive.find(digits) if positions else -1
    while at >= 0:
        digest.update(f"|{at}".encode())
        at = archive.find(digits, at + len(digits))
    return Hash("sha256", digest.digest())
