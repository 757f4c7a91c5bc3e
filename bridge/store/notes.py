"""What people wrote down about realizations.

    notes/<id>.txt     UTF-8; the only thing of a realization that may be changed

A note is a file like any other, so that copying one store into another brings it along.
"""

from __future__ import annotations

import contextlib
import os

from .durable import disk_errors, write_file
from .layout import Store

__all__ = ["note_of", "notes", "remove_note", "write_note"]


def note_of(store: Store, identity: str) -> str | None:
    """The note on a realization, without the last newline; None if there is none."""
    for layer in store.layers:
        try:
            return (layer.root / "notes" / f"{identity}.txt").read_text(encoding="utf-8", errors="replace").rstrip("\n")
        except OSError:
            # There is none, or nobody can read it: that is no reason to show nothing else.
            continue
    return None


def notes(store: Store) -> dict[str, str]:
    """All notes, by the realization's id."""
    names: list[str] = []
    for layer in store.layers:
        with contextlib.suppress(FileNotFoundError):
            names += os.listdir(layer.root / "notes")
    ids = [name.removesuffix(".txt") for name in names if name.endswith(".txt") and name[0] != "."]
    return {identity: text for identity in ids if (text := note_of(store, identity)) is not None}


def write_note(store: Store, identity: str, text: str) -> None:
    """Have this be the note on a realization.

    Raises
    ------
    DiskError
        With the old note still there.
    """
    folder = store.root / "notes"
    with disk_errors(f"{folder} can not be made"):
        folder.mkdir(exist_ok=True)
    write_file(store, folder / f"{identity}.txt", text.rstrip("\n").encode(errors="replace") + b"\n")


def remove_note(store: Store, identity: str) -> None:
    """Have no note on a realization.

    Raises
    ------
    DiskError
    """
    file = store.root / "notes" / f"{identity}.txt"
    with disk_errors(f"{file} can not be removed"), contextlib.suppress(FileNotFoundError):
        file.unlink()
