"""Source objects on their way to the stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.formats.store_path import name_part
from bridge.stages.sources import SourceObject
from bridge.store.layout import Store
from bridge.store.objects import add_nar, add_texts

if TYPE_CHECKING:
    from bridge.nix.client import Connection

__all__ = ["add_source", "bring_source"]


def add_source(store: Store, source: SourceObject) -> None:
    """Add a source to the Python store; nothing is read if it is there.

    Raises
    ------
    OutputError
        If its files were changed meanwhile.
    """
    if source.text is None:
        add_nar(store, source.path, source.chunks)
    else:
        add_texts(store, [(source.path, source.text, ())])


def bring_source(nix: Connection, source: SourceObject) -> None:
    """Add a source to the Nix store."""
    if source.text is None:
        nix.add_to_store(name_part(source.path), "fixed:r:sha256", (), source.chunks())
    else:
        nix.add_text(name_part(source.path), source.text)
