"""Take realizations of an older derivation over, as after a rename: recorded anew, with where from, who and why."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bridge.formats.derivation import Instantiated
from bridge.stages.plan import Node
from bridge.store.holds import hold
from bridge.store.trace import Realization, realizations, record

from .errors import RealizeError
from .places import Places

__all__ = ["adopt"]


def adopt(
    places: Places, node: Node, resolved: Instantiated, old: Sequence[Realization], why: str
) -> list[Realization]:
    """Record realizations as those of a stage; all of them, or none where one does not fit.

    Parameters
    ----------
    resolved
        The stage's resolved derivation.
    why
        The reason, for the record.

    Returns
    -------
    Their new records; of one that was taken over before, the record of that.

    Raises
    ------
    RealizeError
        For one that is the stage's already, is not whole or not there, or lacks what the stage promises.
    """
    hold(places.store, [path for one in old for path in one.outputs.values()])
    for one in old:
        _check(places, node, resolved, one)
    before = {str(one.adopted["id"]): one for one in realizations(places.store, resolved.path) if one.adopted}
    made = []
    for one in old:
        origin = {"drv": one.drv, "id": one.id, "who": _who(), "why": why, "when": time.time()}
        new = replace(one, drv=resolved.path, stage=node.name, stage_drv=node.path, adopted=origin, id="")
        made.append(before[one.id] if one.id in before else record(places.store, new))
    return made


def _check(places: Places, node: Node, resolved: Instantiated, one: Realization) -> None:
    if one.drv == resolved.path:
        raise RealizeError(f"{one.id} is a realization of the stage {node.name} already")
    if one.result != "done":
        raise RealizeError(f"{one.id} is {one.result}, and only what is whole is taken over")
    if set(one.outputs) != set(resolved.derivation.outputs):
        raise RealizeError(f"{one.id} has the outputs {', '.join(one.outputs)}, unlike the stage {node.name}")
    found: dict[str, Path] = {}
    for output, path in one.outputs.items():
        place = places.find(path)
        if place is None:
            raise RealizeError(f"{path} is not there any more, the output {output} of {one.id}")
        found[output] = place
    for name, promise in node.stage.promises.items():
        if not promise.is_kept(found["out"]):
            raise RealizeError(
                f"{one.id} lacks what the stage {node.name} promises as {name} ({promise.pattern or promise.path})",
                hint=f"it is of the stage {one.stage}: is that what {node.name} was called?",
            )


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A number without a name, as in containers.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
