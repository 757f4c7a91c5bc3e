"""Take a pack in, in constant memory: each part is checked before it becomes valid.

What is valid already is passed over, so that an unpack that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.formats.derivation import DRV_SUFFIX
from bridge.formats.errors import BridgeError
from bridge.formats.narinfo import parse_cache_info, parse_narinfo
from bridge.formats.store_path import STORE_DIR, base_name, content_path, hash_part, name_part
from bridge.store.durable import disk_errors, temporary, write_file
from bridge.store.errors import DiskError
from bridge.store.holds import hold
from bridge.store.info import ObjectInfo, find_info, parse_info
from bridge.store.layout import Store
from bridge.store.notes import note_of, write_note
from bridge.store.objects import add_archive
from bridge.store.trace import Realization, is_genuine, read_realization
from bridge.store.verify import wrong_address

from .compress import decompressed
from .errors import PackError
from .tar import Member, Reader, Stream, nar_name

__all__ = ["Unpacked", "look_into", "unpack"]

_DIGEST = "[0-9a-z]{32}"
_NAME = re.compile(
    rf"nix-cache-info|{_DIGEST}\.narinfo|nar/{_DIGEST}\.nar|trace/[0-9a-z]{{16}}\.json|logs/[0-9a-z]{{16}}\.log"
    r"|notes/[0-9a-z]{16}\.txt"
)
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")
_LARGEST_LIST = 1 << 28
_LARGEST_TEXT = 1 << 24
"""Bytes of a member that is held in memory: far more than any that is written."""

_CHUNK = 1 << 20


@dataclass(slots=True)
class Unpacked:
    """What a pack holds, and what became of it.

    Parameters
    ----------
    id
        The SHA-256 (hex) of the pack's list of members.
    objects, records
        All that the pack holds.
    new_objects, new_records
        Those that the store did not have: store paths, ids.
    differing
        What the store has with other bytes under the same name; the store's own stays.
    """

    id: str = ""
    objects: list[ObjectInfo] = field(default_factory=list)
    records: list[Realization] = field(default_factory=list)
    new_objects: list[str] = field(default_factory=list)
    new_records: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)


def unpack(
    store: Store,
    stream: Stream,
    *,
    skip: Callable[[int], object] | None = None,
    dry_run: bool = False,
    elsewhere: Callable[[str], bool] = lambda path: False,
    on_progress: Callable[[int], object] = lambda done: None,
) -> Unpacked:
    """Take a pack into a store.

    Parameters
    ----------
    skip
        Moves the stream on without reading it, where that can be done.
    dry_run
        Whether to look only; archives are passed over unread.
    elsewhere
        Whether another store (Nix's) has an object.
    on_progress
        Called with the bytes read so far, behind decompression.

    Raises
    ------
    PackError
        At the first part that is wrong. Nothing of it is valid, and what came before it is whole.
    DiskError
        With nothing half written.
    """
    return _Unpacking(store, stream, skip, dry_run, elsewhere, on_progress).run()


def look_into(stream: Stream, *, skip: Callable[[int], object] | None = None) -> Unpacked:
    """What a pack holds, without its archives being read.

    Raises
    ------
    PackError
        For what is wrong with the rest of it.
    """
    return _Unpacking(None, stream, skip, True, lambda path: True, lambda done: None).run()


class _Unpacking:
    def __init__(
        self,
        store: Store | None,
        stream: Stream,
        skip: Callable[[int], object] | None,
        dry_run: bool,
        elsewhere: Callable[[str], bool],
        on_progress: Callable[[int], object],
    ) -> None:
        self._store = store
        plain, is_compressed = decompressed(stream)
        self._reader = Reader(plain, None if is_compressed else skip)
        self._dry_run = dry_run
        self._elsewhere = elsewhere
        self._on_progress = on_progress
        self._found = Unpacked()
        self._by_digest: dict[str, ObjectInfo] = {}

    def run(self) -> Unpacked:
        sums = self._sums()
        unchecked = True
        for name, digest in sums.items():
            member = self._next(name)
            match name.split("/"):
                case ["nix-cache-info"]:
                    self._cache_info(self._text(member, digest))
                case ["nar", _]:
                    if unchecked:
                        self._check_whole(sums)
                        unchecked = False
                    self._archive(member, digest)
                case ["trace", _]:
                    self._record(member, self._text(member, digest))
                case ["logs", _]:
                    self._log(member, digest)
                case ["notes", _]:
                    self._note(member, self._text(member, digest))
                case _:
                    self._narinfo(name, self._text(member, digest))
            self._on_progress(self._reader.position)
        if unchecked:
            self._check_whole(sums)
        behind = self._reader.next()
        if behind is not None:
            raise PackError("it is not in the list SHA256SUMS", member=behind.name)
        return self._found

    # ---------------------------------------------------------------------------------- members

    def _sums(self) -> dict[str, str]:
        """The hash of each member, in the pack's order."""
        data = self._contents(self._next("SHA256SUMS"), _LARGEST_LIST)
        self._found.id = hashlib.sha256(data).hexdigest()
        sums: dict[str, str] = {}
        for number, line in enumerate(data.decode("utf-8", "backslashreplace").split("\n")[:-1], 1):
            found = _SUM.fullmatch(line)
            if found is None or not _NAME.fullmatch(found[2]):
                raise PackError(f"line {number}, {line[:120]!r}, is not of a file that packs have", member="SHA256SUMS")
            if found[2] in sums:
                raise PackError(f"{found[2]} stands in it twice", member="SHA256SUMS")
            sums[found[2]] = found[1]
        if not data.endswith(b"\n"):
            raise PackError("its last line has no end", member="SHA256SUMS")
        return sums

    def _next(self, name: str) -> Member:
        member = self._reader.next()
        if member is None:
            raise PackError(f"it ends before {name}")
        if member.name != name:
            raise PackError(f"{name} is expected in its place", member=member.name)
        return member

    def _contents(self, member: Member, limit: int = _LARGEST_TEXT) -> bytes:
        if member.size > limit:
            raise PackError(f"it has {member.size} bytes, more than {limit}", member=member.name)
        return b"".join(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        return iter(lambda: self._reader.read(_CHUNK), b"")

    def _text(self, member: Member, digest: str) -> bytes:
        data = self._contents(member)
        if hashlib.sha256(data).hexdigest() != digest:
            raise PackError("its contents have not the hash that SHA256SUMS says", member=member.name)
        return data

    # ------------------------------------------------------------------------ before the archives

    def _cache_info(self, data: bytes) -> None:
        try:
            folder = parse_cache_info(data.decode()).store_dir
        except (BridgeError, UnicodeDecodeError) as error:
            raise PackError(str(error), member="nix-cache-info") from None
        if folder != STORE_DIR:
            raise PackError(f"it is of a store at {folder}, not at {STORE_DIR}", member="nix-cache-info")

    def _narinfo(self, name: str, data: bytes) -> None:
        try:
            said = parse_narinfo(data.decode())
            info = ObjectInfo(
                said.path, said.nar_hash, said.nar_size, tuple(sorted(said.references)), said.content_address
            )
            parse_info(info.to_bytes(), name)
        except (BridgeError, UnicodeDecodeError) as error:
            raise PackError(str(error), member=name) from None
        if f"{hash_part(info.path)}.narinfo" != name or said.url != nar_name(info.path):
            raise PackError(f"it is of {info.path} at {said.url}, which has another name", member=name)
        if said.compression != "none" or said.nar_hash.algorithm != "sha256" or said.signatures:
            raise PackError("it is not as a pack's are: no compression, SHA-256, no signatures", member=name)
        self._check_address(name, info)
        for path in info.references:
            if path != info.path and not info.path.endswith(DRV_SUFFIX) and not self._is_there(path):
                raise PackError(
                    f"it refers to {path}, which is neither in the pack before it nor in the store", member=name
                )
        self._by_digest[hash_part(info.path)] = info
        self._found.objects.append(info)

    def _check_address(self, name: str, info: ObjectInfo) -> None:
        """Check what needs no contents: the path of an object that is addressed by its archive."""
        if (info.content_address or "").rpartition(":")[0] != "fixed:r:sha256" or info.path in info.references:
            return
        path = content_path(name_part(info.path), "nar", info.nar_hash, info.references)
        if path != info.path or info.content_address != f"fixed:r:sha256:{info.nar_hash.nix32}":
            raise PackError(f"its contents belong at {path}, not at {info.path}", member=name)

    def _check_whole(self, sums: dict[str, str]) -> None:
        """Before the first archive: for each there is a narinfo, and for each narinfo an archive of its hash."""
        if self._store is not None:
            hold(self._store, [info.path for info in self._found.objects])
        archives = {name: digest for name, digest in sums.items() if name.startswith("nar/")}
        wanted = {nar_name(info.path): info.nar_hash.hex for info in self._found.objects}
        for name in archives.keys() ^ wanted.keys():
            lacks = "no narinfo" if name in archives else "no archive"
            raise PackError(f"there is {lacks} that goes with it", member=name)
        for name, digest in archives.items():
            if wanted[name] != digest:
                raise PackError("SHA256SUMS and its narinfo say different hashes", member=name)

    # -------------------------------------------------------------------------------- taking in

    def _is_there(self, path: str) -> bool:
        found = self._by_digest.get(hash_part(path))
        if found is not None and found.path == path:
            return True
        return (self._store is not None and self._store.is_valid(path)) or self._elsewhere(path)

    def _archive(self, member: Member, digest: str) -> None:
        info = self._by_digest[member.name.removeprefix("nar/").removesuffix(".nar")]
        if member.size != info.nar_size:
            raise PackError(f"it has {member.size} bytes, and its narinfo says {info.nar_size}", member=member.name)
        if self._store is None:
            return
        known = find_info(self._store, info.path) if self._store.is_valid(info.path) else None
        if known is not None:
            if known != info:
                self._found.differing.append(info.path)
            return
        self._found.new_objects.append(info.path)
        if self._dry_run:
            return
        try:
            add_archive(self._store, info, self._reader, wrong_address)
        except (PackError, DiskError):
            raise
        except BridgeError as error:
            raise PackError(f"{info.path}: {error.message}", member=member.name) from error
        if self._reader.read(1):
            raise PackError("there is something behind the archive", member=member.name)

    def _record(self, member: Member, data: bytes) -> None:
        identity = member.name.removeprefix("trace/").removesuffix(".json")
        if not is_genuine(data, identity):
            raise PackError("its name is not the hash of its contents", member=member.name)
        try:
            record = read_realization(data, identity, "")
        except BridgeError as error:
            raise PackError(error.message, member=member.name) from None
        for path in record.outputs.values():
            if not self._is_there(path):
                raise PackError(f"its output {path} is neither in the pack nor in the store", member=member.name)
        self._found.records.append(record)
        if self._store is None:
            return
        folder = self._store.trace / base_name(record.drv)
        file = folder / f"{identity}.json"
        try:
            if file.read_bytes() != data:
                self._found.differing.append(str(file))
        except FileNotFoundError:
            self._found.new_records.append(identity)
            if not self._dry_run:
                with disk_errors(f"{folder} can not be made"):
                    folder.mkdir(exist_ok=True)
                write_file(self._store, file, data)

    def _log(self, member: Member, digest: str) -> None:
        record = self._found.records[-1] if self._found.records else None
        if record is None or member.name != f"logs/{record.id}.log" or record.log is None:
            raise PackError("it is not behind a record that has it", member=member.name)
        if self._store is None:
            return
        target = self._store.logs / record.log
        if target.exists():
            with target.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    self._found.differing.append(str(target))
        elif not self._dry_run:
            self._write_log(self._store, member, target, digest)

    def _note(self, member: Member, data: bytes) -> None:
        record = self._found.records[-1] if self._found.records else None
        if record is None or member.name != f"notes/{record.id}.txt":
            raise PackError("it is not behind its record", member=member.name)
        if self._store is None:
            return
        text = data.decode(errors="replace").rstrip("\n")
        known = note_of(self._store, record.id)
        if known is None and not self._dry_run:
            write_note(self._store, record.id, text)
        elif known not in (None, text):
            self._found.differing.append(f"the note on {record.id}")

    def _write_log(self, store: Store, member: Member, target: Path, digest: str) -> None:
        made = temporary(store)
        found = hashlib.sha256()
        with disk_errors(f"{target} can not be written"):
            try:
                with made.open("xb") as file:
                    for chunk in self._chunks():
                        found.update(chunk)
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                if found.hexdigest() != digest:
                    raise PackError("its contents have not the hash that SHA256SUMS says", member=member.name)
                made.rename(target)
            finally:
                made.unlink(missing_ok=True)
