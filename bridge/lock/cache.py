"""Nix binary caches: a folder that objects are pushed to, a URL that they are fetched from.

    nix-cache-info                  StoreDir: /nix/store
    <digest of the path>.narinfo    see formats/narinfo
    nar/<nix32 of the file's hash>.nar[.xz]

Source: Nix manual, "HTTP Binary Cache Store"; `nix copy --to file://…` writes the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import lzma
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

from bridge.formats import nar
from bridge.formats.errors import BridgeError, NarError, NarInfoError
from bridge.formats.hashes import Hash
from bridge.formats.narinfo import CacheInfo, NarInfo, parse_cache_info, parse_narinfo
from bridge.formats.signing import SecretKey
from bridge.formats.store_path import STORE_DIR, hash_part, name_part
from bridge.store.durable import disk_errors, temporary
from bridge.store.info import ObjectInfo
from bridge.store.layout import Store
from bridge.store.objects import add_fixed_file, add_nar, remove_tree

from .errors import CacheError

__all__ = ["COMPRESSIONS", "Compression", "Pushed", "fetch_archive", "find_narinfo", "push"]

Compression = Literal["none", "xz"]
"""Those that Nix's own `builtin:fetchurl` unpacks."""
COMPRESSIONS: dict[Compression, str] = {"none": "", "xz": ".xz"}

_CHUNK = 1 << 20
_TIMEOUT = 30.0


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


_COMPRESSORS: dict[Compression, Callable[[], _Compressor]] = {"none": _Plain, "xz": lzma.LZMACompressor}


# ----------------------------------------------------------------------------------------- pushing


@dataclass(frozen=True, slots=True)
class Pushed:
    """An object in a cache, and whether it was there already."""

    narinfo: NarInfo
    was_there: bool


def push(
    folder: Path,
    objects: Iterable[ObjectInfo],
    chunks: Callable[[str], Iterable[bytes]],
    *,
    compression: Compression = "xz",
    key: SecretKey | None = None,
) -> Iterator[Pushed]:
    """Write objects into a binary cache, which is made if there is none; gives each as it is done.

    Parameters
    ----------
    objects
        References first, so that whoever reads meanwhile finds no object without what it refers to.
    chunks
        The archive of a path.
    key
        What signs.

    Raises
    ------
    CacheError
        If the cache has another content under a path, or can not be written.
    """
    with _writing(folder):
        (folder / "nar").mkdir(parents=True, exist_ok=True)
        if not (folder / "nix-cache-info").exists():
            _put(folder / "nix-cache-info", str(CacheInfo()).encode())
    _check_store_dir(folder)
    for info in objects:
        known = find_narinfo(folder.absolute().as_uri(), info.path)
        if known is not None and known.nar_hash != info.nar_hash:
            raise CacheError(
                f"the cache {folder} has another content of {info.path}",
                hint=f"it has {known.nar_hash.sri}, here it is {info.nar_hash.sri}: one of the two is no result of Nix",
            )
        was_there = known is not None and (folder / known.url).is_file()
        found = (
            known if known is not None and was_there else _push_archive(folder, info, chunks(info.path), compression)
        )
        signed = found if key is None else found.signed(key)
        if known != signed:
            with _writing(folder):
                _put(folder / f"{hash_part(info.path)}.narinfo", str(signed).encode())
        yield Pushed(signed, was_there)


def _check_store_dir(folder: Path) -> None:
    with _asking(str(folder / "nix-cache-info")):
        store_dir = parse_cache_info((folder / "nix-cache-info").read_text()).store_dir
    if store_dir != STORE_DIR:
        raise CacheError(
            f"the cache {folder} is of stores at {store_dir}, not {STORE_DIR}", hint="push to a folder of its own"
        )


def _push_archive(folder: Path, info: ObjectInfo, chunks: Iterable[bytes], compression: Compression) -> NarInfo:
    compressor = _COMPRESSORS[compression]()
    digest = hashlib.sha256()
    archive = hashlib.sha256()
    size = 0
    with _writing(folder), _replacing(folder / "nar") as (file, rename):
        for chunk in _with_end(chunks):
            archive.update(chunk or b"")
            data = compressor.flush() if chunk is None else compressor.compress(chunk)
            digest.update(data)
            size += len(data)
            file.write(data)
        if archive.digest() != info.nar_hash.digest:
            raise CacheError(f"{info.path} is not what was registered", hint="nixbridge verify says more")
        file_hash = Hash("sha256", digest.digest())
        name = f"nar/{file_hash.nix32}.nar{COMPRESSIONS[compression]}"
        rename(folder / name)
    return NarInfo(
        path=info.path,
        url=name,
        compression=compression,
        file_hash=file_hash,
        file_size=size,
        nar_hash=info.nar_hash,
        nar_size=info.nar_size,
        references=info.references,
        content_address=info.content_address,
    )


