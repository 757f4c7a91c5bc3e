"""Rooms that share their name with a function: `bridge.nix(…)` and `bridge.realize(…)` are calls."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["call_as"]


class _Room(ModuleType):
    """A package that is also the function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, _, function = self._called_as.partition(":")
        return getattr(import_module(module), function)(*args, **kwargs)


def call_as(room: str, function: str) -> None:
    """Have calls of the package `room` go to `function`, as `module:name`, imported when it is called.

    The import system binds a package in its parent under its name, so that no other value could stand there.
    """
    module = sys.modules[room]
    module.__class__ = _Room
    vars(module)["_called_as"] = function
