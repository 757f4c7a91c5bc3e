from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instantiating import instantiate

from bridge.formats import nar
from bridge.formats.derivation import derivation_path, derivation_references, parse_aterm
from bridge.formats.errors import StorePathError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import content_path, fixed_path, text_path
from bridge.nix import wire
from bridge.nix.client import Connection, PathInfo, connect
from bridge.nix.errors import NixConnectionError, NixDaemonError, NixError, NixMissingPathError
from bridge.nix.installation import Installation

MISSING = f"/nix/store/{'a' * 32}-missing"

CODE = """
let
  low = derivation { name = "low"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ (builtins.toFile "t" "") ]; };
in
derivation { name = "top"; system = "x86_64-linux"; builder = "/bin/sh"; inherit low; outputs = [ "out" "dev" ]; }
"""


@pytest.fixture(params=["child", "socket"])
def served(request: pytest.FixtureRequest) -> Installation:
    """The scratch store over both transports."""
    installation: Installation = request.getfixturevalue("nix" if request.param == "child" else "daemon")
    return installation


@pytest.fixture
def link(served: Installation) -> Iterator[Connection]:
    with connect(served, timeout=60) as connection:
        yield connection


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with everything that an archive can hold."""
    folder = tmp_path / "tree"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "sub" / "large").write_bytes(os.urandom(3_000_001))
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    (folder / "link").symlink_to("sub/large")
    return folder


def archive(path: Path) -> bytes:
    return b"".join(nar.pack_chunks(path))


def add_tree(link: Connection, tree: Path, name: str = "tree", references: tuple[str, ...] = ()) -> PathInfo:
    return link.add_to_store(name, "fixed:r:sha256", references, nar.pack_chunks(tree))


@pytest.mark.nix
def test_a_connection_knows_whom_it_talks_to(link: Connection, served: Installation) -> None:
    assert 32 <= link.version <= 38
    assert link.nix_version == served.version_text()
    assert (link.process is None) == served.remote.startswith("unix://")
    assert "Nix " in repr(link)


@pytest.mark.nix
def test_a_tree_gets_the_path_that_the_formats_compute_and_nix_store_gives(
    link: Connection, served: Installation, tree: Path
) -> None:
    data = archive(tree)
    info = add_tree(link, tree)
    assert info.path == content_path("tree", "nar", Hash.of(data))
    assert info.path == served.run([served.program("nix-store"), "--add", str(tree)]).stdout.strip()
    assert info.nar_hash == Hash.of(data)
    assert info.nar_size == len(data)
    assert info.references == ()
    assert info.ca == f"fixed:r:sha256:{Hash.of(data).nix32}"
    assert archive(served.real_path(info.path)) == data


@pytest.mark.nix
def test_references_are_part_of_an_object_and_of_its_path(link: Connection, tree: Path) -> None:
    one = link.add_text("one", b"1")
    two = link.add_text("two", b"2", [one.path])
    info = add_tree(link, tree, references=(two.path, one.path))
    assert info.path == content_path("tree", "nar", Hash.of(archive(tree)), [one.path, two.path])
    assert info.references == tuple(sorted([one.path, two.path]))
    assert set(link.closure([info.path])) == {one.path, two.path, info.path}
    assert set(link.closure([two.path])) == {one.path, two.path}


@pytest.mark.nix
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_a_flat_file_gets_the_path_that_the_formats_compute(link: Connection, algorithm: str) -> None:
    info = link.add_to_store("f", f"fixed:{algorithm}", (), [b"hel", b"", b"lo\n"])
    assert info.path == fixed_path("f", "flat", Hash.of(b"hello\n", algorithm))


@pytest.mark.nix
def test_text_gets_the_path_that_the_formats_compute(link: Connection, served: Installation) -> None:
    info = link.add_text("note.txt", "schön".encode())
    assert info.path == text_path("note.txt", hashlib.sha256("schön".encode()).hexdigest())
    assert served.real_path(info.path).read_text() == "schön"
    assert link.add_text("empty", b"").nar_size == len(b"".join(nar_of(b"")))


def nar_of(data: bytes) -> list[bytes]:
    parts: list[bytes] = []
    nar.dump(nar.Regular(data), parts.append)
    return parts


@pytest.mark.nix
def test_adding_twice_gives_the_same_object(link: Connection, tree: Path) -> None:
    assert add_tree(link, tree) == add_tree(link, tree)


@pytest.mark.nix
def test_a_derivation_gets_the_path_that_nix_instantiate_gives(
    link: Connection, served: Installation, scratch: Path
) -> None:
    other = replace(served, environ={**served.environ, "NIX_REMOTE": f"local?root={scratch}/other"})
    (top,) = instantiate(other, expr=CODE)
    run = other.run([other.program("nix-store"), "--query", "--requisites", top])
    for path in run.stdout.split():  # in an order in which references come first
        data = other.real_path(path).read_bytes()
        if path.endswith(".drv"):
            drv = parse_aterm(data, path[44:-4])
            info = link.add_derivation(path[44:], data, derivation_references(drv))
            assert info.path == derivation_path(drv)
        else:
            info = link.add_text(path[44:], data)
        assert info.path == path
    outputs = link.query_derivation_output_map(top)
    assert {name: (path or "").partition("-")[2] for name, path in outputs.items()} == {"out": "top", "dev": "top-dev"}


@pytest.mark.nix
def test_an_output_that_is_not_known_before_the_build_is_none(link: Connection, served: Installation) -> None:
    code = (
        'derivation { name = "ca"; system = "x86_64-linux"; builder = "/bin/sh"; __contentAddressed = true; '
        'outputHashMode = "recursive"; outputHashAlgo = "sha256"; }'
    )
    (drv,) = instantiate(served, expr=code)
    assert link.query_derivation_output_map(drv) == {"out": None}


@pytest.mark.nix
def test_the_name_of_a_derivation_ends_in_drv(link: Connection) -> None:
    with pytest.raises(NixError, match=r"must end in .drv"):
        link.add_derivation("x", b"Derive", ())


@pytest.mark.nix
def test_an_archive_comes_back_as_it_went_in(link: Connection, tree: Path, tmp_path: Path) -> None:
    data = archive(tree)
    info = add_tree(link, tree)
    link.nar_from_path(info.path, lambda stream: nar.unpack(stream, tmp_path / "copy"))
    assert archive(tmp_path / "copy") == data
    assert link.nar_from_path(info.path, lambda stream: stream.read(1 << 30)) == data
    sizes = [1, 7, 8, 100_000, 1 << 21]
    assert link.nar_from_path(info.path, lambda stream: b"".join(pieces(stream, sizes))) == data


def pieces(stream: wire.Readable, sizes: list[int]) -> Iterator[bytes]:
    """What reading with these sizes, in turn, gives."""
    while True:
        for size in sizes:
            data = stream.read(size)
            yield data
            if len(data) < size:
                assert stream.read(1) == b""
                return


@pytest.mark.nix
def test_what_a_reader_leaves_of_an_archive_is_skipped(link: Connection, tree: Path) -> None:
    info = add_tree(link, tree)
    assert link.nar_from_path(info.path, lambda stream: stream.read(8)) == b"\x0d" + bytes(7)
    assert link.nar_from_path(info.path, lambda _: 3) == 3
    assert link.is_valid_path(info.path)


@pytest.mark.nix
def test_a_reader_of_an_archive_that_raises_ends_the_connection(link: Connection, tree: Path) -> None:
    info = add_tree(link, tree)

    def read(stream: wire.Readable) -> None:
        stream.read(100)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        link.nar_from_path(info.path, read)
    with pytest.raises(NixConnectionError, match=r"connection to Nix is gone.*No space"):
        link.is_valid_path(info.path)


@pytest.mark.nix
def test_paths_that_nix_lacks_are_not_valid(link: Connection) -> None:
    here = link.add_text("here", b"x").path
    assert link.is_valid_path(here)
    assert not link.is_valid_path(MISSING)
    assert link.query_valid_paths([MISSING, here, here]) == {here}
    assert link.query_valid_paths([]) == set()
    assert link.query_path_info(here) == link.add_text("here", b"x")
    assert link.query_path_info(MISSING) is None
    with pytest.raises(NixMissingPathError) as caught:
        link.closure([here, MISSING])
    assert caught.value.path == MISSING


@pytest.mark.nix
def test_a_temporary_root_lasts_as_long_as_its_connection(link: Connection, served: Installation) -> None:
    with connect(served) as other:
        path = other.add_text("x", b"x").path
    link.add_temp_root(path)
    collect = [served.program("nix-store"), "--gc"]
    served.run(collect)
    assert link.is_valid_path(path)
    link.close()
    served.run(collect)
    with connect(served) as other:
        assert not other.is_valid_path(path)


@pytest.mark.nix
def test_an_indirect_root_lasts_as_long_as_its_link(link: Connection, served: Installation, scratch: Path) -> None:
    path = link.add_text("x", b"x").path
    root = scratch / "root-link"
    root.symlink_to(path)
    link.add_indirect_root(root)
    link.close()
    collect = [served.program("nix-store"), "--gc"]
    served.run(collect)
    assert served.real_path(path).exists()
    root.unlink()
    served.run(collect)
    assert not served.real_path(path).exists()


@pytest.mark.nix
def test_an_indirect_root_must_be_absolute(link: Connection) -> None:
    with pytest.raises(NixError, match="absolute"):
        link.add_indirect_root("relative")


@pytest.mark.nix
def test_ensure_path_is_content_with_what_is_there(link: Connection) -> None:
    link.ensure_path(link.add_text("x", b"x").path)
    with pytest.raises(NixDaemonError, match="missing") as caught:
        link.ensure_path(MISSING)
    assert caught.value.op == f"get {MISSING}"
    assert link.is_valid_path(MISSING) is False


@pytest.mark.nix
def test_options_are_taken(link: Connection) -> None:
    link.set_options(verbosity=7, max_jobs=2, settings={"keep-outputs": "true"})
    assert not link.is_valid_path(MISSING)


@pytest.mark.nix
def test_what_nix_says_meanwhile_is_heard(nix: Installation, tree: Path) -> None:
    heard: list[str] = []
    with connect(nix, on_line=heard.append) as link:
        link.set_options(verbosity=7)
        add_tree(link, tree)
    assert heard
    assert not any("\x1b" in line or "\n" in line for line in heard)


@pytest.mark.nix
@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 212])
def test_a_bad_name_is_refused_before_anything_is_sent(link: Connection, name: str) -> None:
    with pytest.raises(StorePathError):
        link.add_text(name, b"x")
    assert link.is_valid_path(link.add_text("good", b"x").path)


@pytest.mark.nix
@pytest.mark.parametrize("path", ["/etc/passwd", "/nix/store/x", f"{MISSING}/inside", ""])
def test_a_bad_path_is_refused_before_anything_is_sent(link: Connection, path: str) -> None:
    for ask in (link.is_valid_path, link.query_path_info, link.ensure_path, link.add_temp_root):
        with pytest.raises(StorePathError):
            ask(path)
    with pytest.raises(StorePathError):
        link.add_text("x", b"x", [path])
    assert not link.is_valid_path(MISSING)


@pytest.mark.nix
def test_a_reference_that_nix_lacks_is_an_error(link: Connection, tree: Path) -> None:
    with pytest.raises(NixDaemonError, match=r"add x: .*missing.*is not valid") as caught:
        link.add_text("x", b"x", [MISSING])
    assert "\x1b" not in caught.value.message
    with pytest.raises(NixDaemonError, match="is not valid"):
        add_tree(link, tree, references=(MISSING,))
    assert link.is_valid_path(link.add_text("good", b"x").path)


@pytest.mark.nix
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [b"rubbish " * 10],
        [b"rubbish " * 1_000_000],
        [bytes(1 << 20)] * 40,
        [b"x" * 17] * 100_000,
    ],
    ids=["empty", "small", "large", "frames", "pieces"],
)
def test_what_is_no_archive_is_refused_and_the_connection_goes_on(link: Connection, chunks: list[bytes]) -> None:
    with pytest.raises(NixDaemonError):
        link.add_to_store("x", "fixed:r:sha256", (), chunks)
    assert link.is_valid_path(link.add_text("good", b"x").path)


@pytest.mark.nix
def test_a_truncated_archive_is_refused(link: Connection, tree: Path) -> None:
    with pytest.raises(NixDaemonError):
        link.add_to_store("x", "fixed:r:sha256", (), [archive(tree)[:-100]])
    assert link.is_valid_path(link.add_text("good", b"x").path)


@pytest.mark.nix
@pytest.mark.parametrize("method", ["fixed:r:sha3", "text:sha1", "sha256", ""])
def test_an_unknown_method_is_refused_before_anything_is_sent(link: Connection, method: str) -> None:
    with pytest.raises(NixError, match="no method and algorithm"):
        link.add_to_store("x", method, (), [b"x"])
    assert not link.is_valid_path(MISSING)


@pytest.mark.nix
def test_an_upload_whose_source_fails_adds_nothing(link: Connection, served: Installation, tree: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield archive(tree)[:2_000_000]
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        link.add_to_store("half", "fixed:r:sha256", (), chunks())
    with pytest.raises(NixConnectionError, match="could not be read"):
        link.is_valid_path(MISSING)
    with connect(served) as other:
        left = [f"/nix/store/{path.name}" for path in served.real_path("/nix/store").glob("*-half")]
        assert other.query_valid_paths(left) == set()


@pytest.mark.nix
def test_an_upload_can_not_use_its_own_connection(link: Connection) -> None:
    def chunks() -> Iterator[bytes]:
        yield str(link.is_valid_path(MISSING)).encode()

    with pytest.raises(NixConnectionError, match="another operation of this connection"):
        link.add_to_store("x", "fixed:sha256", (), chunks())


@pytest.mark.nix
def test_a_closed_connection_says_so(link: Connection) -> None:
    link.close()
    link.close()
    with pytest.raises(NixConnectionError, match="it was closed") as caught:
        link.is_valid_path(MISSING)
    assert caught.value.hint == "connect again"


@pytest.mark.nix
def test_a_connection_that_another_thread_closes_says_so(nix: Installation) -> None:
    with connect(nix) as link:
        assert link.process is not None
        link.process.send_signal(signal.SIGSTOP)
        threading.Timer(0.2, link.close).start()
        with pytest.raises(NixConnectionError, match="closed meanwhile"):
            link.is_valid_path(MISSING)
        link.process.send_signal(signal.SIGCONT)


@pytest.mark.nix
def test_threads_may_share_a_connection(link: Connection) -> None:
    found: dict[int, str] = {}

    def work(number: int) -> None:
        for _ in range(20):
            found[number] = link.add_text(f"t{number}", b"%d" % number).path
            assert link.is_valid_path(found[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.partition("-")[2] for path in found.values()} == {f"t{number}" for number in range(8)}


@pytest.mark.nix
def test_the_child_ends_with_its_connection(nix: Installation) -> None:
    with connect(nix) as link:
        process = link.process
        assert process is not None
        assert process.poll() is None
    assert process.returncode is not None


@pytest.mark.nix
def test_a_daemon_that_is_killed_in_an_upload_is_told(daemon: Installation) -> None:
    listener = daemon_of(daemon)
    with connect(daemon) as link:

        def chunks() -> Iterator[bytes]:
            for number in range(200):
                if number == 50:
                    # One for each connection, those of our knocking on the door among them.
                    for server in children(listener):
                        os.kill(server, signal.SIGKILL)
                yield bytes(1 << 20)

        with pytest.raises(NixConnectionError, match="the connection to Nix broke"):
            link.add_to_store("big", "fixed:sha256", (), chunks())
    with connect(daemon) as link:
        assert not link.is_valid_path(MISSING)


def daemon_of(daemon: Installation) -> int:
    """The process that listens on the daemon's socket."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(daemon.socket_path)
        credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], "little")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.nix
