"""What a binary cache tells of a store object, and of itself.

    narinfo      { key ": " value "\\n" }, in this order:
                 StorePath URL Compression FileHash FileSize NarHash NarSize References Deriver Sig* CA
    References   base names, sorted, with blanks between; Deriver is a base name; hashes are sha256:nix32
    fingerprint  1;<path>;sha256:<nix32 of NarHash>;<NarSize>;<references as full paths, with commas>
    cache info   StoreDir, WantMassQuery, Priority

Unknown keys are passed over; without Compression it is bzip2.
Source: Nix manual, `protocols/binary-cache/{narinfo,nix-cache-info}.md`; NixOS/nix `nar-info.cc`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from .errors import FormatError, NarInfoError
from .hashes import Hash
from .signing import PublicKey, SecretKey, Signature, is_signed
from .store_path import STORE_DIR, base_name, parse

__all__ = ["CacheInfo", "NarInfo", "fingerprint", "parse_cache_info", "parse_narinfo"]

_UNKNOWN_DERIVER = "unknown-deriver"
_DEFAULT_COMPRESSION = "bzip2"
_KEYS = frozenset(
    {"StorePath", "URL", "Compression", "FileHash", "FileSize", "NarHash", "NarSize", "References", "Deriver", "CA"}
)


@dataclass(frozen=True, slots=True)
class NarInfo:
    """An object in a binary cache.

    Parameters
    ----------
    url
        Of the compressed archive, relative to the cache.
    file_hash, file_size
        Of the compressed archive, if the cache tells.
    references
        Full store paths, sorted.
    content_address
        As `fixed:r:sha256:…`; such an object needs no signature.
    """

    path: str
    url: str
    compression: str
    file_hash: Hash | None
    file_size: int | None
    nar_hash: Hash
    nar_size: int
    references: tuple[str, ...] = ()
    deriver: str | None = None
    signatures: tuple[Signature, ...] = ()
    content_address: str | None = None

    @property
    def fingerprint(self) -> bytes:
        """What is signed."""
        return fingerprint(self.path, self.nar_hash, self.nar_size, self.references)

    def signed(self, key: SecretKey) -> NarInfo:
        """The same with this key's signature, in place of an older one of it."""
        others = tuple(one for one in self.signatures if one.name != key.name)
        return replace(self, signatures=(*others, key.sign(self.fingerprint)))

    def is_trusted(self, keys: Iterable[PublicKey]) -> bool:
        """Whether one of the keys signed it."""
        return is_signed(self.fingerprint, self.signatures, keys)

    def __str__(self) -> str:
        """The `.narinfo` file, as Nix prints it.

        Raises
        ------
        NarInfoError
            For a value that would be read back as another.
        """
        lines = [
            ("StorePath", self.path),
            ("URL", self.url),
            ("Compression", self.compression),
            ("FileHash", _hash(self.file_hash) if self.file_hash else None),
            ("FileSize", None if self.file_size is None else str(self.file_size)),
            ("NarHash", _hash(self.nar_hash)),
            ("NarSize", str(self.nar_size)),
            ("References", " ".join(sorted(map(base_name, self.references)))),
            ("Deriver", base_name(self.deriver) if self.deriver else None),
            *(("Sig", str(one)) for one in self.signatures),
            ("CA", self.content_address),
        ]
        return _printed((key, value) for key, value in lines if value is not None)


def _printed(lines: Iterable[tuple[str, str]]) -> str:
    found = list(lines)
    for number, (key, value) in enumerate(found, 1):
        if "\n" in value or value != value.strip():
            raise NarInfoError(f"{key} can not be {value!r}", line=number)
    return "".join(f"{key}: {value}\n" for key, value in found)


def fingerprint(path: str, nar_hash: Hash, nar_size: int, references: Iterable[str]) -> bytes:
    """What is signed of a store object."""
    return f"1;{path};{_hash(nar_hash)};{nar_size};{','.join(sorted(references))}".encode()


def _hash(value: Hash) -> str:
    return f"{value.algorithm}:{value.nix32}"


def parse_narinfo(text: str) -> NarInfo:
    """Read a `.narinfo` file.

    Raises
    ------
    NarInfoError
        With the line of what is wrong.
    """
    if text and not text.endswith("\n"):
        raise NarInfoError("the file ends within this line", line=text.count("\n") + 1)
    found: dict[str, tuple[int, str]] = {}
    signatures: list[Signature] = []
    for number, key, value in _lines(text):
        with _in_line(number):
            if key == "Sig":
                signatures.append(Signature.parse(value))
            elif key in found and key in _KEYS:
                raise NarInfoError(f"{key} stands twice", line=number)
            else:
                found[key] = number, value

    def get(key: str) -> tuple[int, str]:
        if key not in found or not found[key][1]:
            raise NarInfoError(f"{key} is missing", line=1)
        return found[key]

    def path(line: int, base: str) -> str:
        with _in_line(line):
            parse(f"{STORE_DIR}/{base}")
        return f"{STORE_DIR}/{base}"

    line, store_path = get("StorePath")
    with _in_line(line):
        parse(store_path)
    nar_size = _size(*get("NarSize"))
    if nar_size == 0:
        raise NarInfoError("NarSize is 0, which no archive has", line=found["NarSize"][0])
    references = found.get("References", (0, ""))
    deriver = found.get("Deriver", (0, ""))
    return NarInfo(
        path=store_path,
        url=get("URL")[1],
        compression=found.get("Compression", (0, ""))[1] or _DEFAULT_COMPRESSION,
        file_hash=_read_hash(*found["FileHash"]) if "FileHash" in found else None,
        file_size=_size(*found["FileSize"]) if "FileSize" in found else None,
        nar_hash=_read_hash(*get("NarHash")),
        nar_size=nar_size,
        references=tuple(path(references[0], base) for base in references[1].split()),
        deriver=path(*deriver) if deriver[1] not in ("", _UNKNOWN_DERIVER) else None,
        signatures=tuple(signatures),
        content_address=found.get("CA", (0, ""))[1] or None,
    )


@contextlib.contextmanager
def _in_line(line: int) -> Iterator[None]:
    """Give what goes wrong the line that it stands in."""
    try:
        yield
    except NarInfoError:
        raise
    except FormatError as error:
        raise NarInfoError(error.message, line=line) from error


def _lines(text: str) -> Iterable[tuple[int, str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        key, colon, value = line.partition(":")
        if not colon:
            raise NarInfoError(f"{line[:40]!r} has no colon", line=number)
        yield number, key, value.strip()


def _read_hash(line: int, text: str) -> Hash:
    with _in_line(line):
        return Hash.parse(text)


def _size(line: int, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise NarInfoError(f"{text[:40]!r} is no size", line=line)
    return int(text)


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """The file `nix-cache-info` of a binary cache."""

    store_dir: str = STORE_DIR
    want_mass_query: bool = False
    priority: int | None = None

    def __str__(self) -> str:
        lines = [("StoreDir", self.store_dir)]
        if self.want_mass_query:
            lines.append(("WantMassQuery", "1"))
        if self.priority is not None:
            lines.append(("Priority", str(self.priority)))
        return _printed(lines)


def parse_cache_info(text: str) -> CacheInfo:
    """Read a `nix-cache-info` file.

    Raises
    ------
    NarInfoError
        With the line of what is wrong.
    """
    found = {key: (number, value) for number, key, value in _lines(text)}
    return CacheInfo(
        found.get("StoreDir", (0, STORE_DIR))[1],
        found.get("WantMassQuery", (0, "0"))[1] == "1",
        _size(*found["Priority"]) if "Priority" in found else None,
    )
