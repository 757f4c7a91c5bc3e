"""Where in a user's file something stands, for errors that point there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FrameType

from .errors import StageError

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a user's file something stands."""

    file: str
    line: int

    @classmethod
    def of(cls, frame: FrameType) -> Place:
        return cls(frame.f_code.co_filename, frame.f_lineno)

    @classmethod
    def caller(cls) -> Place:
        """The nearest frame that is not nixbridge's own."""
        frame: FrameType | None = sys._getframe(1)
        # dataclasses.replace may stand between two frames of ours.
        while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("bridge", "dataclasses"):
            frame = frame.f_back
        return cls.of(frame) if frame is not None else cls("<unknown>", 0)

    def error(self, message: str, hint: str | None = None, kind: type[StageError] = StageError) -> StageError:
        """An error that points here."""
        return kind(message, hint=hint, file=self.file, line=self.line)
