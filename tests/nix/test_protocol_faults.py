"""A daemon that dies, lies, refuses or falls silent, at every point of a conversation.

The server here is written by hand, since no real daemon does this on command: it plays a dialogue, by the byte.
Dialogues are written out below, and recorded from the Nix that is installed.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bridge.formats import nar
from bridge.formats.errors import NarError
from bridge.formats.hashes import Hash
from bridge.nix import wire
from bridge.nix.client import Connection, connect
from bridge.nix.errors import NixConnectionError, NixDaemonError, NixError
from bridge.nix.installation import Installation

PATH = f"/nix/store/{'a' * 32}-x"
NEXT, READ, LAST, ERROR = 0x6F6C6D67, 0x64617461, 0x616C7473, 0x63787470
NUMBER, TEXT = wire.integer, wire.string


@dataclass(frozen=True)
class Turn:
    """What the client says, counted, and what the server answers to it."""

    heard: int
    said: bytes


Dialogue = Sequence[Turn]
Script = Callable[[socket.socket], None]


def listen(link: socket.socket, size: int) -> None:
    """Take exactly `size` bytes, or fewer if the client hangs up."""
    while size and (data := link.recv(min(size, 1 << 16))):
        size -= len(data)


def play(dialogue: Dialogue, stop: int | None = None) -> Script:
    """Answer as the dialogue says, then hang up: behind `stop` bytes, or at its end."""

    def script(link: socket.socket) -> None:
        left = sum(len(turn.said) for turn in dialogue) if stop is None else stop
        for turn in dialogue:
            listen(link, turn.heard)
            link.sendall(turn.said[:left])
            left -= len(turn.said[:left])
            if not left:
                return

    return script


@contextlib.contextmanager
def serving(place: Path, scripts: Iterable[Script]) -> Iterator[Installation]:
    """A server that plays each script to one connection after the other."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen(8)
        server.settimeout(10)

        def serve() -> None:
            for script in scripts:
                link, _ = server.accept()
                # The client hangs up where it wants.
                with link, contextlib.suppress(OSError):
                    script(link)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Installation(Path("/usr/bin"), {"NIX_REMOTE": f"unix://{place}"})
        finally:
            thread.join(15)
            assert not thread.is_alive()


def greeting(minor: int = 34, features: Sequence[str] = ()) -> Dialogue:
    """The server's half of the handshake."""
    turns = [Turn(16, NUMBER(0x6478696F) + NUMBER(0x100 | minor))]
    if minor >= 38:
        turns.append(Turn(8, wire.strings(features)))
    said = (TEXT("9.9.9") if minor >= 33 else b"") + (NUMBER(1) if minor >= 35 else b"")
    return [*turns, Turn(16, said + NUMBER(LAST))]


def refusal(message: str) -> bytes:
    head = NUMBER(ERROR) + TEXT("Error") + NUMBER(0) + TEXT("Error") + TEXT(message)
    return head + NUMBER(0) + NUMBER(1) + NUMBER(0) + TEXT("while testing")


def archive(node: nar.Node) -> bytes:
    parts: list[bytes] = []
    nar.dump(node, parts.append)
    return b"".join(parts)


QUESTION = len(NUMBER(1) + TEXT(PATH))
YES = Turn(QUESTION, NUMBER(LAST) + NUMBER(1))
INFO = (
    TEXT("")
    + TEXT(Hash.of(b"").hex)
    + wire.strings([PATH])
    + NUMBER(1)
    + NUMBER(120)
    + NUMBER(1)
    + wire.strings(["key:sig"])
    + TEXT("text:sha256:x")
)
TREE = archive(nar.Directory({"a": nar.Regular(b"hello"), "b": nar.Symlink("a")}))
UPLOAD = len(
    NUMBER(7) + TEXT("x") + TEXT("text:sha256") + wire.strings(()) + NUMBER(0) + b"".join(wire.frames([b"hello"]))
)

Answers = list[object]


def ask_everything(link: Connection) -> Answers:
    """A request of each kind of answer: a truth, a record, a stream, a list, a map, an upload."""
    return [
        link.is_valid_path(PATH),
        link.query_path_info(PATH),
        link.nar_from_path(PATH, lambda stream: stream.read()),
        link.query_valid_paths([PATH]),
        link.query_derivation_output_map(PATH),
        link.add_text("x", b"hello"),
    ]


WRITTEN: Dialogue = [
    *greeting(38, ["realisation-with-path-not-hash"]),
    YES,
    Turn(QUESTION, NUMBER(NEXT) + TEXT("thinking\n") + NUMBER(LAST) + NUMBER(1) + INFO),
    Turn(QUESTION, NUMBER(LAST) + TREE),
    Turn(QUESTION + 16, NUMBER(LAST) + wire.strings([PATH])),
    Turn(QUESTION, NUMBER(LAST) + NUMBER(2) + TEXT("out") + TEXT(PATH) + TEXT("dev") + TEXT("")),
    Turn(UPLOAD, NUMBER(LAST) + TEXT(PATH) + INFO),
]


