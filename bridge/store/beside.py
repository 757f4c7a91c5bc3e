"""Taking a store's inventory in a process beside this one, while the trace is read: either takes seconds at first."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice

from .inventory import CACHE
from .layout import Store

__all__ = ["inventory_beside"]

_MANY = 10_000
"""From so many objects on starting a process takes less long than it saves."""

_TAKE = """
import gc, sys
from bridge.store.inventory import take_inventory
from bridge.store.layout import open_store

gc.disable()
take_inventory(open_store(sys.argv[1]))
"""


@contextlib.contextmanager
def inventory_beside(store: Store) -> Iterator[None]:
    """Have the inventory of a large store be in its cache afterwards, if there is none yet.

    Whatever hinders that, such as a damaged info file, whoever takes the inventory then finds.
    """
    child = None
    if not os.path.exists(f"{store.root}/cache/{CACHE}.columns") and _has_many(store):
        # Not with the folder that one happens to be in before all others.
        command = [sys.executable, "-P", "-c", _TAKE, str(store.root)]
        with contextlib.suppress(OSError):
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
    try:
        yield
    except BaseException:
        if child is not None:
            child.kill()
        raise
    finally:
        if child is not None:
            child.wait()


def _has_many(store: Store) -> bool:
    with os.scandir(store.info) as found:
        return next(islice(found, _MANY, None), None) is not None
