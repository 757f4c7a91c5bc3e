"""Rooms that share their name with a function: `bridge.nix(…)` and `bridge.realize(…)` are calls."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["make_callable"]


class _Room(ModuleType):
    """A package that is also the function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, _, function = self._called_as.partition(":")
        return getattr(import_module(module), function)(*args, **kwargs)


_FUNCTIONS = {"bridge.nix": "bridge.stages.define:nix", "bridge.realize": "bridge.look.walk:realize"}
"""What a call of each such room goes to: `module:name`, imported when it is called."""


def make_callable(room: str) -> None:
    """Have calls of the package `room` go to the function of its name.

    The import system binds a package in its parent under its name, so that no other value could stand there.
    """
    module = sys.modules[room]
    module.__class__ = _Room
    vars(module)["_called_as"] = _FUNCTIONS[room]