def cut_everywhere(place: Path, dialogue: Dialogue, ask: Callable[[Connection], Answers]) -> None:
    """At each byte that the daemon dies at there is one kind of error, in good time; and the next daemon serves."""
    whole = sum(len(turn.said) for turn in dialogue)
    scripts = [*(play(dialogue, stop) for stop in range(whole)), play(dialogue)]
    with serving(place, scripts) as installation:
        for stop in range(whole):
            with pytest.raises(NixConnectionError) as caught, connect(installation, timeout=20) as link:
                ask(link)
            assert caught.value.hint is not None, stop
        with connect(installation, timeout=20) as link:
            assert len(ask(link)) > 1


def test_a_daemon_may_die_at_any_byte_of_what_it_says(scratch: Path) -> None:
    cut_everywhere(scratch / "s", WRITTEN, ask_everything)


def test_the_whole_dialogue_is_understood(scratch: Path) -> None:
    with serving(scratch / "s", [play(WRITTEN)]) as installation, connect(installation) as link:
        valid, info, tree, paths, outputs, added = ask_everything(link)
    assert (valid, tree, paths, outputs) == (True, TREE, {PATH}, {"out": PATH, "dev": None})
    assert info == added
    assert "key:sig" in repr(info)


# ------------------------------------------------------------------------- what a real daemon said


