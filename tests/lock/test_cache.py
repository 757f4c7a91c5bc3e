"""Binary caches: pushed to and fetched from, by files; full disks, damage, other contents."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.formats import nar
from bridge.formats.errors import BridgeError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import source_path
from bridge.lock.cache import Compression, fetch_archive, find_narinfo, push
from bridge.lock.errors import CacheError, LockFileError
from bridge.lock.file import update_section
from bridge.store.errors import DiskError
from bridge.store.info import ObjectInfo, find_info
from bridge.store.layout import Store, open_store
from bridge.store.verify import verify

TREE = nar.Directory({"a": nar.Regular(b"x" * 70_000), "run": nar.Regular(b"#!", executable=True)})


def archive(tree: nar.Directory = TREE) -> bytes:
    found: list[bytes] = []
    nar.dump(tree, found.append)
    return b"".join(found)


DIGEST = Hash.of(archive())
INFO = ObjectInfo(source_path("tree", DIGEST.hex), DIGEST, len(archive()), (), f"fixed:r:sha256:{DIGEST.nix32}")


def chunks(path: str) -> Iterator[bytes]:
    assert path == INFO.path
    yield archive()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def pushed(cache: Path, compression: Compression = "none") -> str:
    """The URL of the archive in a cache that has it."""
    [one] = push(cache, [INFO], chunks, compression=compression)
    return f"{cache.as_uri()}/{one.narinfo.url}"


@pytest.mark.parametrize("compression", ["none", "xz"])
def test_what_is_pushed_is_fetched(store: Store, tmp_path: Path, compression: Compression) -> None:
    url = pushed(tmp_path / "cache", compression)
    found = find_narinfo((tmp_path / "cache").as_uri(), INFO.path)
    assert found is not None
    assert (found.nar_hash, found.nar_size, found.references) == (INFO.nar_hash, INFO.nar_size, ())
    assert fetch_archive(store, url, INFO) == INFO
    assert find_info(store, INFO.path) == INFO
    assert not verify(store).findings


def test_what_is_there_is_not_pushed_again(tmp_path: Path) -> None:
    pushed(tmp_path)
    [again] = push(tmp_path, [INFO], lambda path: pytest.fail("read again"))
    assert again.was_there


def test_an_archive_that_is_gone_is_pushed_again(tmp_path: Path) -> None:
    pushed(tmp_path)
    for file in (tmp_path / "nar").iterdir():
        file.unlink()
    [again] = push(tmp_path, [INFO], chunks)
    assert not again.was_there
    assert (tmp_path / again.narinfo.url).exists()
    assert find_narinfo(tmp_path.as_uri(), INFO.path) == again.narinfo


@pytest.mark.parametrize(
    ("text", "message"),
    [("StoreDir: /other\n", "is of stores at /other"), ("Priority: x\n", "nix-cache-info: line 1")],
)
def test_a_cache_of_other_stores_is_not_pushed_to(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "nix-cache-info").write_text(text)
    with pytest.raises(CacheError, match=message):
        list(push(tmp_path, [INFO], chunks))


def test_what_a_cache_does_not_have_is_none(tmp_path: Path) -> None:
    assert find_narinfo(tmp_path.as_uri(), INFO.path) is None
    assert find_narinfo((tmp_path / "nothing").as_uri(), INFO.path) is None


def test_an_object_that_is_not_what_was_registered_is_not_pushed(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="not what was registered"):
        list(push(tmp_path, [INFO], lambda path: [archive(nar.Directory({}))]))
    assert find_narinfo(tmp_path.as_uri(), INFO.path) is None
    assert list((tmp_path / "nar").iterdir()) == []


def test_a_cache_with_another_content_is_not_pushed_to(tmp_path: Path) -> None:
    pushed(tmp_path)
    [file] = tmp_path.glob("*.narinfo")
    other = Hash.of(b"other")
    file.write_text(file.read_text().replace(f"NarHash: sha256:{DIGEST.nix32}", f"NarHash: sha256:{other.nix32}"))
    with pytest.raises(CacheError, match="another content"):
        list(push(tmp_path, [INFO], chunks))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-8], "another content"),
        (lambda data: data.replace(b"x", b"y", 1), "another content"),
        (lambda data: b"", "another content"),
    ],
)
def test_a_damaged_archive_leaves_the_store_as_it_was(store: Store, tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    url = pushed(tmp_path / "cache")
    [file] = (tmp_path / "cache" / "nar").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CacheError, match=message):
        fetch_archive(store, url, INFO)
    assert_untouched(store)


def test_damaged_compression_is_one_error(store: Store, tmp_path: Path) -> None:
    url = pushed(tmp_path / "cache", "xz")
    [file] = (tmp_path / "cache" / "nar").iterdir()
    file.write_bytes(b"\0" + file.read_bytes()[1:])
    with pytest.raises(CacheError, match="can not be fetched"):
        fetch_archive(store, url, INFO)
    assert_untouched(store)


def test_damaged_narinfo_is_one_error(tmp_path: Path) -> None:
    pushed(tmp_path)
    [file] = tmp_path.glob("*.narinfo")
    file.write_text(file.read_text().replace("StorePath", "Path"))
    with pytest.raises(CacheError, match="narinfo"):
        find_narinfo(tmp_path.as_uri(), INFO.path)


class Full:
    """A disk on which the n-th change fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
        self.left = turn
        for name in ("fsync", "rename", "mkdir", "chmod"):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))

    def _failing(self, real):  # type: ignore[no-untyped-def]
        def call(*arguments, **named):  # type: ignore[no-untyped-def]
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **named)

        return call


