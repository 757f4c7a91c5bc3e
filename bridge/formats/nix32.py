"""Nix's base 32: the digits of hashes in store paths.

    alphabet   0-9 a-z without e, o, t, u
    digit n    bits 5n … 5n+4 of the bytes read as one little-endian number
    order      the highest digit first
    length     ceil(8 · bytes / 5)

Not RFC 4648, so neither `base64.b32encode` nor `pynixutil.b32encode` makes it.
Source: Nix manual, "Nix32 encoding" (`protocols/nix32.md`).
"""

from __future__ import annotations

from .errors import Nix32Error

__all__ = ["ALPHABET", "decode", "encode", "encoded_length"]

ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"

_DIGITS = {char: value for value, char in enumerate(ALPHABET)}
# Python's int(text, 32) reads the digits 0-9 a-v: translate into them and let C do the arithmetic.
_PYTHON_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_TO_PYTHON = str.maketrans(ALPHABET, _PYTHON_DIGITS)
_PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)


def encoded_length(size: int) -> int:
    """The number of digits for `size` bytes."""
    return (size * 8 + 4) // 5


def encode(data: bytes) -> str:
    """`data` in Nix's base 32."""
    number = int.from_bytes(data, "little")
    length = encoded_length(len(data))
    text = "".join([_PAIRS[number >> 10 * pair & 1023] for pair in range((length - 1) // 2, -1, -1)])
    return text[-length:] if length else ""


def decode(text: str) -> bytes:
    """The bytes that `text` encodes.

    Raises
    ------
    Nix32Error
        For a character outside the alphabet, a length that no encoding has, or bits that do not fit.
    """
    for position, char in enumerate(text):
        if char not in _DIGITS:
            raise Nix32Error(f"{char!r} at position {position} of {text!r} is no digit of Nix's base 32")
    size = len(text) * 5 // 8
    if encoded_length(size) != len(text):
        raise Nix32Error(f"{text!r} has {len(text)} digits, which no number of bytes gives in Nix's base 32")
    number = int(text.translate(_TO_PYTHON), 32) if text else 0
    if number >> (size * 8):
        raise Nix32Error(f"{text!r} holds more than {size} bytes: its first digit is too large")
    return number.to_bytes(size, "little")
