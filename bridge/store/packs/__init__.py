"""Packs: one file with a closure of a store.

A tar of plain files, each as its header is made here (mode 0444, second 1, no owner), in this order:

    SHA256SUMS           of every other member: <hex>  <name>
    nix-cache-info
    <digest>.narinfo     of each object, with `digest` of its store path: objects behind what they refer to
    nar/<digest>.nar     in the same order
    trace/<id>.json      records, as in the store
    logs/<id>.log        behind the record that has it
    notes/<id>.txt       behind the record that it is on

Unpacked by any `tar` it is a binary cache that Nix reads (`nix copy --from file://…`), with the records beside it.
The same content gives the same bytes. Around it there may be one xz or zstd frame.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contents import Contents, gather
    from .read import Unpacked, look_into, unpack
    from .transfer import copy
    from .write import write_pack

__all__ = ["Contents", "Unpacked", "copy", "gather", "look_into", "unpack", "write_pack"]

# Imported at first use: who writes a pack needs nothing of what reads one.
_HOME = {
    "Contents": "contents",
    "Unpacked": "read",
    "copy": "transfer",
    "gather": "contents",
    "look_into": "read",
    "unpack": "read",
    "write_pack": "write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
