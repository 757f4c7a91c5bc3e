"""Fetching from a real server on 127.0.0.1."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bridge.formats.hashes import Hash
from bridge.realize.errors import FetchError
from bridge.realize.events import Phase, Retrying
from bridge.store.layout import Store

from .running import Run, assert_clean, drive, load, run, wait_until, write_stages

DATA = b"the file\n" * 1000
HASH = Hash.of(DATA).sri


class Handler(BaseHTTPRequestHandler):
    """`/good`, and each way to be bad."""

    asked: list[str]
    hang: threading.Event

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/busy" and self.asked.count("/busy") < 3:
            self.send_error(503)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        if self.path == "/garbage":
            self.wfile.write(b"\0\1 this is no HTTP\r\n\r\n")
            return
        self.send_response(200)
        if self.path == "/odd":
            self.send_header("Content-Length", "many")
        elif self.path != "/no-length":
            self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        match self.path:
            case "/good" | "/busy" | "/no-length" | "/odd":
                self.wfile.write(DATA)
            case "/wrong":
                self.wfile.write(DATA.replace(b"f", b"F"))
            case "/short":
                self.wfile.write(DATA[:5000])
            case "/hang":
                self.wfile.write(DATA[:5000])
                self.wfile.flush()
                self.hang.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("OwnHandler", (Handler,), {"asked": [], "hang": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", handler
        handler.hang.set()
        found.shutdown()
        thread.join()


def fetch(store: Store, folder: Path, urls: list[str], hash: str = HASH) -> Run:
    module = load(folder, f"f = fetchurl({urls!r}, hash={hash!r}, name='file')")
    return run(store, module.f)


def test_a_file_url_needs_no_network(store: Store, tmp_path: Path) -> None:
    (tmp_path / "with space").write_bytes(DATA)
    done = fetch(store, tmp_path, [f"file://{tmp_path}/with%20space"])
    assert done.path("file").read_bytes() == DATA
    assert done.path("file").stat().st_mode & 0o777 == 0o444
    (one,) = done.choice("file").chosen
    assert one.realization.runner == "fetch"
    assert one.realization.host == {"url": f"file://{tmp_path}/with%20space"}
    assert_clean(store)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1"])
def test_each_algorithm_of_nix_serves(store: Store, tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "x").write_bytes(DATA)
    text = f"{algorithm}:{hashlib.new(algorithm, DATA).hexdigest()}"
    assert fetch(store, tmp_path, [f"file://{tmp_path}/x"], text).path("file").read_bytes() == DATA
    assert_clean(store)


@pytest.mark.parametrize("page", ["good", "moved", "no-length"])
def test_a_server_gives_the_file_once(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]], page: str
) -> None:
    url, handler = server
    for _ in range(2):
        assert fetch(store, tmp_path, [f"{url}/{page}"]).path("file").read_bytes() == DATA
    assert handler.asked.count(f"/{page}") == 1
    assert_clean(store)


def test_mirrors_are_tried_in_order_until_one_is_good(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    pages = ["missing", "short", "wrong", "good", "no-length"]
    done = fetch(store, tmp_path, [f"file://{tmp_path}/none", *(f"{url}/{page}" for page in pages)])
    assert handler.asked == [f"/{page}" for page in pages[:4]]
    assert done.path("file").read_bytes() == DATA
    assert [event.name for event in done.of(Phase)][-1] == f"{url}/good"
    assert_clean(store)


def test_all_mirrors_are_tried_again_as_often_as_the_stage_says(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    line = f"fetchurl(['{url}/missing', '{url}/busy'], hash='{HASH}', name='file')"
    done = run(store, load(tmp_path, f"file = {line}.options(retries=2, backoff=0.01)").file)
    assert done.path("file").read_bytes() == DATA
    assert handler.asked == ["/missing", "/busy"] * 3
    assert [event.seconds for event in done.of(Retrying)] == [0.01, 0.02]
    assert done.choice("file").chosen[0].realization.attempts == 3
    assert_clean(store)


def test_when_no_mirror_is_good_each_is_named_with_its_fault(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, _ = server
    pages = ["missing", "short", "wrong", "garbage", "odd"]
    urls = [f"file://{tmp_path}/none", "http://127.0.0.1:1/", *(f"{url}/{page}" for page in pages)]
    error = fetch(store, tmp_path, urls).failure
    assert isinstance(error, FetchError)
    lines = error.message.splitlines()
    assert lines[0] == "file can not be fetched:"
    assert [line.strip().partition(": ")[0] for line in lines[1:]] == urls
    assert "No such file" in lines[1]
    assert "refused" in lines[2]
    assert "404" in lines[3]
    assert "5000 of 9000 bytes" in lines[4]
    assert f"it has the hash {Hash.of(DATA.replace(b'f', b'F')).sri}, not {HASH}" in lines[5]
    assert error.line == 2
    assert list(store.objects.iterdir()) == list(store.info.iterdir()) == []
    assert_clean(store)


def test_a_folder_is_no_file(store: Store, tmp_path: Path) -> None:
    assert isinstance(fetch(store, tmp_path, [f"file://{tmp_path}"]).failure, FetchError)
    assert_clean(store)


def test_a_download_that_hangs_is_interrupted_at_once_and_begun_again(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    text = f"f = fetchurl(['{url}/hang', '{url}/good'], hash={HASH!r}, name='file')"
    with drive(store, write_stages(tmp_path, text)) as child:
        wait_until(lambda: handler.asked == ["/hang"])
        child.terminate()
        assert child.wait(3) == 130
    assert_clean(store)
    assert list(store.objects.iterdir()) == []
    handler.hang.set()
    assert fetch(store, tmp_path, [f"{url}/hang", f"{url}/good"]).path("file").read_bytes() == DATA
