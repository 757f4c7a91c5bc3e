"""Store paths: how Nix computes the name of everything in its store.

    path      /nix/store/<digest>-<name>
    digest    nix32(fold20(sha256("<type>:sha256:<inner>:/nix/store:<name>")))
    type      text[:ref…] | source[:ref…][:self] | output:<output name>
    inner     hex sha256 of what the type says: contents, NAR, or a derivation modulo
    name      1 … 211 of 0-9 a-z A-Z + - . _ ? =

Source: Nix manual, "Complete Store Path Calculation" (`protocols/store-path.md`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from . import nix32
from .errors import StorePathError
from .hashes import Hash

__all__ = [
    "DIGEST_LENGTH",
    "STORE_DIR",
    "STORE_PATH",
    "Method",
    "base_name",
    "check_name",
    "content_path",
    "fixed_path",
    "hash_part",
    "name_part",
    "output_path",
    "output_path_name",
    "parse",
    "source_path",
    "text_path",
]

STORE_DIR = "/nix/store"
DIGEST_LENGTH = 32
"""Digits of the digest in a store path: 20 bytes in base 32."""

MAX_NAME_LENGTH = 211

Method = Literal["flat", "nar", "text", "git"]
"""How a file system object is serialised before it is hashed (manual, "Content address")."""

_NAME = re.compile(r"[0-9a-zA-Z+\-._?=]+")
_DIGEST = re.compile(f"[{nix32.ALPHABET}]{{{DIGEST_LENGTH}}}")
STORE_PATH = re.compile(rf"{STORE_DIR}/{_DIGEST.pattern}-[0-9a-zA-Z+\-._?=]{{1,{MAX_NAME_LENGTH}}}")
"""A store path anywhere in a text."""


@lru_cache(maxsize=65536)
def check_name(name: str) -> str:
    """Return `name` if it may be the name of a store object.

    Raises
    ------
    StorePathError
        Saying which rule of the manual's "Store path" chapter the name breaks.
    """
    if not name:
        raise StorePathError("a store object's name is empty")
    if len(name) > MAX_NAME_LENGTH:
        raise StorePathError(f"the name {name[:40]!r}… has {len(name)} characters; Nix allows {MAX_NAME_LENGTH}")
    if not _NAME.fullmatch(name):
        bad = next(char for char in name if not _NAME.fullmatch(char))
        raise StorePathError(
            f"Nix does not allow {bad!r} in the name {name!r}",
            hint="use letters, digits and + - . _ ? = only",
        )
    if name in (".", "..") or name.startswith((".-", "..-")):
        raise StorePathError(f"Nix does not allow the name {name!r}: its first dash-separated part is . or ..")
    return name


def parse(path: str) -> tuple[str, str]:
    """Split `/nix/store/<digest>-<name>` into digest and name.

    Raises
    ------
    StorePathError
        If `path` is anything else, such as a file inside a store object.
    """
    prefix, _, base = path.rpartition("/")
    if prefix != STORE_DIR:
        raise StorePathError(f"{path!r} is no store path: it must lie directly in {STORE_DIR}")
    digest, name = base[:DIGEST_LENGTH], base[DIGEST_LENGTH + 1 :]
    if len(base) <= DIGEST_LENGTH or base[DIGEST_LENGTH] != "-" or not _DIGEST.fullmatch(digest):
        raise StorePathError(f"{path!r} is no store path: {DIGEST_LENGTH} base-32 digits and a dash must come first")
    check_name(name)
    return digest, name


def base_name(path: str) -> str:
    """`<digest>-<name>` of a store path."""
    return path[len(STORE_DIR) + 1 :]


def hash_part(path: str) -> str:
    """`<digest>` of a store path: what reference scanning looks for."""
    return path[len(STORE_DIR) + 1 : len(STORE_DIR) + 1 + DIGEST_LENGTH]


def name_part(path: str) -> str:
    """`<name>` of a store path."""
    return path[len(STORE_DIR) + 2 + DIGEST_LENGTH :]


def _make(kind: str, inner: str, name: str) -> str:
    check_name(name)
    digest = hashlib.sha256(f"{kind}:sha256:{inner}:{STORE_DIR}:{name}".encode()).digest()
    # The fold of 32 bytes to 20 touches the first 12 twice; done on integers since this is hot.
    folded = int.from_bytes(digest[:20], "little") ^ int.from_bytes(digest[20:], "little")
    return f"{STORE_DIR}/{nix32.encode(folded.to_bytes(20, 'little'))}-{name}"


def _with_references(kind: str, references: Iterable[str], *, self_reference: bool = False) -> str:
    parts = [kind, *sorted(set(references))]
    if self_reference:
        parts.append("self")
    return ":".join(parts)


def text_path(name: str, content_sha256: str, references: Iterable[str] = ()) -> str:
    """The path of a text object: a `.drv` file or the result of `builtins.toFile`.

    Parameters
    ----------
    content_sha256
        The hex sha256 of the contents.
    references
        Full store paths that the text refers to.
    """
    return _make(_with_references("text", references), content_sha256, name)


def source_path(name: str, nar_sha256: str, references: Iterable[str] = (), *, self_reference: bool = False) -> str:
    """The path of an object addressed by the sha256 of its NAR: sources and floating outputs.

    Parameters
    ----------
    nar_sha256
        Hex; of the NAR with its own hash part blanked where the object refers to itself.
    """
    return _make(_with_references("source", references, self_reference=self_reference), nar_sha256, name)


def fixed_path(name: str, method: Method, content: Hash) -> str:
    """The path of a fixed-output object without references.

    Raises
    ------
    StorePathError
        For a method and an algorithm that Nix does not combine.
    """
    if method == "text":
        if content.algorithm != "sha256":
            raise StorePathError(f"the method text goes with sha256 only, not {content.algorithm}")
        return text_path(name, content.hex)
    if method == "nar" and content.algorithm == "sha256":
        return source_path(name, content.hex)
    if method == "git" and content.algorithm not in ("sha1", "sha256"):
        raise StorePathError(f"the method git goes with sha1 and sha256 only, not {content.algorithm}")
    prefixes = {"flat": "", "nar": "r:", "git": "git:"}
    if method not in prefixes:
        raise StorePathError(f"there is no method {method!r}", hint="one of flat, nar, text, git")
    prefix = prefixes[method]
    inner = hashlib.sha256(f"fixed:out:{prefix}{content.algorithm}:{content.hex}:".encode()).hexdigest()
    return _make("output:out", inner, name)


def content_path(
    name: str,
    method: Method,
    content: Hash,
    references: Iterable[str] = (),
    *,
    self_reference: bool = False,
) -> str:
    """The path of a content-addressed object, with references where its method allows them."""
    references = tuple(references)
    if method == "nar" and content.algorithm == "sha256":
        return source_path(name, content.hex, references, self_reference=self_reference)
    if method == "text" and not self_reference and content.algorithm == "sha256":
        return text_path(name, content.hex, references)
    if references or self_reference:
        raise StorePathError(
            f"an object addressed by {method} and {content.algorithm} can not have references: "
            f"{name} refers to {references[0] if references else 'itself'}"
        )
    return fixed_path(name, method, content)


def output_path_name(name: str, output: str) -> str:
    """The name of an output: the derivation's for `out`, else with the output's name behind it."""
    return name if output == "out" else f"{name}-{output}"


def output_path(name: str, output: str, modulo: str) -> str:
    """The path of an input-addressed output.

    Parameters
    ----------
    name
        The derivation's name.
    modulo
        The hex hash of the derivation modulo fixed outputs, its own outputs masked.
    """
    return _make(f"output:{output}", modulo, output_path_name(name, output))
