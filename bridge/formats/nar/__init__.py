"""Nix archives: the serialisation of file system objects that Nix hashes and moves.

    archive    str("nix-archive-1") node
    node       "(" "type" ( "regular" ["executable" ""] "contents" str
                          | "symlink" "target" str
                          | "directory" { "entry" "(" "name" str "node" node ")" } ) ")"
    str        length (64 bits, little endian), bytes, zeros to a multiple of 8
    entries    sorted by their names' bytes, each name once

Source: Nix manual, "Nix Archive (NAR) format" (`protocols/nix-archive`).
"""

from .nodes import Directory, Node, Regular, Symlink, dump
from .reader import DirectoryEntry, EndDirectory, Entry, RegularEntry, SymlinkEntry, read, unpack
from .writer import pack, pack_chunks

__all__ = [
    "Directory",
    "DirectoryEntry",
    "EndDirectory",
    "Entry",
    "Node",
    "Regular",
    "RegularEntry",
    "Symlink",
    "SymlinkEntry",
    "dump",
    "pack",
    "pack_chunks",
    "read",
    "unpack",
]