def recorded(place: Path, real: Installation, ask: Callable[[Connection], Answers]) -> list[Turn]:
    """The conversation with a real daemon, overheard by a relay between it and us."""
    turns: list[list[bytearray]] = []

    def relay(client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(real.socket_path)
            ends = {client: server, server: client}
            for link in ends:
                link.settimeout(0.02)
            while True:
                for link, other in ends.items():
                    with contextlib.suppress(TimeoutError):
                        data = link.recv(1 << 16)
                        if not data:
                            return
                        other.sendall(data)
                        if link is client and (not turns or turns[-1][1]):
                            turns.append([bytearray(), bytearray()])
                        turns[-1][link is server] += data

    with serving(place, [relay]) as installation, connect(installation) as link:
        ask(link)
    return [Turn(len(heard), bytes(said)) for heard, said in turns]


@pytest.mark.nix
def test_a_real_daemon_may_die_at_any_byte_of_what_it_said(daemon: Installation, scratch: Path) -> None:
    with connect(daemon) as link:
        text = link.add_text("x", b"hello").path

    def ask(link: Connection) -> Answers:
        return [
            link.is_valid_path(text),
            link.query_path_info(text),
            link.nar_from_path(text, lambda stream: stream.read()),
            link.query_valid_paths([text, PATH]),
            link.add_text("y", b"hello", [text]),
        ]

    with connect(daemon) as link:
        truth = ask(link)
    dialogue = recorded(scratch / "relay", daemon, ask)
    with serving(scratch / "again", [play(dialogue)]) as installation, connect(installation) as link:
        assert ask(link) == truth
    cut_everywhere(scratch / "s", dialogue, ask)


# ----------------------------------------------------------------------------------- what is a lie


def test_a_changed_byte_is_another_answer_or_an_error(scratch: Path) -> None:
    chance = random.Random(0)

    def damaged() -> Dialogue:
        place = chance.randrange(sum(len(turn.said) for turn in WRITTEN))
        found = []
        for turn in WRITTEN:
            said = bytearray(turn.said)
            if 0 <= place < len(said):
                said[place] = chance.choice([0, 1, 2, 7, 0x7F, 0xFF, said[place] ^ 1])
            place -= len(said)
            found.append(replace(turn, said=bytes(said)))
        return found

    count = 200
    with serving(scratch / "s", [play(damaged()) for _ in range(count)]) as installation:
        for _ in range(count):
            with contextlib.suppress(NixError, NarError), connect(installation, timeout=0.05) as link:
                ask_everything(link)


@pytest.mark.parametrize("size", [1 << 28, 1 << 40, 1 << 60, (1 << 64) - 1])
@pytest.mark.parametrize("what", ["string", "list", "map", "fields", "traces", "frames of an archive"])
def test_a_length_that_lies_takes_no_memory(scratch: Path, what: str, size: int) -> None:
    ask, said = {
        "string": (lambda link: link.is_valid_path(PATH), NUMBER(NEXT)),
        "list": (lambda link: link.query_valid_paths([PATH]), NUMBER(LAST)),
        "map": (lambda link: link.query_derivation_output_map(PATH), NUMBER(LAST)),
        "fields": (
            lambda link: link.is_valid_path(PATH),
            NUMBER(0x53545254) + NUMBER(1) + NUMBER(0) + NUMBER(0) + TEXT(""),
        ),
        "traces": (
            lambda link: link.is_valid_path(PATH),
            NUMBER(ERROR) + TEXT("Error") + NUMBER(0) + TEXT("Error") + TEXT("no") + NUMBER(0),
        ),
        "frames of an archive": (
            lambda link: link.nar_from_path(PATH, lambda stream: stream.read(1 << 20)),
            NUMBER(LAST) + archive(nar.Regular(b""))[:-24],
        ),
    }[what]
    dialogue = [*greeting(), Turn(QUESTION, said + NUMBER(size) + b"xxxxxxxx")]
    with serving(scratch / "s", [play(dialogue)]) as installation, connect(installation, timeout=20) as link:
        tracemalloc.start()
        try:
            with pytest.raises(NixConnectionError):
                ask(link)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("code", [0, 1, LAST ^ 1, NEXT << 1, 1 << 32, (1 << 64) - 1])
def test_a_message_that_the_protocol_does_not_know_ends_the_connection(scratch: Path, code: int) -> None:
    scripts = [play([*greeting(), Turn(QUESTION, NUMBER(code) + bytes(64))]), play([*greeting(), YES])]
    with serving(scratch / "s", scripts) as installation:
        with connect(installation) as link:
            with pytest.raises(NixConnectionError, match=f"sent the message {code:#x}, which the worker protocol"):
                link.is_valid_path(PATH)
            with pytest.raises(NixConnectionError, match="is gone"):
                link.is_valid_path(PATH)
        with connect(installation) as link:
            assert link.is_valid_path(PATH)


def test_a_hash_that_is_none_ends_the_connection(scratch: Path) -> None:
    said = NUMBER(LAST) + NUMBER(1) + INFO.replace(TEXT(Hash.of(b"").hex), TEXT("x" * 64))
    with (
        serving(scratch / "s", [play([*greeting(), Turn(QUESTION, said)])]) as installation,
        connect(installation) as link,
        pytest.raises(NixConnectionError, match=f"no hash for {PATH}"),
    ):
        link.query_path_info(PATH)


# ------------------------------------------------------------------------------------- the handshake


@pytest.mark.parametrize("minor", range(10, 51))
def test_each_version_of_the_protocol_is_spoken_or_refused_by_number(scratch: Path, minor: int) -> None:
    with serving(scratch / "s", [play([*greeting(minor, ["later"]), YES])]) as installation:
        if minor < 32:
            with pytest.raises(NixConnectionError, match=rf"speaks version 1\.{minor} .*speaks 1\.32 \(Nix 2\.4\)"):
                connect(installation)
            return
        with connect(installation) as link:
            assert link.version == min(minor, 38)
            assert link.nix_version == ("9.9.9" if minor >= 33 else "")
            assert link.trusted is (True if minor >= 35 else None)
            assert link.is_valid_path(PATH)


@pytest.mark.parametrize(
    "features",
    [
        [],
        ["realisation-with-path-not-hash", "delete-dead-specific-referrers"],
        ["disable-set-options", "add-to-store-scanning", "submit-output"],
        ["", "\udcff", "x" * 100_000],
    ],
    ids=["2.34", "2.35", "2.36", "odd"],
)
def test_whatever_features_a_daemon_has_we_announce_none(scratch: Path, features: list[str]) -> None:
    announced: list[bytes] = []

    def script(link: socket.socket) -> None:
        hello, negotiation, rest = greeting(38, features)
        play([hello])(link)
        announced.append(link.recv(8))
        link.sendall(negotiation.said)
        play([rest, YES])(link)

    with serving(scratch / "s", [script]) as installation, connect(installation) as link:
        assert link.is_valid_path(PATH)
    assert announced == [NUMBER(0)]


def test_a_daemon_that_refuses_us_in_the_handshake_says_why(scratch: Path) -> None:
    hello, rest = greeting(34)
    refusing = replace(rest, said=TEXT("9.9.9") + refusal("you are not allowed"))
    with (
        serving(scratch / "s", [play([hello, refusing])]) as installation,
        pytest.raises(NixDaemonError, match="can not connect: you are not allowed"),
    ):
        connect(installation)


# ------------------------------------------------------------------------------------------ silence


def silent_behind(dialogue: Dialogue) -> Script:
    def script(link: socket.socket) -> None:
        play(dialogue)(link)
        while link.recv(1 << 16):  # until the client hangs up
            pass

    return script


@pytest.mark.parametrize(
    "dialogue",
    [[], greeting()[:1], [Turn(16, NUMBER(0x6478696F)[:3])]],
    ids=["at once", "behind its version", "in the middle of a number"],
)
def test_a_daemon_that_falls_silent_in_the_handshake_is_given_up(scratch: Path, dialogue: Dialogue) -> None:
    with serving(scratch / "s", [silent_behind(dialogue), play([*greeting(), YES])]) as installation:
        begun = time.monotonic()
        with pytest.raises(NixConnectionError, match=r"connect.*said nothing for 0\.1 seconds"):
            connect(installation, timeout=0.1)
        assert time.monotonic() - begun < 5
        with connect(installation) as link:
            assert link.is_valid_path(PATH)


@pytest.mark.parametrize("said", [b"", NUMBER(NEXT) + NUMBER(100) + b"half", NUMBER(LAST)])
def test_a_daemon_that_falls_silent_in_an_answer_is_given_up(scratch: Path, said: bytes) -> None:
    silent = silent_behind([*greeting(), Turn(QUESTION, said)])
    with serving(scratch / "s", [silent, play([*greeting(), YES])]) as installation:
        with connect(installation, timeout=0.4) as link:
            with pytest.raises(NixConnectionError, match=r"said nothing for 0\.4 seconds"):
                link.is_valid_path(PATH)
            with pytest.raises(NixConnectionError, match="is gone"):
                link.is_valid_path(PATH)
        with connect(installation) as link:
            assert link.is_valid_path(PATH)


# ------------------------------------------------------------------------------------------ uploads


def large() -> Iterator[bytes]:
    for _ in range(16):
        yield bytes(1 << 20)


def refusing_behind(frames: int) -> Script:
    """Refuse an upload behind so many frames, and read on to its end, as Nix does."""

    def script(link: socket.socket) -> None:
        play(greeting())(link)
        listen(link, UPLOAD - len(b"".join(wire.frames([b"hello"]))))
        stream = link.makefile("rb")
        number = 0
        while True:
            if number == frames:
                link.sendall(refusal("no room"))
            number += 1
            size = int.from_bytes(stream.read(8), "little")
            if not size:
                break
            stream.read(size)
        stream.read(QUESTION)
        link.sendall(YES.said)

    return script


@pytest.mark.parametrize("frames", [0, 1, 3, 15, 16])
def test_a_refusal_within_an_upload_is_told_and_the_connection_goes_on(scratch: Path, frames: int) -> None:
    with serving(scratch / "s", [refusing_behind(frames)]) as installation, connect(installation, timeout=5) as link:
        with pytest.raises(NixDaemonError, match="can not add x: no room") as caught:
            link.add_to_store("x", "text:sha256", (), large())
        assert caught.value.traces == ("while testing",)
        assert link.is_valid_path(PATH)


def test_a_refusal_with_which_the_daemon_hangs_up_is_told(scratch: Path) -> None:
    scripts = [play([*greeting(), Turn(1 << 20, refusal("no room"))]), play([*greeting(), YES])]
    with serving(scratch / "s", scripts) as installation:
        with connect(installation, timeout=20) as link:
            with pytest.raises(NixDaemonError, match="no room"):
                link.add_to_store("x", "text:sha256", (), large())
            with pytest.raises(NixConnectionError, match="after it said: Nix can not add x: no room"):
                link.is_valid_path(PATH)
        with connect(installation) as link:
            assert link.is_valid_path(PATH)


def test_a_daemon_that_stops_listening_within_an_upload_is_given_up(scratch: Path) -> None:
    done = threading.Event()

    def deaf(link: socket.socket) -> None:
        play(greeting())(link)
        done.wait(10)

    with serving(scratch / "s", [deaf]) as installation:
        with connect(installation, timeout=0.4) as link, pytest.raises(NixConnectionError, match=r"for 0\.4 seconds"):
            link.add_to_store("x", "text:sha256", (), large())
        done.set()


def test_a_daemon_that_says_it_will_say_no_more_within_an_upload_is_given_up(scratch: Path) -> None:
    done = threading.Event()

    def mute(link: socket.socket) -> None:
        play(greeting())(link)
        link.shutdown(socket.SHUT_WR)
        done.wait(10)

    with serving(scratch / "s", [mute]) as installation:
        begun = time.monotonic()
        with connect(installation, timeout=5) as link, pytest.raises(NixConnectionError, match="closed the connection"):
            link.add_to_store("x", "text:sha256", (), large())
        assert time.monotonic() - begun < 4
        done.set()


def test_an_answer_before_the_upload_ended_is_no_success(scratch: Path) -> None:
    script = silent_behind([*greeting(), Turn(1 << 20, NUMBER(LAST) + TEXT(PATH) + INFO)])
    with (
        serving(scratch / "s", [script]) as installation,
        connect(installation, timeout=5) as link,
        pytest.raises(NixConnectionError, match="answered before it had the whole upload"),
    ):
        link.add_to_store("x", "text:sha256", (), large())
