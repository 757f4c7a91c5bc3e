"""Download a file, going on where a broken download ended (HTTP ranges, RFC 9110 §14).

Whoever asks knows the file's hash: so it does not matter which mirror the beginning came from, and a file that was
put together wrongly is found out and downloaded anew.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from bridge.formats.hashes import Hash
from bridge.store.durable import disk_errors
from bridge.store.errors import DiskError

__all__ = ["BrokenDownload", "download"]

_CHUNK = 1 << 20
_TIMEOUT = 30.0
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

Tell = Callable[[str], None]


class BrokenDownload(OSError):  # noqa: N818
    """A connection that ended too early; `may_go_on` where the server can send the rest alone."""

    def __init__(self, message: str, *, may_go_on: bool) -> None:
        super().__init__(message)
        self.may_go_on = may_go_on


def download(url: str, file: Path, algorithm: str, check: Callable[[], None], tell: Tell) -> tuple[Hash, bool]:
    """Download to `file`, from where it ends; the hash, and whether the file was put together from parts.

    What there is stays in `file` when it fails, except where there is no room.

    Parameters
    ----------
    check
        Raises where the download is to end.
    tell
        Told once a second how far it is.

    Raises
    ------
    OSError, http.client.HTTPException, ValueError
        If the URL does not give the whole file.
    DiskError
        If the file can not be written.
    """
    parts = 0
    while True:
        have = file.stat().st_size if file.exists() else 0
        try:
            joined = _receive(url, file, have, check, tell)
            return _hash(file, algorithm, check), joined or parts > 0
        except BrokenDownload as error:
            # As long as each answer brings something, the rest is asked for.
            if not error.may_go_on or file.stat().st_size <= have:
                raise
            parts += 1
            tell(f"{error}; going on")
        except DiskError:
            file.unlink(missing_ok=True)
            raise


def _hash(file: Path, algorithm: str, check: Callable[[], None]) -> Hash:
    digest = hashlib.new(algorithm)
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            check()
            digest.update(chunk)
    return Hash(algorithm, digest.digest())


def _receive(url: str, file: Path, have: int, check: Callable[[], None], tell: Tell) -> bool:
    """Write what one answer brings; whether it was put behind what there was."""
    headers = {"User-Agent": "nixbridge"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        opened = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        # There is no more: all of it is here, or it is another file.
        error.close()
        return True
    with opened as source:
        is_rest = getattr(source, "status", None) == http.client.PARTIAL_CONTENT
        if is_rest:
            found = _RANGE.fullmatch(source.headers.get("Content-Range") or "")
            if found is None or int(found[1]) != have:
                file.unlink()
                return _receive(url, file, 0, check, tell)
        start = have if is_rest else 0
        length = int(source.headers.get("Content-Length") or 0)
        total = start + length if length else 0
        may_go_on = is_rest or source.headers.get("Accept-Ranges") == "bytes"
        done = _write(source, file, start, total, may_go_on, check, tell)
    if total and done != total:
        raise BrokenDownload(f"the connection ended after {done} of {total} bytes", may_go_on=may_go_on)
    return start > 0


def _write(
    source: Any, file: Path, start: int, total: int, may_go_on: bool, check: Callable[[], None], tell: Tell
) -> int:
    """Write an answer from `start` on; where the file ends then."""
    done = start
    begun = told = time.monotonic()
    with _opened(file, start) as target:
        while True:
            try:
                chunk = source.read1(_CHUNK) if hasattr(source, "read1") else source.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise BrokenDownload(f"{reason} after {done} bytes", may_go_on=may_go_on) from error
            if not chunk:
                return done
            # Also where nobody waits any more: what comes after must not be mixed with what another one writes.
            check()
            with disk_errors(f"{file} can not be written"):
                _write_all(target, chunk)
            done += len(chunk)
            now = time.monotonic()
            if now - told > 1:
                told = now
                tell(_progress(done, total, (done - start) / (now - begun)))


def _progress(done: int, total: int, speed: float) -> str:
    of = f" of {total >> 20}" if total else ""
    share = f" ({100 * done // total}%)" if total else ""
    return f"{done >> 20}{of} MiB{share}, {speed / (1 << 20):.1f} MiB/s"


def _opened(file: Path, start: int) -> BinaryIO:
    with disk_errors(f"{file} can not be written"):
        # Unbuffered, so that a full disk shows where we write and not where we close.
        opened = cast(BinaryIO, file.open("r+b" if start else "wb", buffering=0))
        opened.seek(start)
        return opened


def _write_all(target: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        # On a disk that is nearly full, only a part is written.
        view = view[target.write(view) :]
