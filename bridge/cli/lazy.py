"""Groups of commands whose modules are imported when one of them is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from inspect import cleandoc
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup

__all__ = ["Group", "group"]

CONTEXT = {"help_option_names": ["-h", "--help"]}


class Group(Mapping[str, "str | Group"]):
    """Commands of a group, by name.

    Parameters
    ----------
    summary
        What they are for.
    panels
        Heading to commands; a command is "module:function" within `bridge.cli`, or a group.
    """

    def __init__(self, summary: str, panels: Mapping[str, Mapping[str, str | Group]]) -> None:
        self.summary = summary
        self.panel_of = {name: panel for panel, commands in panels.items() for name in commands}
        self._commands = {name: command for commands in panels.values() for name, command in commands.items()}

    def __getitem__(self, name: str) -> str | Group:
        return self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)


class _Loaded(MutableMapping[str, Any]):
    """The commands as Typer wants them, each made when it is looked up."""

    def __init__(self, table: Group) -> None:
        self._table = table
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(name, self._table[name])
        return self._made[name]

    def _make(self, name: str, command: str | Group) -> Any:
        panel = self._table.panel_of[name] or None
        if isinstance(command, Group):
            made: Any = typer.main.get_command(group(command, name=name))
            made.rich_help_panel = panel
            return made
        module, _, function = command.partition(":")
        alone = typer.Typer(add_completion=False, context_settings=CONTEXT)
        called = getattr(import_module(f"bridge.cli.{module}"), function)
        alone.command(
            name,
            cls=getattr(called, "command_class", None),
            help=_flowing(called.__doc__ or ""),
            rich_help_panel=panel,
        )(called)
        return typer.main.get_command(alone)

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def _flowing(text: str) -> str:
    """A docstring whose paragraphs are a line each: where lines end is the terminal's, not the source's."""
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in cleandoc(text).split("\n\n"))


def group(table: Group, *, name: str, callback: Callable[..., None] | None = None) -> typer.Typer:
    """The Typer application of a group; `callback`, of the outermost, takes the options before the command's name."""

    class Lazy(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Loaded(table)

        def list_commands(self, ctx: Any) -> list[str]:
            return list(table)

    made = typer.Typer(
        name=name,
        cls=Lazy,
        help=table.summary,
        no_args_is_help=True,
        add_completion=callback is not None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )
    made.callback(invoke_without_command=callback is not None)(callback or (lambda: None))
    return made