def test_a_child_that_is_killed_in_an_upload_is_told(nix: Installation) -> None:
    with connect(nix) as link:
        process = link.process
        assert process is not None

        def chunks() -> Iterator[bytes]:
            for number in range(200):
                if number == 50:
                    process.kill()
                yield bytes(1 << 20)

        with pytest.raises(NixConnectionError, match=r"add big.*signal 9"):
            link.add_to_store("big", "fixed:sha256", (), chunks())
        with pytest.raises(NixConnectionError, match="the connection to Nix is gone"):
            link.is_valid_path(MISSING)


@pytest.mark.nix
def test_a_child_that_is_killed_between_requests_is_told(nix: Installation) -> None:
    with connect(nix) as link:
        assert link.process is not None
        link.process.kill()
        link.process.wait()
        with pytest.raises(NixConnectionError, match="broke") as caught:
            link.is_valid_path(MISSING)
        assert "connect again" in (caught.value.hint or "")


@pytest.mark.nix
def test_a_child_that_is_killed_in_a_download_is_told(nix: Installation, tree: Path) -> None:
    with connect(nix) as link:
        info = add_tree(link, tree)
        process = link.process
        assert process is not None

        def read(stream: wire.Readable) -> bytes:
            stream.read(8)
            process.kill()
            return stream.read(1 << 30)

        with pytest.raises(NixConnectionError, match="broke"):
            link.nar_from_path(info.path, read)


