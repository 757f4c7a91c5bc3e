"""Write bad/: archives with one fault each, which no Nix must unpack.

python tests/formats/data/nar/make_bad.py
"""

from __future__ import annotations

import struct
from pathlib import Path


def text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data + bytes(-len(data) % 8)


def texts(*words: bytes) -> bytes:
    return b"".join(map(text, words))


MAGIC = text(b"nix-archive-1")
FILE = texts(b"(", b"type", b"regular", b"contents", b"hello", b")")
LINK = texts(b"(", b"type", b"symlink", b"target", b"/etc", b")")


def folder(*entries: tuple[bytes, bytes]) -> bytes:
    inside = b"".join(texts(b"entry", b"(", b"name", name, b"node") + node + text(b")") for name, node in entries)
    return texts(b"(", b"type", b"directory") + inside + text(b")")


BAD = {
    # Names that lead out of the folder, or that no file system has.
    "name-dot": MAGIC + folder((b".", FILE)),
    "name-dotdot": MAGIC + folder((b"..", FILE)),
    "name-dotdot-folder": MAGIC + folder((b"..", folder((b"escaped", FILE)))),
    "name-empty": MAGIC + folder((b"", FILE)),
    "name-slash": MAGIC + folder((b"../escaped", FILE)),
    "name-absolute": MAGIC + folder((b"/tmp/escaped", FILE)),
    "name-nul": MAGIC + folder((b"a\0b", FILE)),
    "name-too-long": MAGIC + folder((b"a" * 256, FILE)),
    # Entries: a link that a folder of the same name would be written through, and what is unsorted.
    "order-through-link": MAGIC + folder((b"a", LINK), (b"a", folder((b"escaped", FILE)))),
    "order-duplicate": MAGIC + folder((b"a", FILE), (b"a", FILE)),
    "order-wrong": MAGIC + folder((b"b", FILE), (b"a", FILE)),
    "order-capitals": MAGIC + folder((b"a", FILE), (b"B", FILE)),
    # Lengths and padding.
    "padding-of-contents": MAGIC + FILE.replace(b"hello\0\0\0", b"hello\0\0x"),
    "padding-of-keyword": MAGIC.replace(b"-1\0\0\0", b"-1\0x\0") + FILE,
    "padding-of-name": MAGIC + folder((b"a", FILE)).replace(b"a" + bytes(7), b"a" + bytes(6) + b"x"),
    "length-of-contents": MAGIC + texts(b"(", b"type", b"regular", b"contents") + struct.pack("<Q", 1 << 62) + b"hello",
    "length-of-name": MAGIC + texts(b"(", b"type", b"directory", b"entry", b"(", b"name") + b"\xff" * 8 + b"hello",
    "length-of-keyword": b"\xff" * 8 + b"nix-archive-1",
    "length-of-target": MAGIC + texts(b"(", b"type", b"symlink", b"target") + struct.pack("<Q", 1 << 40) + b"x",
    # Ends.
    "truncated-in-length": (MAGIC + FILE)[:-12],
    "truncated-in-contents": (MAGIC + FILE)[: (MAGIC + FILE).index(b"hello") + 3],
    "truncated-in-folder": (MAGIC + folder((b"a", FILE)))[:-32],
    "truncated-before-last": (MAGIC + FILE)[:-16],
    "trailing-byte": MAGIC + FILE + b"\0",
    "trailing-archive": (MAGIC + FILE) * 2,
    "nothing": b"",
    # Keywords.
    "magic-of-version-2": text(b"nix-archive-2") + FILE,
    "type-unknown": MAGIC + texts(b"(", b"type", b"socket", b")"),
    "type-missing": MAGIC + texts(b"(", b"contents", b"hello", b")"),
    "executable-with-value": MAGIC
    + texts(b"(", b"type", b"regular", b"executable", b"yes", b"contents", b"hello", b")"),
    "contents-twice": MAGIC + FILE[:-16] + texts(b"contents", b"again", b")"),
    "target-empty": MAGIC + LINK.replace(text(b"/etc"), text(b"")),
    "target-nul": MAGIC + LINK.replace(b"/etc", b"/e\0c"),
    "target-missing": MAGIC + texts(b"(", b"type", b"symlink", b")"),
    "entry-without-node": MAGIC + texts(b"(", b"type", b"directory", b"entry", b"(", b"name", b"a", b")", b")"),
    "entry-without-name": MAGIC
    + texts(b"(", b"type", b"directory", b"entry", b"(", b"node")
    + FILE
    + texts(b")", b")"),
    "folder-with-contents": MAGIC + texts(b"(", b"type", b"directory", b"contents", b"hello", b")"),
}


def main() -> None:
    bad = Path(__file__).with_name("bad")
    bad.mkdir(exist_ok=True)
    for name, data in BAD.items():
        (bad / f"{name}.nar").write_bytes(data)


if __name__ == "__main__":
    main()
