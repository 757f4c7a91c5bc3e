from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.nix.activity import BuildFinished, BuildStarted, Event, Line, Message, Parser, Phase, Transfer

DRV = "/nix/store/yc5fjbss1pma8fz9hvqb8cwmamb6rq79-ok-1.drv"


def events(*lines: str | bytes) -> list[Event]:
    parser = Parser()
    found = (parser.parse(line) for line in lines)
    return [event for event in found if event is not None]


def at_nix(**event: object) -> str:
    return "@nix " + json.dumps(event)


START = at_nix(action="start", fields=[DRV, "", 1, 1], id=7, level=3, text=f"building '{DRV}'", type=105)


def test_a_build_is_told_from_its_start_to_its_end() -> None:
    assert events(
        START,
        at_nix(action="result", fields=["unpack"], id=7, type=104),
        at_nix(action="result", fields=["\x1b[1mline\x1b[0m"], id=7, type=101),
        at_nix(action="result", fields=[1, 1, 0, 0], id=6, type=105),
        at_nix(action="stop", id=7),
        at_nix(action="stop", id=6),
    ) == [BuildStarted(DRV), Phase(DRV, "unpack"), Line(DRV, "line"), BuildFinished(DRV)]


def test_a_remote_builder_is_named() -> None:
    line = at_nix(action="start", fields=[DRV, "ssh://b", 1, 1], id=7, level=3, text="", type=105)
    assert events(line) == [BuildStarted(DRV, "ssh://b")]


def test_a_build_that_the_remote_builder_tells_again_is_one() -> None:
    assert events(
        at_nix(action="start", fields=[DRV, "ssh://b", 1, 1], id=7, level=3, text="", type=105),
        at_nix(action="start", fields=[DRV, "", 1, 1], id=8, level=3, text="", type=105),
        at_nix(action="result", fields=["there"], id=8, type=101),
        at_nix(action="stop", id=8),
        at_nix(action="stop", id=7),
    ) == [BuildStarted(DRV, "ssh://b"), Line(DRV, "there"), BuildFinished(DRV)]


def test_running_builds_are_known() -> None:
    parser = Parser()
    parser.parse(START)
    assert parser.running == {7: DRV}
    parser.parse(at_nix(action="stop", id=7))
    assert parser.running == {}


def test_an_error_is_told_raw_and_with_its_place() -> None:
    line = at_nix(
        action="msg", level=0, msg="error: x at f", raw_msg="\x1b[35mx\x1b[0m", file="/f.nix", line=3, column=1
    )
    assert events(line) == [Message(0, "x", "/f.nix", 3)]


def test_the_place_of_an_expression_is_no_file() -> None:
    line = at_nix(action="msg", level=0, msg="m", raw_msg="m", file="1 +", line=1, column=1)
    assert events(line) == [Message(0, "m")]


def test_other_activities_are_messages_where_they_say_something_to_people() -> None:
    assert events(
        at_nix(action="start", id=1, level=3, text="deleting 'x'", type=0),
        at_nix(action="start", id=2, level=6, text="querying info", type=0),
        at_nix(action="start", id=3, level=0, text="", type=102),
    ) == [Message(3, "deleting 'x'")]


def test_a_copy_is_told_with_its_bytes_and_not_twice() -> None:
    assert events(
        at_nix(action="start", id=1, level=5, text="", type=108, fields=["/nix/store/x", "https://c"], parent=0),
        at_nix(action="start", id=2, level=3, text="copying", type=100, fields=["/nix/store/x", "https://c", "l"]),
        at_nix(action="start", id=3, level=4, text="downloading", type=101, fields=["https://c/x.nar"], parent=2),
        at_nix(action="result", id=3, type=105, fields=[5, 10, 0, 0]),
        at_nix(action="result", id=2, type=105, fields=[7, 20, 0, 0]),
        at_nix(action="stop", id=3),
        at_nix(action="stop", id=2),
        at_nix(action="stop", id=1),
    ) == [
        Transfer(2, "/nix/store/x", "https://c"),
        Transfer(2, "/nix/store/x", "https://c", 7, 20),
        Transfer(2, "/nix/store/x", "https://c", 7, 20, ended=True),
    ]


def test_a_download_by_a_fetch_is_told() -> None:
    assert events(
        at_nix(action="start", id=3, level=4, text="downloading", type=101, fields=["https://e/f"], parent=2),
        at_nix(action="result", id=3, type=105, fields=[5, 0, 0, 0]),
        at_nix(action="stop", id=3),
    ) == [
        Transfer(3, "https://e/f"),
        Transfer(3, "https://e/f", done=5),
        Transfer(3, "https://e/f", done=5, ended=True),
    ]


def test_lines_that_are_no_events_pass_through() -> None:
    assert events("plain \x1b[1mtext\x1b[0m\r\n", "", "  ", b"\xff raw") == [
        Message(2, "plain text"),
        Message(2, "� raw"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "@nix ",
        "@nix {",
        "@nix []",
        "@nix 3",
        "@nix {}",
        '@nix {"action":"stop"}',
        '@nix {"action":"msg","level":"x","msg":"m"}',
        '@nix {"action":"msg","level":0,"msg":3}',
        '@nix {"action":"start","type":105,"id":1,"level":0}',
        '@nix {"action":"start","type":105,"id":1,"level":0,"fields":[1,2]}',
        '@nix {"action":"start","type":105,"id":"x","level":0,"fields":["a","b"]}',
        '@nix {"action":"result","type":101,"id":1,"fields":[]}',
        '@nix {"action":"result","type":101,"id":[],"fields":["x"]}',
        '@nix {"action":"result","type":105,"id":[],"fields":[1,2,0,0]}',
        '@nix {"action":"start","type":100,"id":1,"level":0,"fields":["x"]}',
        "@nix " + "[" * 100_000,
    ],
)
def test_a_damaged_event_is_shown_as_it_is(line: str) -> None:
    assert events(line) == [Message(2, line.rstrip("\r\n"))]


def test_actions_that_nobody_knows_yet_are_skipped() -> None:
    assert events(at_nix(action="dance", id=1), at_nix(action="result", id=1, type=999, fields=[])) == []


@given(st.binary())
def test_no_line_breaks_the_parser(line: bytes) -> None:
    events(line, b"@nix " + line)