@pytest.mark.nix
def test_a_silent_nix_is_given_up(nix: Installation) -> None:
    with connect(nix, timeout=0.3) as link:
        assert link.process is not None
        link.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(NixConnectionError, match=r"said nothing for 0.3 seconds"):
            link.is_valid_path(MISSING)
        assert time.monotonic() - begun < 10
        assert link.process.returncode is not None


@pytest.mark.nix
def test_a_child_that_can_not_open_its_store_is_quoted(nix: Installation, scratch: Path) -> None:
    (scratch / "file").touch()
    broken = replace(nix, environ={**nix.environ, "NIX_REMOTE": f"local?root={scratch}/file"})
    with pytest.raises(NixConnectionError, match=r"nix-daemon said: error:.*file"):
        connect(broken)


@pytest.mark.nix
def test_a_store_of_an_older_schema_is_no_reason_to_hang(nix: Installation, scratch: Path) -> None:
    conf = Path(nix.environ["NIX_CONF_DIR"], "nix.conf")
    conf.write_text("this is no configuration\n")
    with pytest.raises(NixConnectionError, match=r"(illegal|syntax error in) configuration line"):
        connect(nix)


def test_no_daemon_at_the_socket_is_told(scratch: Path) -> None:
    for place in (scratch / "none", scratch / ("x" * 200)):
        installation = Installation(Path("/usr/bin"), {"NIX_REMOTE": f"unix://{place}"})
        with pytest.raises(NixConnectionError, match="no Nix daemon listens at") as caught:
            connect(installation)
        assert "start" in (caught.value.hint or "")


