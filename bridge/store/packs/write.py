"""Write a pack, in constant memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.formats import nar
from bridge.formats.errors import NarError
from bridge.formats.narinfo import CacheInfo, NarInfo
from bridge.formats.store_path import base_name, hash_part
from bridge.store.errors import RecordError
from bridge.store.layout import Store
from bridge.store.notes import note_of
from bridge.store.references import Scanner
from bridge.store.sink import Sink
from bridge.store.trace import Realization, is_genuine

from .compress import compressor
from .contents import Contents, Packed
from .errors import PackError
from .tar import END, header, nar_name, padding

__all__ = ["write_pack"]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Part:
    """A member: its contents are in memory, or come from an object or a file."""

    name: str
    size: int
    sha256: str
    chunks: Callable[[], Iterator[bytes]]
    what: str


def write_pack(
    store: Store,
    contents: Contents,
    write: Callable[[bytes], object],
    *,
    compression: str = "none",
    on_progress: Callable[[int], object] = lambda done: None,
) -> str:
    """Write a pack; gives its id, the SHA-256 (hex) of its list of members.

    Parameters
    ----------
    on_progress
        Called with the bytes written so far, before compression.

    Raises
    ------
    PackError
        If an object's files are not what its info says.
    RecordError
        If a record was changed.
    """
    press = compressor(compression)
    done = 0

    def put(data: bytes) -> None:
        nonlocal done
        done += len(data)
        pressed = data if press is None else press.compress(data)
        if pressed:
            write(pressed)
        on_progress(done)

    parts = list(_parts(store, contents))
    sums = "".join(f"{part.sha256}  {part.name}\n" for part in parts).encode()
    put(header("SHA256SUMS", len(sums)) + sums + padding(len(sums)))
    for part in parts:
        put(header(part.name, part.size))
        sink = Sink(Scanner(()))
        try:
            for chunk in part.chunks():
                sink.write(chunk)
                put(chunk)
        except (OSError, NarError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise PackError(f"{part.what} can not be read: {reason}", hint="run nixbridge verify") from error
        finally:
            found = sink.finish()
        if found.hex != part.sha256 or sink.size != part.size:
            raise PackError(f"{part.what} was changed, or changes now", hint="run nixbridge verify")
        put(padding(part.size))
    put(END)
    if press is not None:
        write(press.flush())
    return hashlib.sha256(sums).hexdigest()


def _parts(store: Store, contents: Contents) -> Iterator[_Part]:
    yield _in_memory("nix-cache-info", str(CacheInfo(want_mass_query=True)).encode())
    for one in contents.objects:
        yield _in_memory(f"{hash_part(one.info.path)}.narinfo", narinfo_of(one).encode())
    for one in contents.objects:
        info = one.info
        yield _Part(nar_name(info.path), info.nar_size, info.nar_hash.hex, _archive(one.real), info.path)
    for record in contents.records:
        yield from _record(store, record)


def narinfo_of(one: Packed) -> str:
    info = one.info
    return str(
        NarInfo(
            path=info.path,
            url=nar_name(info.path),
            compression="none",
            file_hash=info.nar_hash,
            file_size=info.nar_size,
            nar_hash=info.nar_hash,
            nar_size=info.nar_size,
            references=tuple(sorted(info.references)),
            content_address=info.content_address,
        )
    )


def _in_memory(name: str, data: bytes) -> _Part:
    return _Part(name, len(data), hashlib.sha256(data).hexdigest(), lambda: iter((data,)), name)


def _archive(real: Path) -> Callable[[], Iterator[bytes]]:
    return lambda: nar.pack_chunks(real)


def _record(store: Store, record: Realization) -> Iterator[_Part]:
    files = [one.trace / base_name(record.drv) / f"{record.id}.json" for one in store.layers]
    file = next((one for one in files if one.exists()), files[0])
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RecordError(f"the record {file} can not be read: {error.strerror}") from error
    if not is_genuine(data, record.id):
        raise RecordError(f"the record {file} was changed after it was written", hint="run nixbridge verify")
    yield _in_memory(f"trace/{record.id}.json", data)
    if record.log is not None and (log := store.log_file(record.log)).is_file():
        with log.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            size = os.fstat(opened.fileno()).st_size
        yield _Part(f"logs/{record.id}.log", size, digest, lambda: _file(log), str(log))
    note = note_of(store, record.id)
    if note is not None:
        yield _in_memory(f"notes/{record.id}.txt", note.encode() + b"\n")


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_CHUNK), b"")
