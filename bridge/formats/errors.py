"""The root of every error that nixbridge raises, and the errors of its formats.

It lives here because the formats may import nothing of ours and everything else may import them.
"""

from __future__ import annotations

__all__ = [
    "ATermError",
    "BridgeError",
    "ClosureError",
    "DerivationError",
    "DerivationJSONError",
    "FormatError",
    "HashError",
    "NarError",
    "NarInfoError",
    "Nix32Error",
    "SignatureError",
    "StorePathError",
]


class BridgeError(Exception):
    """Anything that nixbridge tells its user; `hint` says what to do about it.

    Parameters
    ----------
    message
        What is wrong, where and why, in one sentence without a final stop.
    hint
        What the user can do, if there is something.
    file, line
        Where the user wrote what is wrong.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = file
        self.line = line

    @property
    def where(self) -> str | None:
        """`file:line` of what is wrong, if it has a place."""
        if self.file is None:
            return None
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return self.message if self.where is None else f"{self.where}: {self.message}"


class FormatError(BridgeError):
    """Bytes or text that are not in the format that they are read as."""


class Nix32Error(FormatError):
    """Text that is not base 32 in Nix's alphabet."""


class HashError(FormatError):
    """A hash that is malformed, of an unknown algorithm or of the wrong length."""


class StorePathError(FormatError):
    """A store path or a name that Nix does not allow."""


class ATermError(FormatError):
    """A `.drv` file that is not a derivation; `position` is the offset of the damage in bytes."""

    def __init__(self, message: str, *, position: int) -> None:
        super().__init__(f"{message} at byte {position} of the derivation")
        self.position = position


class DerivationJSONError(FormatError):
    """JSON that is not a derivation; `key` is the path of keys to what is wrong."""

    def __init__(self, message: str, *, key: str = "", hint: str | None = None) -> None:
        super().__init__(f"{key}: {message}" if key else message, hint=hint)
        self.key = key


class DerivationError(FormatError):
    """A derivation that no Nix would make."""


class ClosureError(DerivationError):
    """A closure that is not whole; `path` is the derivation that is wrong or missing, `user` one that uses it."""

    def __init__(self, message: str, *, path: str, user: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.user = user


class NarError(FormatError):
    """A Nix archive that is damaged or hostile; `position` is the offset in bytes."""

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message if position is None else f"{message} at byte {position} of the archive")
        self.position = position


class NarInfoError(FormatError):
    """A `.narinfo` or `nix-cache-info` file that is damaged; `line` is the line in it, from 1."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


class SignatureError(FormatError):
    """A key or a signature that is malformed, or that can not be used here."""