def test_a_store_of_another_kind_is_told() -> None:
    with pytest.raises(NixConnectionError, match="ssh-ng"):
        connect(Installation(Path("/usr/bin"), {"NIX_REMOTE": "ssh-ng://host"}))


# A server that misbehaves: the protocol's other half, written out by hand over a real socket.


@contextlib.contextmanager
def serving(place: Path, talk: Callable[[BinaryIO], None]) -> Iterator[Installation]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen(1)

        def serve() -> None:
            link, _ = server.accept()
            with link, link.makefile("rwb", buffering=0) as stream, contextlib.suppress(OSError):
                talk(stream)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Installation(Path("/usr/bin"), {"NIX_REMOTE": f"unix://{place}"})
        finally:
            thread.join(10)


def greet(stream: BinaryIO, minor: int = 34) -> None:
    """The server's half of the handshake."""
    assert stream.read(16) == wire.integer(0x6E697863) + wire.integer(0x126)
    stream.write(wire.integer(0x6478696F) + wire.integer(0x100 | minor))
    if minor >= 38:
        assert stream.read(8) == wire.integer(0)
        stream.write(wire.strings(["realisation-with-path-not-hash", "future"]))
    stream.read(16)
    stream.write(wire.string("9.9.9") + (wire.integer(1) if minor >= 35 else b""))
    stream.write(wire.integer(0x616C7473))


