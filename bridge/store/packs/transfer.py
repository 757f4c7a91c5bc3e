"""Copy between two stores: a pack that is never a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from bridge.store.layout import Store

from .contents import Contents
from .read import Unpacked, unpack
from .write import write_pack

__all__ = ["copy"]


def copy(
    source: Store,
    contents: Contents,
    target: Store,
    *,
    elsewhere: Callable[[str], bool] = lambda path: False,
    on_progress: Callable[[int], object] = lambda done: None,
) -> Unpacked:
    """Bring what was gathered from one store into another, which checks it as it does any pack.

    Raises
    ------
    PackError, RecordError
        If something of the source is damaged.
    DiskError
        With nothing half written.
    """
    failed: list[Exception] = []
    reading, writing = os.pipe()

    def send() -> None:
        with open(writing, "wb", buffering=0) as file:
            try:
                write_pack(source, contents, lambda data: _write_all(file.fileno(), data))
            except BrokenPipeError:
                # The reader has an error of its own to tell.
                pass
            except Exception as error:
                failed.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        with open(reading, "rb", buffering=0) as stream:
            return unpack(target, stream, elsewhere=elsewhere, on_progress=on_progress)
    except Exception:
        sender.join()
        if failed:
            raise failed[0] from None
        raise
    finally:
        sender.join()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
