"""Listings of archives: the `.ls` files that binary caches keep beside them.

    listing    {"root": node, "version": 1}
    node       {"type": "regular", "size", "narOffset", "executable"?: true}
               | {"type": "symlink", "target"} | {"type": "directory", "entries": {name: node}}

Source: Nix manual, `protocols/json/schema/nar-listing`; NixOS/nix `nar-accessor.cc`.
"""

from __future__ import annotations

from typing import Any

from .reader import DirectoryEntry, EndDirectory, Readable, RegularEntry, SymlinkEntry, read

__all__ = ["listing"]


def listing(stream: Readable) -> dict[str, Any]:
    """The listing of an archive, as `nix store ls --json -R` prints its root.

    Raises
    ------
    NarError
        If the archive is damaged.
    """
    root: dict[str, Any] = {}
    folders: list[dict[str, Any]] = []
    for entry in read(stream):
        node: dict[str, Any]
        match entry:
            case EndDirectory():
                folders.pop()
                continue
            case RegularEntry(size=size, offset=offset, executable=executable):
                node = {"type": "regular", "size": size, "narOffset": offset}
                if executable:
                    node["executable"] = True
            case SymlinkEntry(target=target):
                node = {"type": "symlink", "target": target}
            case DirectoryEntry():
                node = {"type": "directory", "entries": {}}
        if folders:
            folders[-1][entry.path[-1]] = node
        else:
            root = node
        if isinstance(entry, DirectoryEntry):
            folders.append(node["entries"])
    return {"root": root, "version": 1}
