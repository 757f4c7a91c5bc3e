"""What can go wrong in the Python store."""

from __future__ import annotations

from bridge.formats.errors import BridgeError

__all__ = ["DiskError", "InvalidObjectError", "LockError", "OutputError", "RecordError", "StoreError"]


class StoreError(BridgeError):
    """Something is wrong with the store."""


class DiskError(StoreError):
    """The disk refused: full, read-only, broken."""


class InvalidObjectError(StoreError):
    """A path that no valid object of the store has."""


class OutputError(StoreError):
    """What was built can not be a store object."""


class RecordError(StoreError):
    """A record that is damaged."""


class LockError(StoreError):
    """A lock that can not be had."""
