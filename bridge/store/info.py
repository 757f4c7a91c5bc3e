"""What is known of a valid object, with the keys of `nix path-info --json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from bridge.formats.errors import FormatError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import parse

from .durable import to_lines, write_file
from .errors import InvalidObjectError, RecordError
from .layout import Store

__all__ = ["ObjectInfo", "find_info", "parse_info", "read_info", "register", "unreadable"]

_ADDRESS = re.compile(r"(text:sha256|fixed:(r:)?(md5|sha1|sha256|sha512)):[0-9a-z]+")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A valid object.

    Parameters
    ----------
    nar_hash, nar_size
        Of the object's NAR; the size in bytes.
    references
        Store paths that the object refers to, itself among them if it does; sorted.
    content_address
        As Nix writes it, such as `fixed:r:sha256:…`; None for an input-addressed object.
    """

    path: str
    nar_hash: Hash
    nar_size: int
    references: tuple[str, ...]
    content_address: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "ca": self.content_address,
            "narHash": self.nar_hash.sri,
            "narSize": self.nar_size,
            "path": self.path,
            "references": list(self.references),
        }

    def to_bytes(self) -> bytes:
        """The info file."""
        return to_lines(self.to_json())


def register(store: Store, info: ObjectInfo) -> None:
    """Make the object valid: its bytes must be in place and durable."""
    write_file(store, store.info_file(info.path), info.to_bytes())


def parse_info(data: bytes, what: str) -> ObjectInfo:
    """Read an info file.

    Raises
    ------
    RecordError
        If it is damaged.
    """
    try:
        value = json.loads(data)
        path, size, references = value["path"], value["narSize"], tuple(value["references"])
        for one in (path, *references):
            parse(one)
        if not isinstance(size, int):
            raise TypeError(f"narSize is {size!r}")
        address = value["ca"]
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ValueError(f"ca is {address!r}")
        return ObjectInfo(path, Hash.parse(value["narHash"]), size, references, address)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FormatError) as error:
        raise RecordError(f"{what} is damaged: {error}", hint="run nixbridge verify") from error


def find_info(store: Store, path: str) -> ObjectInfo | None:
    """The info of the object at `path`, from the store or a lower one; None if it is not valid.

    Raises
    ------
    RecordError
        If it is damaged, or can not be read.
    """
    for one in store.layers:
        file = one.info_file(path)
        try:
            return parse_info(file.read_bytes(), str(file))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unreadable(str(file), error) from error
    return None


def unreadable(file: str, error: OSError) -> RecordError:
    """What to say of an info file that the disk does not give."""
    return RecordError(f"{file} can not be read: {error.strerror}", hint="run nixbridge verify")


def read_info(store: Store, path: str) -> ObjectInfo:
    """The info of the object at `path`.

    Raises
    ------
    InvalidObjectError
        If there is no such object.
    """
    info = find_info(store, path)
    if info is None:
        raise InvalidObjectError(f"{path} is not in the store {store.root}")
    return info
