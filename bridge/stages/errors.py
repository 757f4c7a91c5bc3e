"""What can be wrong with what a user wrote."""

from __future__ import annotations

from bridge.formats.errors import BridgeError

__all__ = ["CodeError", "CycleError", "LoadError", "StageError", "TargetError"]


class StageError(BridgeError):
    """A stage that can not be: a parameter, a name, a value or an option is wrong."""


class CodeError(StageError):
    """A stage function whose code can not be made an input."""


class CycleError(StageError):
    """Stages that need each other."""


class LoadError(BridgeError):
    """A stage file that does not import."""


class TargetError(BridgeError):
    """A target that names nothing."""
