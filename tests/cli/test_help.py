"""What `--help` teaches."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest

from bridge.cli.lazy import Group
from bridge.cli.main import COMMANDS


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
