"""Files that commands write: there as a whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.stages.errors import TargetError

__all__ = ["scratch_beside"]


def scratch_beside(target: Path) -> Path:
    """Where to write what is then renamed to `target`.

    Raises
    ------
    TargetError
        If that names a folder, or a device or pipe, which would be replaced by a file.
    """
    if not target.name or target.is_dir():
        raise TargetError(f"{target} can not be written: it is a folder", hint="name a file")
    if target.exists() and not target.is_file():
        raise TargetError(f"{target} can not be written: it is no file", hint="name a file, or use standard output")
    return target.with_name(f".{target.name[:200]}.{os.getpid()}")
