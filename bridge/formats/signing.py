"""Key pairs and signatures of binary caches, in Nix's text form.

    secret key   name:base64(seed (32 bytes) public key (32 bytes))
    public key   name:base64(public key)
    signature    name:base64(ed25519 signature (64 bytes))
    signed text  the fingerprint of a path; see narinfo

Ed25519 comes from the library `cryptography`, imported when a key is first used.
Source: Nix manual, `nix key`; NixOS/nix `src/libutil/signature`.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .errors import SignatureError

__all__ = ["PublicKey", "SecretKey", "Signature", "generate", "is_signed"]

_SEED = _PUBLIC = 32
_SIGNATURE = 64


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and the name of the key that made it."""

    name: str
    data: bytes

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Read `name:base64`.

        Raises
        ------
        SignatureError
            If it is anything else.
        """
        return cls(*_named(text, _SIGNATURE, "signature"))

    def __str__(self) -> str:
        return _text(self.name, self.data)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What tells whether a signature is genuine."""

    name: str
    data: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read `name:base64`."""
        return cls(*_named(text, _PUBLIC, "public key"))

    def verifies(self, text: bytes, signature: Signature) -> bool:
        """Whether this key's owner signed `text`."""
        ed25519 = _ed25519()
        from cryptography.exceptions import InvalidSignature

        if signature.name != self.name:
            return False
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.data).verify(signature.data, text)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return _text(self.name, self.data)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """What signs; its text is a secret, and its repr does not show it."""

    name: str
    seed: bytes

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """Read `name:base64`.

        Raises
        ------
        SignatureError
            Also if the public half does not belong to the secret one.
        """
        name, data = _named(text, _SEED + _PUBLIC, "secret key")
        key = cls(name, data[:_SEED])
        if key.public.data != data[_SEED:]:
            raise SignatureError(f"the halves of the secret key {name} do not belong together")
        return key

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.name, self._private().public_key().public_bytes_raw())

    def sign(self, text: bytes) -> Signature:
        return Signature(self.name, self._private().sign(text))

    def to_text(self) -> str:
        """The secret in Nix's text form."""
        return _text(self.name, self.seed + self.public.data)

    def _private(self) -> Any:
        return _ed25519().Ed25519PrivateKey.from_private_bytes(self.seed)

    def __repr__(self) -> str:
        return f"SecretKey({self.name!r}, …)"


def generate(name: str) -> SecretKey:
    """A new key.

    Raises
    ------
    SignatureError
        For a name that the text form can not hold.
    """
    # Nix takes trusted keys apart at blanks.
    if not name.isprintable() or not name or ":" in name or any(map(str.isspace, name)):
        raise SignatureError(f"{name!r} can not name a key", hint="such as cache.example.org-1")
    return SecretKey(name, _ed25519().Ed25519PrivateKey.generate().private_bytes_raw())


def is_signed(text: bytes, signatures: Iterable[Signature], trusted: Iterable[PublicKey]) -> bool:
    """Whether one of the trusted keys' owners signed `text`."""
    # A name may stand for two keys: an old one and the one that took its place.
    return any(key.verifies(text, one) for key, one in itertools.product(trusted, signatures))


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise SignatureError(
            "signatures need the library cryptography", hint="pip install 'nixbridge[sign]'"
        ) from error
    return ed25519


def _named(text: str, size: int, what: str) -> tuple[str, bytes]:
    name, colon, encoded = text.strip().partition(":")
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise SignatureError(f"this {what} is no base64: {error}") from error
    if not name or not colon or len(data) != size:
        raise SignatureError(f"a {what} is a name, a colon and {size} bytes as base64")
    return name, data


def _text(name: str, data: bytes) -> str:
    return f"{name}:{base64.b64encode(data).decode()}"
