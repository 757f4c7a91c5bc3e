"""What the stages of stock run: a module of the standard library alone, since it is code of a stage like any other.

    archive      tar (plain or compressed), zip, or one compressed file
    top folder   where a folder is all that an archive holds, its contents are the result, as of Nix's fetchTarball
    refused      names that are absolute or lead out, devices, links that are absolute or lead out

Links are made when everything else is written, so that nothing is ever written through one.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["ArchiveError", "collect", "extract", "unpack"]


class ArchiveError(ValueError):
    """An archive that is damaged, that is none, or that would write elsewhere."""


_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""What a compressed file begins with, and what reads it."""

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError)


def unpack(run: Any, archive: Path) -> None:
    """The stage: what is in an archive."""
    extract(archive, run.out)


def collect(run: Any, **links: Path | list[Path]) -> None:
    """The stage: a folder of links to inputs; several of a name are a folder of numbered ones."""
    for name, found in links.items():
        if isinstance(found, list):
            (run.out / name).mkdir()
            for number, one in enumerate(found):
                (run.out / name / str(number)).symlink_to("../../" + _in_store(one))
        else:
            (run.out / name).symlink_to("../" + _in_store(found))


def _in_store(path: Path) -> str:
    """A path relative to the store that it is in: links must lead on wherever that lies."""
    found = re.search(r"/([0-9a-z]{32}-.+)", str(path))
    assert found is not None, path
    return found[1]


def extract(archive: Path, target: Path) -> None:
    """Unpack an archive to `target`, which is not there yet, or an empty folder.

    Of a file that is compressed and no archive, `target` becomes the file.

    Raises
    ------
    ArchiveError
        For an archive that is damaged, none, or hostile; nothing was written elsewhere then.
    """
    folder = target.with_name(f"{target.name}.unpacking")
    try:
        with archive.open("rb") as file:
            start = file.read(8)
        if start.startswith((b"PK\3\4", b"PK\5\6")):
            found = _unzip(archive, folder)
        else:
            found = _untar(archive, start, folder)
    except _DAMAGED as error:
        raise ArchiveError(f"the archive is damaged: {error or type(error).__name__}") from error
    except gzip.BadGzipFile as error:
        raise ArchiveError(f"the archive is damaged: {error}") from error
    if target.is_dir():
        target.rmdir()
    os.rename(found, target)
    if folder.exists():
        folder.rmdir()


def _untar(archive: Path, start: bytes, folder: Path) -> Path:
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    try:
        tar = tarfile.open(archive, "r:*")  # noqa: SIM115
    except tarfile.ReadError:
        if opener is None:
            raise ArchiveError("this is no archive: neither tar nor zip, nor compressed") from None
        with opener(archive, "rb") as source, folder.open("xb") as file:
            shutil.copyfileobj(source, file)
        return folder
    writing = _Writing(folder)
    with tar:
        for member in tar:
            if member.isreg():
                source = tar.extractfile(member)
                assert source is not None
                writing.file(member.name, source, member.mode)
            elif member.isdir():
                writing.folder(member.name)
            elif member.issym():
                writing.link(member.name, member.linkname)
            elif member.islnk():
                writing.again(member.name, member.linkname)
            else:
                raise ArchiveError(f"the archive holds {member.name!r}, which is no file, folder or link")
        _check_end(tar)
    return writing.finish()


def _check_end(tar: tarfile.TarFile) -> None:
    """Read what compression holds behind the last member: its checksum stands there."""
    assert tar.fileobj is not None
    while tar.fileobj.read(1 << 20):
        pass


def _unzip(archive: Path, folder: Path) -> Path:
    writing = _Writing(folder)
    with zipfile.ZipFile(archive) as found:
        for member in found.infolist():
            mode = member.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if member.flag_bits & 1:
                raise ArchiveError(f"the archive's {member.filename!r} is encrypted")
            if member.is_dir():
                writing.folder(member.filename)
            elif kind == stat.S_IFLNK:
                writing.link(member.filename, os.fsdecode(found.read(member)))
            elif kind in (0, stat.S_IFREG):
                with found.open(member) as source:
                    writing.file(member.filename, source, mode)
            else:
                raise ArchiveError(f"the archive holds {member.filename!r}, which is no file, folder or link")
    return writing.finish()


class _Writing:
    """An archive on its way to a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._links: dict[str, str] = {}
        folder.mkdir()

    def folder(self, name: str) -> None:
        with self._refusing(name):
            (self._folder / _checked(name)).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, source: IO[bytes], mode: int) -> None:
        place = self._place(name)
        with self._refusing(name), place.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        place.chmod(0o755 if mode & stat.S_IXUSR else 0o644)

    def again(self, name: str, other: str) -> None:
        """A hard link: the same contents once more."""
        target = self._links.get(_checked(other))
        if target is not None:
            self.link(name, target)
            return
        place = self._place(name)
        with self._refusing(name):
            shutil.copy(self._folder / _checked(other), place)

    def link(self, name: str, target: str) -> None:
        self._place(name)
        self._links[_checked(name)] = target

    def finish(self) -> Path:
        """Make the links; gives what is the result: the folder, or the only one in it."""
        tops = {name.partition("/")[0] for name in self._links} | set(os.listdir(self._folder))
        top = tops.pop() if len(tops) == 1 else ""
        root = self._folder / top if top and (self._folder / top).is_dir() else self._folder
        for name, target in self._links.items():
            place = self._folder / name
            _check_link(name, target, len(place.relative_to(root).parts) - 1)
            with self._refusing(name):
                place.symlink_to(target)
        return root

    def _place(self, name: str) -> Path:
        path = _checked(name)
        if not path:
            raise ArchiveError("the archive holds a file without a name")
        # The last one of a name counts, as of any tar.
        self._links.pop(path, None)
        place = self._folder / path
        with self._refusing(name):
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_file():
                place.unlink()
        return place

    @contextlib.contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, NotADirectoryError, IsADirectoryError, FileNotFoundError) as error:
            raise ArchiveError(f"the archive's {name!r} does not fit to what it holds besides") from error


def _checked(name: str) -> str:
    """A member's name, without what means nothing."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ArchiveError(f"the archive holds {name!r}, which leads out of it")
    return "/".join(parts)


def _check_link(name: str, target: str, depth: int) -> None:
    """Refuse a link that leads out, also by way of another link: up it goes first, and by real folders."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    if not target or target.startswith("/") or up > depth or ".." in parts[up:] or "\0" in target:
        raise ArchiveError(f"the archive's link {name!r} leads to {target!r}, out of the archive")
