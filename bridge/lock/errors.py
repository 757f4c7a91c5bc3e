"""What can go wrong with `bridge.lock`."""

from __future__ import annotations

from bridge.formats.errors import BridgeError

__all__ = ["CacheError", "LockFileError", "LockMismatchError", "NotPinnableError"]


class CacheError(BridgeError):
    """A binary cache that can not be had, lacks an object, or has another content."""


class LockFileError(BridgeError):
    """A lock file that can not be read or written."""


class LockMismatchError(BridgeError):
    """A plan, a store or a cache that is no longer as the lock file says."""


class NotPinnableError(BridgeError):
    """A stage that a lock file can not pin: not realized, or of a name that another file's stage has."""
