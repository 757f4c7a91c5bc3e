"""nixbridge: Nix for stages that are not deterministic.

What stage files import::

    from bridge import best, fetchurl, flake, out, shell, source, stage

What programs import::

    from bridge import instantiate, open_store, realize
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .formats.errors import BridgeError
    from .lock.evaluating import instantiate
    from .look.walk import realize, walk
    from .realize.debug import debug
    from .realize.engine import Options
    from .realize.matchers import Candidate, best, by, every, exact, latest, only, some, top, where
    from .stages.define import fetchurl, flake, host, nix, shell, source, stage
    from .stages.plan import Plan
    from .stages.stock import collect, fetchgit, json_file, realized, text, unpack
    from .stages.values import Stage, each, out
    from .store.layout import Store, open_store

__version__ = "0.1.0"

__all__ = [
    "BridgeError",
    "Candidate",
    "Options",
    "Plan",
    "Stage",
    "Store",
    "best",
    "by",
    "collect",
    "debug",
    "each",
    "every",
    "exact",
    "fetchgit",
    "fetchurl",
    "flake",
    "host",
    "instantiate",
    "json_file",
    "latest",
    "nix",
    "only",
    "open_store",
    "out",
    "realize",
    "realized",
    "shell",
    "some",
    "source",
    "stage",
    "text",
    "top",
    "unpack",
    "walk",
    "where",
]

# Imported at first use, so that the command starts fast.
_HOMES = {
    "formats.errors": ["BridgeError"],
    "look.walk": ["walk"],
    "lock.evaluating": ["instantiate"],
    "realize.debug": ["debug"],
    "realize.engine": ["Options"],
    "realize.matchers": ["Candidate", "best", "by", "every", "exact", "latest", "only", "some", "top", "where"],
    "stages.define": ["fetchurl", "flake", "host", "shell", "source", "stage"],
    "stages.plan": ["Plan"],
    "stages.stock": ["collect", "fetchgit", "json_file", "realized", "text", "unpack"],
    "stages.values": ["Stage", "each", "out"],
    "store.layout": ["Store", "open_store"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_CALLED_ROOMS = ("nix", "realize")
"""Rooms that are functions as well; see `_room`."""


def __getattr__(name: str) -> Any:
    if name in _CALLED_ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