def error(message: str) -> bytes:
    traces = wire.integer(1) + wire.integer(0) + wire.string("while \x1b[1mtesting\x1b[0m")
    head = wire.integer(0x63787470) + wire.string("Error") + wire.integer(0) + wire.string("Error")
    return head + wire.string(message) + wire.integer(0) + traces


@pytest.mark.parametrize(("minor", "trusted"), [(32, None), (34, None), (37, True), (38, True), (50, True)])
def test_every_version_is_greeted_in_its_way(scratch: Path, minor: int, trusted: bool | None) -> None:
    def talk(stream: BinaryIO) -> None:
        if minor == 32:
            stream.read(16)
            stream.write(wire.integer(0x6478696F) + wire.integer(0x120))
            stream.read(16)
            stream.write(wire.integer(0x616C7473))
        else:
            greet(stream, minor)
        assert stream.read(8) == wire.integer(1)
        stream.read(8 + 48)
        stream.write(wire.integer(0x616C7473) + wire.integer(1))

    with serving(scratch / "s", talk) as installation, connect(installation) as link:
        assert link.version == min(minor, 38)
        assert link.trusted is trusted
        assert link.is_valid_path(f"/nix/store/{'a' * 32}-m")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Nix daemon"),
        (wire.integer(0x6478696F) + wire.integer(0x115), r"speaks version 1\.21"),
        (wire.integer(0x6478696F) + wire.integer(0x226), r"speaks version 2\.38"),
    ],
)
def test_what_is_no_daemon_or_too_old_is_told(scratch: Path, answer: bytes, message: str) -> None:
    def talk(stream: BinaryIO) -> None:
        stream.read(16)
        stream.write(answer)

    with serving(scratch / "s", talk) as installation, pytest.raises(NixConnectionError, match=message):
        connect(installation)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (wire.integer(3), "the message 0x3"),
        (wire.integer(0x6F6C6D67) + wire.integer(1 << 60), "string of"),
        (wire.integer(0x6F6C6D67) + wire.integer(1) + b"xyyyyyyy", "padding"),
        (wire.integer(0x64617461) + wire.integer(1), "asks for data"),
        (wire.integer(0x616C7473), "closed the connection"),
    ],
)
def test_an_answer_out_of_the_protocol_ends_the_connection(scratch: Path, answer: bytes, message: str) -> None:
    def talk(stream: BinaryIO) -> None:
        greet(stream)
        stream.read(64)
        stream.write(answer)

    with serving(scratch / "s", talk) as installation, connect(installation) as link:
        with pytest.raises(NixConnectionError, match=message):
            link.is_valid_path(f"/nix/store/{'a' * 32}-m")
        with pytest.raises(NixConnectionError, match="is gone"):
            link.is_valid_path(f"/nix/store/{'a' * 32}-m")