def _with_end(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    yield from chunks
    yield None


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(f"the cache {folder} can not be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[tuple[BinaryIO, Callable[[Path], None]]]:
    """A new file, and what puts it under its name once it is written; gone if it was not."""
    temporary = folder / f".{secrets.token_hex(8)}"
    try:
        with open(temporary, "xb") as file:

            def rename(target: Path) -> None:
                file.flush()
                os.fsync(file.fileno())
                os.rename(temporary, target)

            yield file, rename
    finally:
        temporary.unlink(missing_ok=True)


def _put(target: Path, data: bytes) -> None:
    with _replacing(target.parent) as (file, rename):
        file.write(data)
        rename(target)


# ---------------------------------------------------------------------------------------- fetching


def find_narinfo(cache: str, path: str) -> NarInfo | None:
    """What a cache tells of an object, or None if it does not have it.

    Parameters
    ----------
    cache
        A URL: http, https or file.

    Raises
    ------
    CacheError
        If the cache can not be asked, or answers nonsense.
    """
    url = f"{cache.rstrip('/')}/{hash_part(path)}.narinfo"
    with _asking(url):
        try:
            with _open(url) as answer:
                text = answer.read(_CHUNK).decode()
        except urllib.error.HTTPError as error:
            error.close()
            # S3 says 403 of what is not there to whoever may not list.
            if error.code in (403, 404):
                return None
            raise
        except urllib.error.URLError as error:
            if isinstance(error.reason, FileNotFoundError) or "No such file" in str(error.reason):
                return None
            raise
        found = parse_narinfo(text)
        if found.path != path:
            raise CacheError(f"{url} is of another object: {found.path}", hint="the cache is damaged")
        return found


def fetch_archive(store: Store, url: str, wanted: ObjectInfo) -> ObjectInfo:
    """Fetch an object by the URL of its archive into the Python store, if it is what is wanted.

    Raises
    ------
    CacheError
        If it is something else, or can not be had.
    """
    file = temporary(store)
    try:
        found = _download(url, file)
        if found != wanted.nar_hash:
            raise CacheError(
                f"{url} has another content than the lock file says: {found.sri}, not {wanted.nar_hash.sri}",
                hint="the cache was changed, or the lock file was edited; nixbridge lock writes it anew",
            )
        kind = (wanted.content_address or "").rpartition(":")[0]
        if kind == "fixed:r:sha256" and wanted.path not in wanted.references:
            return add_nar(store, wanted.path, lambda: _chunks(file), wanted.references)
        if kind.startswith("fixed:") and not kind.startswith("fixed:r:"):
            tree = temporary(store)
            try:
                with disk_errors(f"{tree} can not be written"), file.open("rb") as archive:
                    nar.unpack(archive, tree)
                content = Hash.parse((wanted.content_address or "").rpartition(":")[2], kind.rpartition(":")[2])
                return add_fixed_file(store, name_part(wanted.path), tree, content)
            finally:
                remove_tree(tree)
        raise CacheError(
            f"{wanted.path} can not be taken from a cache: its path does not follow from its contents",
            hint="get it with Nix: nix copy --from",
        )
    except NarError as error:
        raise CacheError(f"{url} is no archive: {error}") from error
    finally:
        file.unlink(missing_ok=True)


def _download(url: str, file: Path) -> Hash:
    """Fetch and unpack to a file; gives the hash of the archive."""
    digest = hashlib.sha256()
    with _asking(url), _open(url) as answer, disk_errors(f"{file} can not be written"), file.open("xb") as target:
        # Closing the answer is all that there is to close.
        source = cast(BinaryIO, lzma.LZMAFile(answer)) if url.endswith(".xz") else answer  # noqa: SIM115
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
    return Hash("sha256", digest.digest())


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            yield chunk


def _open(url: str) -> BinaryIO:
    request = urllib.request.Request(url, headers={"User-Agent": "nixbridge"})
    opened: BinaryIO = urllib.request.urlopen(request, timeout=_TIMEOUT)
    return opened


@contextlib.contextmanager
def _asking(url: str) -> Iterator[None]:
    try:
        yield
    except NarInfoError as error:
        raise CacheError(f"{url}: {error.message}", hint="the cache is damaged") from error
    except BridgeError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise CacheError(f"{url} can not be fetched: {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, lzma.LZMAError, EOFError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise CacheError(f"{url} can not be fetched: {reason}", hint="is it the URL of a binary cache?") from error
