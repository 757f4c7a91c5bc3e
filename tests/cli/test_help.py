"""What `--help` teaches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib import import_module

import pytest

from bridge.cli.lazy import Group
from bridge.cli.main import COMMANDS

from .conftest import Command


def commands(group: Group, before: str = "") -> Iterator[tuple[str, str]]:
    """Every command with its function."""
    for name, command in group.items():
        if isinstance(command, Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


ALL = dict(commands(COMMANDS))


@pytest.mark.parametrize("name", [name for name in ALL if name != "direnvrc"])
def test_every_command_says_what_it_does_and_how_it_is_written(name: str) -> None:
    module, _, function = ALL[name].partition(":")
    text = getattr(import_module(f"bridge.cli.{module}"), function).__doc__
    first, _, rest = text.partition("\n")
    assert first.endswith(".")
    assert f"nixbridge {name}" in rest


def test_a_paragraph_ends_its_lines_where_the_terminal_does(nixbridge: Command) -> None:
    for width in ("80", "60"):
        lines = [line.strip() for line in nixbridge("find", "--help", COLUMNS=width).stdout.splitlines()]
        paragraph = lines[next(at for at, line in enumerate(lines) if line.startswith("A condition has")) :]
        paragraph = paragraph[: paragraph.index("")]
        # Each line but the last is so long that the next one's first word did not fit.
        for line, after in itertools.pairwise(paragraph):
            assert len(line) + 1 + len(after.split()[0]) > int(width) - 2