def error_of(kind: type[BridgeError], act: Callable[[], object]) -> BridgeError | None:
    """The error that tells of a full disk, if there is one."""
    try:
        act()
    except kind as error:
        return error if "No space left" in error.message else pytest.fail(error.message)
    return None


@pytest.mark.parametrize("turn", range(6))
def test_a_full_disk_leaves_a_cache_that_can_be_pushed_to_again(tmp_path: Path, turn: int) -> None:
    cache = tmp_path / "cache"
    with pytest.MonkeyPatch.context() as patch:
        full = Full(patch, turn)
        error = error_of(CacheError, lambda: list(push(cache, [INFO], chunks)))
    assert (error is None) == (full.left >= 0)
    left = [file for file in cache.rglob("*") if file.name.startswith(".")]
    assert left == []
    [done] = push(cache, [INFO], chunks)
    assert done.narinfo.path == INFO.path


@pytest.mark.parametrize("turn", range(6))
def test_a_full_disk_while_fetching_leaves_a_clean_store(store: Store, tmp_path: Path, turn: int) -> None:
    url = pushed(tmp_path / "cache")
    with pytest.MonkeyPatch.context() as patch:
        full = Full(patch, turn)
        error = error_of(DiskError, lambda: fetch_archive(store, url, INFO))
    assert (error is None) == (full.left >= 0)
    assert not verify(store).findings
    assert fetch_archive(store, url, INFO) == INFO


@pytest.mark.parametrize("turn", range(3))
def test_a_full_disk_leaves_the_lock_file_as_it_was(tmp_path: Path, turn: int) -> None:
    path = tmp_path / "bridge.lock"
    update_section(path, "stages", lambda old: {"train": {"a": 1}})
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        full = Full(patch, turn)
        error = error_of(LockFileError, lambda: update_section(path, "stages", lambda old: {"train": {"a": 2}}))
    assert (error is None) == (full.left >= 0)
    # Once it is renamed it is there whole, however little of that is on the disk for sure.
    assert turn == 2 or path.read_bytes() == before
    assert os.listdir(tmp_path) == ["bridge.lock"]


def assert_untouched(store: Store) -> None:
    assert find_info(store, INFO.path) is None
    assert list(store.objects.iterdir()) == list(store.tmp.iterdir()) == []