def test_every_kind_of_message_is_taken(scratch: Path) -> None:
    number, text = wire.integer, wire.string
    fields = number(2) + number(0) + number(5) + number(1) + text("field")
    chatter = [
        number(0x6F6C6D67) + text("\x1b[1mnext\x1b[0m\nmore\n"),
        number(0x53545254) + number(1) + number(3) + number(105) + text("building") + fields + number(0),
        number(0x53545254) + number(2) + number(6) + number(0) + text("too chatty") + number(0) + number(0),
        number(0x52534C54) + number(1) + number(101) + number(1) + number(1) + text("log line"),
        number(0x52534C54) + number(1) + number(105) + fields,
        number(0x53544F50) + number(1),
        number(0x64617416) + text("ignored"),
    ]

    def talk(stream: BinaryIO) -> None:
        greet(stream)
        stream.read(64)
        stream.write(b"".join(chatter) + number(0x616C7473) + number(1))

    heard: list[str] = []
    with serving(scratch / "s", talk) as installation, connect(installation, on_line=heard.append) as link:
        assert link.is_valid_path(f"/nix/store/{'a' * 32}-m")
    assert heard == ["next", "more", "building", "log line"]


def test_a_connection_that_nix_ends_after_an_error_tells_that_error(scratch: Path) -> None:
    def talk(stream: BinaryIO) -> None:
        greet(stream)
        stream.read(64)
        stream.write(error("\x1b[31;1merror:\x1b[0m no"))

    with serving(scratch / "s", talk) as installation, connect(installation) as link:
        with pytest.raises(NixDaemonError, match=r"look for .*: error: no") as caught:
            link.is_valid_path(f"/nix/store/{'a' * 32}-m")
        assert caught.value.traces == ("while testing",)
        with pytest.raises(NixConnectionError, match=r"closed the connection.*, after it said: Nix can not look for"):
            link.is_valid_path(f"/nix/store/{'a' * 32}-m")


def test_an_upload_listens_while_it_sends(scratch: Path) -> None:
    """A daemon that talks more than a socket holds before it reads must not block us, nor we it."""
    size = 8 << 20

    def talk(stream: BinaryIO) -> None:
        greet(stream)
        for _ in range(2000):
            stream.write(wire.integer(0x6F6C6D67) + wire.string("x" * 1000))
        with contextlib.suppress(OSError):
            while stream.read(1 << 20):
                pass

    heard: list[str] = []
    with serving(scratch / "s", talk) as installation:
        with connect(installation, timeout=1, on_line=heard.append) as link, pytest.raises(NixConnectionError):
            link.add_to_store("x", "fixed:sha256", (), [bytes(size)])
        assert len(heard) == 2000


@given(st.lists(st.one_of(st.binary(), st.integers(0, 200_000).map(bytes))))
def test_frames_hold_what_went_in(chunks: list[bytes]) -> None:
    reader = wire.Reader(io.BytesIO(b"".join(wire.frames(chunks))))
    parts = []
    while size := reader.integer():
        assert size <= wire.FRAME
        parts.append(reader.read(size))
    assert b"".join(parts) == b"".join(chunks)
    with pytest.raises(NixConnectionError):
        reader.integer()


@given(st.lists(st.text()), st.integers(0, (1 << 64) - 1), st.booleans())
def test_values_come_back_from_the_wire(texts: list[str], number: int, truth: bool) -> None:
    data = wire.strings(texts) + wire.integer(number) + wire.boolean(truth)
    assert len(data) % 8 == 0
    reader = wire.Reader(io.BytesIO(data))
    assert (reader.strings(), reader.integer(), reader.boolean()) == (texts, number, truth)
